// drrik train with the architectures beside the described one: sweeps, resuming after any kind of
// end, live training, transcoders and crosscoders; and that other commands take what it writes.

#include <unistd.h>

#include <csignal>
#include <fstream>
#include <random>
#include <sstream>

#include "cli/command.h"
#include "drrik/io/npy.h"
#include "io/json.h"

namespace drrik::cli_test {
namespace {

namespace fs = std::filesystem;

class Coders : public CommandTest {
 protected:
  // Rows that are sparse sums of a few directions.
  void write_rows(const std::string& name, std::int64_t n, std::int64_t d) const {
    Tensor rows = Tensor::zeros<float>({n, d});
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    std::vector<float> directions(static_cast<std::size_t>(2 * d * d));
    for (float& v : directions) v = normal(random);
    for (std::int64_t r = 0; r < n; ++r) {
      for (int i = 0; i < 3; ++i) {
        const auto j = static_cast<std::int64_t>(random() % static_cast<unsigned>(2 * d));
        const float by = 0.5F + std::abs(normal(random));
        for (std::int64_t c = 0; c < d; ++c) {
          rows.mutable_mat<float>()(r, c) += by * directions[static_cast<std::size_t>(j * d + c)];
        }
      }
    }
    write_npy(folder_ / name, rows);
  }

  std::vector<std::string> train_args(const std::string& output,
                                      const std::vector<std::string>& more) const {
    std::vector<std::string> args = {"train",
                                     "--activations",
                                     path("rows.npy"),
                                     "--output",
                                     path(output),
                                     "--hidden-dim",
                                     "96",
                                     "--batch-size",
                                     "64",
                                     "--log-every",
                                     "10"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }

  static std::string bytes(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
  }
};

TEST_F(Coders, EveryArchitectureTrainsAndIsTakenByTheOtherCommands) {
  write_rows("rows.npy", 3000, 24);
  const Json result = parse_json(
      run_ok(
          train_args("saes", {"--sweep", "arch=standard,topk,batchtopk,matryoshka,jumprelu,gated",
                              "-k", "4", "--steps", "60", "--learning-rate", "0.003", "--json"}))
          .out,
      "train");
  ASSERT_EQ(result.at("coders").size(), 6U);
  EXPECT_EQ(result.at("steps").get<int>(), 60);
  for (const Json& coder : result.at("coders")) {
    const std::string folder = coder.at("folder").get<std::string>();
    SCOPED_TRACE(folder);
    EXPECT_TRUE(fs::exists(fs::path(folder) / "cfg.json"));
    EXPECT_GT(coder.at("metrics/l0").get<double>(), 0.0);
    EXPECT_LT(coder.at("validation_fvu").get<double>(), 1.5);
    run_ok({"info", folder});
    const Json eval = parse_json(
        run_ok({"eval", "--sae", folder, "--activations", path("rows.npy"), "--json"}).out, "eval");
    EXPECT_EQ(eval.at("d_sae").get<int>(), 96);
    run_ok(
        {"encode", "--sae", folder, "--activations", path("rows.npy"), "--output", path("f.npy")});
    run_ok({"decode", "--sae", folder, "--features", path("f.npy"), "--output", path("x.npy")});
    EXPECT_EQ(read_npy(folder_ / "x.npy").dim(1), 24);
  }
  // Six lines at each of six times.
  std::ifstream log(folder_ / "saes/train_log.jsonl");
  int lines = 0;
  for (std::string line; std::getline(log, line);) {
    EXPECT_TRUE(parse_json(line, "log").contains("losses/mse_loss"));
    ++lines;
  }
  EXPECT_EQ(lines, 36);
}

TEST_F(Coders, ASweepIsNamedByWhatVaries) {
  write_rows("rows.npy", 500, 8);
  const Json result =
      parse_json(run_ok(train_args("saes", {"--arch", "topk", "--sweep", "k=2,4", "--sweep",
                                            "seed=1,2", "--steps", "3", "--json"}))
                     .out,
                 "train");
  std::vector<std::string> names;
  for (const Json& coder : result.at("coders")) names.push_back(coder.at("name"));
  EXPECT_EQ(names, (std::vector<std::string>{"topk_k2_seed1", "topk_k2_seed2", "topk_k4_seed1",
                                             "topk_k4_seed2"}));
  EXPECT_TRUE(fs::exists(folder_ / "saes/topk_k4_seed1/sae_weights.safetensors"));
  EXPECT_FALSE(fs::exists(folder_ / "saes/checkpoint.safetensors"));
  const Result shared = run(train_args("x", {"--arch", "topk", "--sweep", "batch_size=1,2"}));
  EXPECT_EQ(shared.exit_code, 2);
  EXPECT_NE(shared.err.find("the same for all coders"), std::string::npos) << shared.err;
  EXPECT_EQ(run(train_args("x", {"--arch", "topk", "--sweep", "k"})).exit_code, 2);
  EXPECT_EQ(run(train_args("x", {"--arch", "vanilla"})).exit_code, 2);
}

// SIGKILL at any moment: the same command with --resume ends with the bytes of a run that was left
// alone.
TEST_F(Coders, AKilledRunResumesToTheSameBytes) {
  write_rows("rows.npy", 4000, 24);
  const std::vector<std::string> how = {
      "--sweep", "arch=topk,standard,jumprelu", "-k", "4", "--steps",
      "300",     "--checkpoint-steps",          "7"};
  run_ok(train_args("whole", how));
  std::vector<std::string> resumed = how;
  resumed.push_back("--resume");
  int kills = 0;
  for (int i = 0; i < 40; ++i) {
    Command command(train_args("killed", resumed), folder_);
    usleep(static_cast<useconds_t>(30000 + 20000 * i));
    command.signal(SIGKILL);
    const Result result = command.wait();
    if (result.exit_code == 0) break;
    ASSERT_EQ(result.exit_code, 128 + SIGKILL) << result.err;
    ++kills;
  }
  run_ok(train_args("killed", resumed));
  EXPECT_GT(kills, 0);
  for (const char* name : {"topk", "standard", "jumprelu"}) {
    const fs::path file = fs::path(name) / "sae_weights.safetensors";
    EXPECT_EQ(bytes(folder_ / "killed" / file), bytes(folder_ / "whole" / file)) << name;
  }
  EXPECT_EQ(bytes(folder_ / "killed/train_log.jsonl"), bytes(folder_ / "whole/train_log.jsonl"));
}

TEST_F(Coders, LearnLiveFromAModel) {
  const Json result = parse_json(
      run_ok({"train",        "--arch",     "topk",         "-k",           "8",
              "--model",      demo_model(), "--dataset",    demo_text(),    "--num-samples",
              "40",           "--layers",   "0,1",          "--max-length", "64",
              "--hidden-dim", "128",        "--batch-size", "256",          "--steps",
              "12",           "--output",   path("live"),   "--json"})
          .out,
      "train");
  ASSERT_EQ(result.at("coders").size(), 2U);
  const std::string folder = result.at("coders")[1].at("folder");
  EXPECT_NE(folder.find("topk_L1_mlp_out"), std::string::npos) << folder;
  const Json sidecar = read_json_file(fs::path(folder) / "drrik.json");
  EXPECT_EQ(sidecar.at("layer").get<int>(), 1);
  EXPECT_EQ(sidecar.at("hook_name").get<std::string>(), "mlp_out");
  // Where it came from, what was left out and how it was scaled are in the record.
  const std::string facts = sidecar.at("facts").dump();
  EXPECT_NE(facts.find("special"), std::string::npos) << facts;
  EXPECT_NE(facts.find("expected_average_only_in"), std::string::npos) << facts;
  run_ok({"features", "--sae", folder, "--model", demo_model(), "--text", "Once upon a time"});
}

TEST_F(Coders, TranscodersAndCrosscodersFromStores) {
  for (const char* hook : {"mlp_in", "mlp_out"}) {
    run_ok({"extract", "--model", demo_model(), "--dataset", demo_text(), "--layers", "0,1",
            "--positions", "all", "--num-samples", "24", "--hook", hook, "--output", path(hook)});
  }
  const std::vector<std::string> common = {"--activations", path("mlp_in"), "--hidden-dim", "64",
                                           "--batch-size",  "128",          "--steps",      "20",
                                           "--json"};
  std::vector<std::string> transcoder = {
      "train",    "--arch",           "topk",          "-k",
      "8",        "--targets",        path("mlp_out"), "--skip-connection",
      "--output", path("transcoders")};
  transcoder.insert(transcoder.end(), common.begin(), common.end());
  EXPECT_EQ(parse_json(run_ok(transcoder).out, "train").at("coders").size(), 2U);
  // It is read where it reads and steers where it writes, without being told.
  const Result steered =
      run_ok({"steer", "--sae", path("transcoders/topk_L1_mlp_in"), "--model", demo_model(),
              "--prompt", "The sea", "--feature", "3", "--strength", "4", "--mode", "clamp",
              "--max-new-tokens", "4", "--save-recipe", path("recipe.json")});
  EXPECT_EQ(steered.err.find("is used at"), std::string::npos) << steered.err;
  const Json recipe = parse_json(read_file(folder_ / "recipe.json"), "recipe");
  EXPECT_EQ(recipe.at("hook"), "mlp_out");
  EXPECT_EQ(recipe.at("layer"), 1);
  std::vector<std::string> crosscoder = {"train", "--arch",       "batchtopk", "-k",
                                         "8",     "--crosscoder", "--output",  path("crosscoder")};
  crosscoder.insert(crosscoder.end(), common.begin(), common.end());
  EXPECT_EQ(parse_json(run_ok(crosscoder).out, "train").at("coders").size(), 1U);
  run_ok({"info", path("crosscoder")});
}

}  // namespace
}  // namespace drrik::cli_test
