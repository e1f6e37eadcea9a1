// Bad input through the command: the exit code says the kind, the message what to do.

#include "cli/command.h"
#include "io/json.h"

namespace drrik::cli_test {
namespace {

class Errors : public CommandTest {
 protected:
  void expect(const std::vector<std::string>& args, int code, const std::string& part) const {
    const Result result = run(args);
    EXPECT_EQ(result.exit_code, code) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << "wanted '" << part << "' in\n"
                                                        << result.err;
    EXPECT_EQ(result.out, "");
  }
};

TEST_F(Errors, UsageNamesTheNearestFlagAndCommand) {
  expect({"extract", "--modle", "x"}, 2, "--model");
  expect({"trian"}, 2, "train");
  expect({"hooks", "--model", demo_model(), "--tokens", "1", "--hook", "mpl_out", "--layer", "0",
          "--output", path("x.npy")},
         2, "did you mean 'mlp_out'");
  expect({"generate", "--model", demo_model(), "--prompt", "x", "--threads=-1"}, 2, "threads");
  expect({"data", "--dataset", demo_text(), "--log-level", "loud"}, 2, "log_level");
}

TEST_F(Errors, ALayerThatDoesNotExist) {
  expect({"extract", "--model", demo_model(), "--dataset", demo_text(), "--layers", "99",
          "--output", path("acts")},
         2, "99");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "acts/metadata.json"));
}

TEST_F(Errors, ModelFolderThatIsNone) {
  expect({"generate", "--model", path("absent"), "--prompt", "x"}, 4, "absent");
  expect({"generate", "--model", "org/name", "--prompt", "x"}, 4, "org/name");
  expect({"generate", "--model", demo_text(), "--prompt", "x"}, 2, "is a file");
  expect({"generate", "--prompt", "x"}, 2, "--model");
  std::filesystem::create_directory(folder_ / "empty");
  const Result result = run({"generate", "--model", path("empty"), "--prompt", "x"});
  EXPECT_TRUE(result.exit_code == 3 || result.exit_code == 4) << result.err;
  EXPECT_NE(result.err.find("empty"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find(".json"), std::string::npos) << result.err;
}

TEST_F(Errors, NamesTheFileSystemRefuses) {
  // One byte more than a name may have.
  const std::string name(256, 'x');
  const std::string part = "'" + name + "': File name too long\n";
  expect({"info", name}, 4, part);
  expect({"generate", "--model", name, "--prompt", "x"}, 4, part);
  expect({"tokenize", "--model", name, "--text", "x"}, 4, part);
}

TEST_F(Errors, DatasetsThatCannotServe) {
  expect({"data", "--dataset", path("absent.jsonl")}, 4, "absent.jsonl");
  expect({"data", "--dataset", path("*.none")}, 4, "no file matches");
  expect({"data", "--dataset", demo_text(), "--dataset-config", "en"}, 2, "'en'");
  write("bad.jsonl", "{\"text\": \"fine\"}\n{\"text\": \n");
  const Result bad = run({"data", "--dataset", path("bad.jsonl")});
  EXPECT_EQ(bad.exit_code, 3) << bad.err;
  EXPECT_NE(bad.err.find("bad.jsonl"), std::string::npos) << bad.err;
  write("other.jsonl", "{\"body\": \"x\", \"title\": \"y\"}\n");
  expect({"data", "--dataset", path("other.jsonl"), "--text-column", "bdy"}, 3, "body");
  write("empty.jsonl", "");
  const Result empty = run({"data", "--dataset", path("empty.jsonl")});
  EXPECT_EQ(empty.exit_code, 3) << empty.err;
}

TEST_F(Errors, ActivationsThatAreNone) {
  write("junk.npy", "this is not numpy");
  expect({"train", "--activations", path("junk.npy"), "--output", path("sae")}, 3, "junk.npy");
  expect({"train", "--activations", path("absent"), "--output", path("sae")}, 4, "absent");
}

TEST_F(Errors, ProbesNeedAModelAndLabels) {
  const std::vector<std::string> eval = {"eval", "--sae", path("s"), "--activations", path("a")};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = eval;
    args.insert(args.end(), more.begin(), more.end());
    return args;
  };
  expect(with({"--absorption"}), 2, "need --model");
  expect(with({"--model", demo_model(), "--probe", demo_text()}), 2, "--label-column");
  expect(with({"--model", demo_model(), "--scr", demo_text(), "--label-column", "x"}), 2,
         "--spurious-column");
  expect(with({"--model", demo_model(), "--absorption", "--absorption-words", "1"}), 2,
         "--absorption-words");
}

TEST_F(Errors, JsonModeReportsTheErrorOnStandardOutputToo) {
  const Result result = run({"info", path("absent"), "--json"});
  EXPECT_NE(result.exit_code, 0);
  const Json json = parse_json(result.out, "output");
  EXPECT_EQ(json.at("error").at("exit_code").get<int>(), result.exit_code);
}

TEST_F(Errors, ConfigFilesAreChecked) {
  write("c.yaml", "autoencoder:\n  hiden_dim: 64\n");
  expect(
      {"train", "--config", path("c.yaml"), "--activations", path("x.npy"), "--output", path("o")},
      2, "hidden_dim");
}

TEST_F(Errors, RefusedPromptsPrintNothing) {
  expect({"generate", "--model", demo_model(), "--prompt", "x", "--temperature", "-1"}, 2,
         "temperature");
}

TEST_F(Errors, TokensNeverReachOutput) {
  const std::string secret = "hf_secret0123456789";
  const Result result = run({"info", demo_model(), "--log-level", "DEBUG"},
                            {"HF_TOKEN=" + secret, "WANDB_API_KEY=" + secret});
  EXPECT_EQ(result.out.find(secret), std::string::npos);
  EXPECT_EQ(result.err.find(secret), std::string::npos);
}

}  // namespace
}  // namespace drrik::cli_test
