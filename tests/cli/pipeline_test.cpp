// The whole job through the command, on the bundled model: extract, train, evaluate, encode,
// decode, show, find, steer; and what an interrupt leaves behind.

#include <unistd.h>

#include <cmath>
#include <csignal>

#include "cli/command.h"
#include "drrik/base/file.h"
#include "drrik/io/npy.h"
#include "drrik/io/safetensors.h"
#include "drrik/sae/sae.h"
#include "io/json.h"

namespace drrik::cli_test {
namespace {

namespace fs = std::filesystem;

class Pipeline : public CommandTest {
 protected:
  void extract(const std::string& output, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> args = {
        "extract",     "--model", demo_model(),    "--dataset", demo_text(), "--layers",  "1",
        "--positions", "all",     "--num-samples", "24",        "--output",  path(output)};
    args.insert(args.end(), more.begin(), more.end());
    run_ok(args);
  }
  void train(const std::string& activations, const std::string& output) const {
    run_ok({"train", "--activations", path(activations), "--output", path(output), "--hidden-dim",
            "128", "--steps", "60", "--batch-size", "64", "--learning-rate", "0.001"});
  }
};

// A label that a word gives away, and one that another does.
std::string labelled_texts() {
  std::string lines;
  for (int i = 0; i < 160; ++i) {
    const bool sea = i % 2 == 0;
    const bool glad = i % 4 < 2;
    lines += std::string("{\"text\": \"He saw the ") + (sea ? "sea" : "house") + " and was " +
             (glad ? "happy" : "sad") + " for " + std::to_string(i) +
             " days.\", \"thing\": " + (sea ? "1" : "0") + ", \"mood\": \"" +
             (glad ? "up" : "down") + "\"}\n";
  }
  return lines;
}

TEST_F(Pipeline, EvaluatesInTheModelAndByProbes) {
  extract("acts");
  train("acts", "sae");
  write_file_atomic(folder_ / "labelled.jsonl", labelled_texts());
  const std::string data = path("labelled.jsonl");
  const Json eval = parse_json(run_ok({"eval",
                                       "--sae",
                                       path("sae"),
                                       "--activations",
                                       path("acts"),
                                       "--exclude-special",
                                       "--model",
                                       demo_model(),
                                       "--dataset",
                                       demo_text(),
                                       "--num-samples",
                                       "3",
                                       "--max-length",
                                       "40",
                                       "--probe",
                                       data,
                                       "--tpp",
                                       data,
                                       "--scr",
                                       data,
                                       "--label-column",
                                       "thing",
                                       "--spurious-column",
                                       "mood",
                                       "--json"})
                                   .out,
                               "eval");
  EXPECT_EQ(eval.at("excluded_rows"), 24);
  EXPECT_NE(eval.at("token_policy").get<std::string>().find("left out"), std::string::npos);
  EXPECT_EQ(eval.at("splice").at("positions_left_alone"), 3);
  EXPECT_EQ(eval.at("splice").at("predictions"), 3 * 38);
  EXPECT_TRUE(eval.at("splice").at("kl_score").is_number());
  const Json& accuracy = eval.at("probe").at("accuracy");
  EXPECT_EQ(accuracy.size(), 4U);
  EXPECT_EQ(accuracy.back().at("k"), "all");
  EXPECT_GT(accuracy.back().at("activations").at("value").get<double>(), 0.9);
  EXPECT_EQ(eval.at("probe").at("classes"), (Json{"0", "1"}));
  EXPECT_EQ(eval.at("tpp").at("tpp").size(), 7U);
  EXPECT_EQ(eval.at("scr").at("target").at("column"), "thing");
  EXPECT_FALSE(eval.at("scr").at("remarks").empty());  // eight texts of a pair to test
}

TEST_F(Pipeline, FromTextToSteeredText) {
  extract("acts");
  const Json metadata = read_json_file(folder_ / "acts/metadata.json");
  EXPECT_FALSE(metadata.empty());
  const Tensor rows = read_npy(folder_ / "acts/activations.npy");
  ASSERT_EQ(rows.rank(), 2);
  EXPECT_GT(rows.dim(0), 100);

  train("acts", "sae");
  EXPECT_TRUE(fs::exists(folder_ / "sae/cfg.json"));
  EXPECT_TRUE(fs::exists(folder_ / "sae/sae_weights.safetensors"));

  const Json eval = parse_json(
      run_ok({"eval", "--sae", path("sae"), "--activations", path("acts"), "--json"}).out, "eval");
  EXPECT_GT(eval.at("l0").get<double>(), 0.0);
  EXPECT_GT(eval.at("fvu").get<double>(), 0.0);
  EXPECT_EQ(eval.at("intervals").at("over"), "texts");
  EXPECT_EQ(eval.at("intervals").at("clusters"), 24);
  EXPECT_EQ(eval.at("special_rows"), 24);  // a BOS each
  EXPECT_NEAR(eval.at("decoder").at("norm_mean").get<double>(), 1.0, 1e-5);

  run_ok({"encode", "--sae", path("sae"), "--activations", path("acts/activations.npy"), "--output",
          path("f.npy")});
  const Tensor features = read_npy(folder_ / "f.npy");
  EXPECT_EQ(features.shape(), (std::vector<std::int64_t>{rows.dim(0), 128}));
  run_ok({"decode", "--sae", path("sae"), "--features", path("f.npy"), "--output", path("x.npy")});
  EXPECT_EQ(read_npy(folder_ / "x.npy").shape(), rows.shape());

  run_ok({"visualize", "--sae", path("sae"), "--activations", path("acts"), "--output", path("viz"),
          "--top", "2"});
  EXPECT_TRUE(fs::exists(folder_ / "viz/feature_density.png"));

  const Json features_json =
      parse_json(run_ok({"features", "--sae", path("sae"), "--model", demo_model(), "--layer", "1",
                         "--text", "The sea was calm.", "--top-k", "5", "--json"})
                     .out,
                 "features");
  ASSERT_FALSE(features_json.at("features").empty());
  const std::string feature =
      std::to_string(features_json.at("features").at(0).at("feature_idx").get<int>());

  const std::vector<std::string> common = {"--sae",   path("sae"), "--model",          demo_model(),
                                           "--layer", "1",         "--prompt",         "The sea",
                                           "--seed",  "3",         "--max-new-tokens", "8"};
  auto steer = std::vector<std::string>{"steer", "--feature", feature, "--strength", "4"};
  steer.insert(steer.end(), common.begin(), common.end());
  EXPECT_EQ(run_ok(steer).out.rfind("The sea", 0), 0U);
  // A recipe says all that the flags said, also of hook, layer and sampling.
  const std::string by_flags = run_ok(steer).out;
  steer.insert(steer.end(), {"--save-recipe", path("recipe.json")});
  EXPECT_EQ(run_ok(steer).out, by_flags);
  const std::vector<std::string> recipe = {
      "steer",    "--sae",  path("sae"), "--model", demo_model(), "--recipe", path("recipe.json"),
      "--prompt", "The sea"};
  EXPECT_EQ(run_ok(recipe).out, by_flags);
  auto longer = recipe;
  longer.insert(longer.end(), {"--max-new-tokens", "12"});
  EXPECT_EQ(run_ok(longer).out.rfind(by_flags.substr(0, by_flags.size() - 1), 0), 0U);
  std::vector<std::string> clamped = {"steer",  "--feature",     feature,
                                      "--mode", "clamp",         "--strength",
                                      "60",     "--save-recipe", path("recipe.json")};
  clamped.insert(clamped.end(), common.begin(), common.end());
  EXPECT_NE(run_ok(clamped).out, by_flags);
  EXPECT_EQ(parse_json(read_file(folder_ / "recipe.json"), "r").at("edits").at(0).at("mode"),
            "clamp");
  auto compare = std::vector<std::string>{"steer", "--feature", feature,    "--compare",
                                          "0,1,5", "--output",  path("st"), "--json"};
  compare.insert(compare.end(), common.begin(), common.end());
  const Json compared = parse_json(run_ok(compare).out, "steer");
  EXPECT_TRUE(compared.at("results").contains("baseline"));
  EXPECT_TRUE(compared.at("results").contains("strength_5.0"));
  EXPECT_FALSE(fs::is_empty(folder_ / "st"));
  EXPECT_EQ(parse_json(run_ok({"info", path("sae"), "--json"}).out, "info").at("kind"), "sae");
  EXPECT_EQ(parse_json(run_ok({"info", path("acts"), "--json"}).out, "info").at("kind"),
            "activations");
}

TEST_F(Pipeline, SameSeedSameBytes) {
  extract("a");
  extract("b");
  EXPECT_EQ(read_file(folder_ / "a/activations.npy"), read_file(folder_ / "b/activations.npy"));
  train("a", "sae1");
  train("a", "sae2");
  EXPECT_EQ(read_file(folder_ / "sae1/sae_weights.safetensors"),
            read_file(folder_ / "sae2/sae_weights.safetensors"));
}

TEST_F(Pipeline, InterruptedTrainingResumesToTheSameWeights) {
  extract("acts");
  const std::vector<std::string> args = {"train", "--activations",   path("acts"), "--hidden-dim",
                                         "512",   "--steps",         "1500",       "--batch-size",
                                         "128",   "--learning-rate", "0.001"};
  auto whole = args;
  whole.insert(whole.end(), {"--output", path("whole")});
  run_ok(whole);
  auto cut = args;
  cut.insert(cut.end(), {"--output", path("cut")});
  Command command(cut, folder_);
  usleep(400 * 1000);
  command.signal(SIGINT);
  const Result stopped = command.wait();
  // A fast machine may have finished; a cut run says so with 130.
  ASSERT_TRUE(stopped.exit_code == 130 || stopped.exit_code == 0) << stopped.err;
  if (stopped.exit_code == 130) {
    EXPECT_NE(stopped.err.find("--resume"), std::string::npos) << stopped.err;
    cut.emplace_back("--resume");
    run_ok(cut);
  }
  EXPECT_EQ(read_file(folder_ / "whole/sae_weights.safetensors"),
            read_file(folder_ / "cut/sae_weights.safetensors"));
}

TEST_F(Pipeline, RunDoesItAllFromOneFile) {
  write("run.yaml",
        "extractor:\n"
        "  model:\n    model_name: " +
            demo_model() +
            "\n    torch_dtype: float32\n"
            "  dataset:\n    dataset_name: " +
            demo_text() +
            "\n    num_samples: 24\n    max_length: 96\n    text_column: text\n"
            "  extraction:\n    mlp_layers: [1]\n    positions: all\n    output_dir: " +
            path("out/activations") +
            "\n"
            "autoencoder:\n  hidden_dim: 128\n  num_epochs: 1\n  output_dir: " +
            path("out/sae") +
            "\n"
            "visualization:\n  top_features: 3\n  output_dir: " +
            path("out/figures") + "\nsteering:\n  max_new_tokens: 8\n");
  const Result result = run({"run", path("run.yaml")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(fs::exists(folder_ / "out/activations/metadata.json"));
  EXPECT_TRUE(fs::exists(folder_ / "out/sae/cfg.json"));
  EXPECT_TRUE(fs::exists(folder_ / "out/figures/feature_density.png"));
}

TEST_F(Pipeline, FinishedRunsAreNotTakenForOtherSettings) {
  extract("acts");
  train("acts", "sae");
  const std::vector<std::string> same = {
      "train", "--activations", path("acts"), "--output",     path("sae"), "--hidden-dim",
      "128",   "--steps",       "60",         "--batch-size", "64",        "--learning-rate",
      "0.001", "--resume"};
  run_ok(same);
  auto other = same;
  other[6] = "256";
  const Result refused = run(other);
  EXPECT_EQ(refused.exit_code, 2) << refused.err;
  EXPECT_NE(refused.err.find("hidden_dim 128, wanted 256"), std::string::npos) << refused.err;
}

TEST_F(Pipeline, WeightsToStartFromKeepTheirBias) {
  extract("acts");
  train("acts", "sae");
  const Tensor trained =
      SafetensorsFile::open(folder_ / "sae/sae_weights.safetensors").get("b_dec");
  // A learning rate of next to nothing leaves what training started from.
  for (const char* init : {"sae", "sae/sae_weights.safetensors", "sae.pt"}) {
    if (std::string(init) == "sae.pt") {
      run_ok({"train", "--activations", path("acts"), "--output", path("again"), "--init",
              path("sae"), "--steps", "1", "--learning-rate", "1e-12", "--export-pt",
              path("sae.pt")});
    }
    run_ok({"train", "--activations", path("acts"), "--output", path("next"), "--init", path(init),
            "--steps", "1", "--learning-rate", "1e-12"});
    const Tensor bias =
        SafetensorsFile::open(folder_ / "next/sae_weights.safetensors").get("b_dec");
    for (std::size_t i = 0; i < bias.data<float>().size(); ++i) {
      // One step of Adam moves a weight by at most the learning rate, and rounds.
      const float was = trained.data<float>()[i];
      EXPECT_NEAR(bias.data<float>()[i], was, 1e-12F + 0x1p-23F * std::abs(was)) << init;
    }
  }
}

TEST_F(Pipeline, FeaturesAreSoughtWhereTheAutoencoderBelongs) {
  extract("acts");
  train("acts", "sae");
  const std::vector<std::string> bare = {"features",   "--sae",  path("sae"),        "--model",
                                         demo_model(), "--text", "The sea was calm."};
  auto with = bare;
  with.insert(with.end(), {"--layer", "1", "--hook", "mlp_out"});
  EXPECT_EQ(run_ok(bare).out, run_ok(with).out);
  auto elsewhere = bare;
  elsewhere.insert(elsewhere.end(), {"--layer", "2"});
  EXPECT_NE(run_ok(elsewhere).err.find("trained on mlp_out of layer 1"), std::string::npos);
}

}  // namespace
}  // namespace drrik::cli_test
