// drrik convert, and the commands that take any program's autoencoder.

#include <algorithm>
#include <filesystem>

#include "command.h"
#include "drrik/base/file.h"
#include "drrik/io/npy.h"
#include "io/json.h"

namespace drrik::cli_test {
namespace {

namespace fs = std::filesystem;

const fs::path kFolders = fs::path(DRRIK_TEST_DATA) / "sae_formats";

class Convert : public CommandTest {
 protected:
  static std::string folder(const std::string& name) { return (kFolders / name).string(); }
};

TEST_F(Convert, ProvesParityAndPrintsFvu) {
  const Json json = parse_json(run_ok({"convert", "--from", folder("saelens_topk_checkpoint"),
                                       "--to", "sparsify", "--output", path("out"), "--activations",
                                       folder("saelens_topk_checkpoint/x.npy"), "--json"})
                                   .out,
                               "convert");
  EXPECT_EQ(json.at("rows"), 20);
  EXPECT_LT(json.at("relative_difference").get<double>(), 1e-5);
  EXPECT_EQ(json.at("feature_agreement"), 1.0);
  EXPECT_EQ(json.at("l0_after"), 5.0);
  EXPECT_NEAR(json.at("fvu_before").get<double>(), json.at("fvu_after").get<double>(), 1e-5);
  EXPECT_EQ(json.at("folded").size(), 1U);  // the decoder's norms
  EXPECT_TRUE(fs::exists(folder_ / "out/sae.safetensors"));
  // Without rows to compare on there are random ones, and no FVU.
  const Json random = parse_json(run_ok({"convert", "--from", path("out"), "--to", "saelens",
                                         "--output", path("back"), "--json"})
                                     .out,
                                 "convert");
  EXPECT_TRUE(random.at("fvu_after").is_null());
  EXPECT_EQ(random.at("feature_agreement"), 1.0);
}

TEST_F(Convert, RefusesWhatWouldChangeMeaning) {
  const Result topk = run(
      {"convert", "--from", folder("saelens_topk"), "--to", "described", "--output", path("x.pt")});
  EXPECT_EQ(topk.exit_code, 3);
  EXPECT_NE(topk.err.find("k largest"), std::string::npos) << topk.err;
  EXPECT_FALSE(fs::exists(folder_ / "x.pt"));
  EXPECT_EQ(
      run({"convert", "--from", folder("saelens_topk"), "--to", "sparsefy", "--output", path("x")})
          .exit_code,
      2);
  EXPECT_EQ(run({"convert", "--from", folder("saelens_topk"), "--output", path("x")}).exit_code, 2);
  EXPECT_EQ(
      run({"convert", "--from", path("none"), "--to", "saelens", "--output", path("x")}).exit_code,
      4);
}

TEST_F(Convert, WritesNothingUnlessTheFileDoesTheSame) {
  fs::create_directories(folder_ / "sae");
  write_file_atomic(folder_ / "sae/notes.txt", "mine");
  // Rows of another width are found before anything is put in its place.
  EXPECT_EQ(run({"convert", "--from", folder("saelens_topk"), "--to", "sparsify", "--output",
                 path("sae"), "--activations", folder("saelens_topk/features.npy")})
                .exit_code,
            3);
  std::vector<std::string> left;
  for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
    const std::string name = entry.path().filename().string();
    // The fixture keeps what the command printed here.
    if (!name.starts_with(".out") && !name.starts_with(".err")) left.push_back(name);
  }
  std::ranges::sort(left);
  EXPECT_EQ(left, (std::vector<std::string>{"notes.txt", "sae"}));
  // A folder that is there keeps what is not the autoencoder's.
  run_ok(
      {"convert", "--from", folder("saelens_topk"), "--to", "sparsify", "--output", path("sae/")});
  EXPECT_TRUE(fs::exists(folder_ / "sae/sae.safetensors"));
  EXPECT_EQ(read_file(folder_ / "sae/notes.txt"), "mine");
}

TEST_F(Convert, ATranscodersFvuIsAgainstItsTargets) {
  const std::string from = folder("saelens_transcoder");
  const std::string x = folder("saelens_transcoder/x.npy");
  run_ok({"encode", "--sae", from, "--activations", x, "--output", path("f.npy")});
  run_ok({"decode", "--sae", from, "--features", path("f.npy"), "--output", path("y.npy")});
  const auto fvu = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = {"convert", "--from",   from,         "--to",
                                     "saelens", "--output", path("back"), "--activations",
                                     x,         "--json"};
    args.insert(args.end(), more.begin(), more.end());
    return parse_json(run_ok(args).out, "convert").at("fvu_after");
  };
  EXPECT_TRUE(fvu({}).is_null());
  // Against its own output nothing is unexplained but rounding: (epsilon of float32)² a term.
  EXPECT_LT(fvu({"--targets", path("y.npy")}).get<double>(), 1e-10);
  EXPECT_EQ(run({"convert", "--from", from, "--to", "saelens", "--output", path("z"),
                 "--activations", x, "--targets", x})
                .exit_code,
            3);  // not as wide as what it gives
  EXPECT_EQ(run({"convert", "--from", from, "--to", "saelens", "--output", path("z"), "--targets",
                 path("y.npy")})
                .exit_code,
            2);
}

TEST_F(Convert, WritesControlVectors) {
  const Json json = parse_json(
      run_ok({"convert", "--sae", folder("saelens_topk"), "--feature", "12", "--strength", "4",
              "--feature", "3", "--strength", "-1", "--output", path("v.gguf"), "--json"})
          .out,
      "convert");
  EXPECT_EQ(json.at("layer"), 2);  // what block 2 leaves is blocks.3.hook_resid_pre
  EXPECT_EQ(read_file(folder_ / "v.gguf").substr(0, 4), "GGUF");
  const std::vector<std::string> start = {
      "convert", "--sae", folder("saelens_topk"), "--feature", "12", "--output", path("w.gguf")};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = start;
    args.insert(args.end(), more.begin(), more.end());
    return run(args).exit_code;
  };
  EXPECT_EQ(with({"--strength", "1", "--strength", "2"}), 2);
  EXPECT_EQ(with({"--layer", "0"}), 2);
  EXPECT_EQ(with({"--layer", "9"}), 0);
  EXPECT_EQ(with({"--feature", "48"}), 2);
}

TEST_F(Convert, EveryCommandTakesAnyFormat) {
  for (const std::string name :
       {"openai_topk/autoencoder.pt", "dictionary_learning_matryoshka", "sparsify_topk/layers.3",
        "saelens_gated", "gemma_scope/layer_3/width_16k/average_l0_12"}) {
    SCOPED_TRACE(name);
    const std::string x = folder(name.substr(0, name.find('/')) + "/x.npy");
    EXPECT_EQ(parse_json(run_ok({"info", folder(name), "--json"}).out, "info").at("kind"), "sae");
    run_ok({"encode", "--sae", folder(name), "--activations", x, "--output", path("f.npy")});
    EXPECT_EQ(read_npy(folder_ / "f.npy").shape(), (std::vector<std::int64_t>{20, 48}));
    run_ok(
        {"decode", "--sae", folder(name), "--features", path("f.npy"), "--output", path("y.npy")});
    EXPECT_EQ(read_npy(folder_ / "y.npy").shape(), (std::vector<std::int64_t>{20, 16}));
    run_ok({"eval", "--sae", folder(name), "--activations", x});
    run_ok({"visualize", "--sae", folder(name), "--activations", x, "--output", path("viz"),
            "--top", "1"});
  }
  // A transcoder decodes to its output's width.
  run_ok({"encode", "--sae", folder("saelens_transcoder"), "--activations",
          folder("saelens_transcoder/x.npy"), "--output", path("f.npy")});
  run_ok({"decode", "--sae", folder("saelens_transcoder"), "--features", path("f.npy"), "--output",
          path("y.npy")});
  EXPECT_EQ(read_npy(folder_ / "y.npy").shape(), (std::vector<std::int64_t>{20, 12}));
}

}  // namespace
}  // namespace drrik::cli_test
