// Hooks by their three names, wherever the command asks for one.

#include <algorithm>

#include "cli/command.h"
#include "drrik/base/file.h"
#include "drrik/io/npy.h"
#include "io/json.h"

namespace drrik::cli_test {
namespace {

class HookNames : public CommandTest {
 protected:
  std::string hook(const std::vector<std::string>& where, const std::string& output) const {
    std::vector<std::string> args = {"hooks", "--model",  demo_model(), "--tokens",
                                     "1 2 3", "--output", path(output), "--json"};
    args.insert(args.end(), where.begin(), where.end());
    return run_ok(args).out;
  }
  Result extract(const std::vector<std::string>& where, const std::string& output) const {
    std::vector<std::string> args = {"extract",    "--model",     demo_model(),
                                     "--dataset",  demo_text(),   "--output",
                                     path(output), "--positions", "all"};
    if (std::ranges::find(where, "--num-samples") == where.end()) {
      args.insert(args.end(), {"--num-samples", "4"});
    }
    args.insert(args.end(), where.begin(), where.end());
    return run(args);
  }
  void refuses(const Result& result, const std::string& part) const {
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << "wanted '" << part << "' in\n"
                                                        << result.err;
  }
};

TEST_F(HookNames, GiveTheSameActivations) {
  const Json ours = parse_json(hook({"--hook", "mlp_post", "--layer", "1"}, "ours.npy"), "output");
  EXPECT_EQ(ours.at("transformer_lens").get<std::string>(), "blocks.1.mlp.hook_post");
  EXPECT_EQ(ours.at("module").get<std::string>(), "model.layers[1].mlp.down_proj (input)");
  for (const std::string name :
       {"blocks.1.mlp.hook_post", "model.layers[1].mlp.down_proj.input",
        "layers.1.mlp.down_proj.inputs[0][0]", "model.layers[1].mlp.down_proj (input)"}) {
    const Json theirs = parse_json(hook({"--hook", name}, "theirs.npy"), "output");
    EXPECT_EQ(theirs.at("hook"), "mlp_post") << name;
    EXPECT_EQ(theirs.at("layer"), 1) << name;
    EXPECT_EQ(read_file(folder_ / "theirs.npy"), read_file(folder_ / "ours.npy")) << name;
  }
}

TEST_F(HookNames, BringTheirLayerOrAgreeWithIt) {
  ASSERT_EQ(extract({"--layers", "1"}, "ours").exit_code, 0);
  const std::string wanted = read_file(folder_ / "ours/activations.npy");
  ASSERT_EQ(extract({"--hook", "blocks.1.hook_mlp_out"}, "lens").exit_code, 0);
  EXPECT_EQ(read_file(folder_ / "lens/activations.npy"), wanted);
  ASSERT_EQ(extract({"--hook", "model.layers[1].mlp", "--layers", "1"}, "both").exit_code, 0);
  EXPECT_EQ(read_file(folder_ / "both/activations.npy"), wanted);
  refuses(extract({"--hook", "model.layers[1].mlp", "--layers", "0"}, "x"),
          "is in layer 1, and layer 0 was asked for");
  refuses(extract({"--hook", "model.layers[1].mlp", "--layers", "0,1"}, "x"), "layer 0");
  refuses(extract({"--hook", "blocks.99.hook_mlp_out"}, "x"), "layer 99 does not exist");
  refuses(extract({"--hook", "model.layers[1].mpl"}, "x"), "did you mean 'model.layers[1].mlp'?");
  refuses(extract({"--hook", "mlp_add"}, "x"), "does not exist in this llama model");
  refuses(extract({"--hook", "mlp_ouch"}, "x"), "did you mean 'mlp_out'?");
  refuses(run({"hooks", "--model", demo_model(), "--tokens", "1", "--output", path("x.npy")}),
          "names no layer");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "x"));
}

TEST_F(HookNames, StandInAConfiguration) {
  const auto extract_by = [&](const std::string& hook, const std::string& more,
                              const std::string& output) {
    write(output + ".yaml", "extractor:\n  model: {model_name: '" + demo_model() +
                                "'}\n  dataset: {dataset_name: '" + demo_text() +
                                "', num_samples: 4}\n  extraction: {hook: '" + hook + "'" + more +
                                ", output_dir: '" + path(output) + "'}\n");
    return run({"extract", "--config", path(output + ".yaml")});
  };
  ASSERT_EQ(extract_by("mlp_out", ", mlp_layers: [1]", "ours").exit_code, 0);
  const Result lens = extract_by("blocks.1.hook_mlp_out", "", "lens");
  ASSERT_EQ(lens.exit_code, 0) << lens.err;
  EXPECT_EQ(read_file(folder_ / "lens/activations.npy"),
            read_file(folder_ / "ours/activations.npy"));
  // The default is layer 0, and nobody asked for it; here somebody did.
  refuses(extract_by("blocks.1.hook_mlp_out", ", mlp_layers: [0]", "x"), "layer 0 was asked for");
  refuses(extract_by("mlp_ouch", "", "x"), "did you mean 'mlp_out'?");
}

TEST_F(HookNames, StandInAnAutoencodersRecord) {
  ASSERT_EQ(extract({"--hook", "model.layers[1].mlp", "--num-samples", "24"}, "acts").exit_code, 0);
  EXPECT_NE(read_file(folder_ / "acts/metadata.json").find("blocks.1.hook_mlp_out"),
            std::string::npos);
  run_ok({"train", "--activations", path("acts"), "--output", path("sae"), "--hidden-dim", "128",
          "--steps", "20", "--batch-size", "64"});
  const std::string config = read_file(folder_ / "sae/cfg.json");
  EXPECT_NE(config.find("\"blocks.1.hook_mlp_out\""), std::string::npos) << config;

  std::vector<std::string> features = {"features",   "--sae",  path("sae"),        "--model",
                                       demo_model(), "--text", "The sea was calm."};
  const std::string wanted = run_ok(features).out;
  for (const std::string name : {"blocks.1.hook_mlp_out", "model.layers[1].mlp"}) {
    auto args = features;
    args.insert(args.end(), {"--hook", name});
    const Result found = run_ok(args);
    EXPECT_EQ(found.out, wanted) << name;
    EXPECT_EQ(found.err.find("is used at"), std::string::npos) << found.err;
  }
  auto elsewhere = features;
  elsewhere.insert(elsewhere.end(), {"--hook", "blocks.2.hook_mlp_out"});
  EXPECT_NE(run_ok(elsewhere).err.find("used at mlp_out of layer 2"), std::string::npos);
  elsewhere.insert(elsewhere.end(), {"--layer", "1"});
  refuses(run(elsewhere), "is in layer 2, and layer 1 was asked for");

  // Somebody else's folder has cfg.json alone, with any name that people write there.
  std::filesystem::remove(folder_ / "sae/drrik.json");
  const std::string ours = "blocks.1.hook_mlp_out";
  for (const std::string name : {"blocks.1.hook_mlp_out", "blocks.1.mlp.hook_out"}) {
    std::string theirs = config;
    theirs.replace(theirs.find(ours), ours.size(), name);
    write("sae/cfg.json", theirs);
    EXPECT_EQ(run_ok(features).out, wanted) << name;
  }
}

// What SAELens's autoencoders of attention layers read; their heads stand apart there.
TEST_F(HookNames, OfTheHeadsServeFromExtractionToSteering) {
  ASSERT_EQ(extract({"--hook", "attn_z", "--layers", "1", "--num-samples", "24"}, "ours").exit_code,
            0);
  for (const std::string name :
       {"blocks.1.attn.hook_z", "model.layers[1].self_attn.o_proj.input"}) {
    ASSERT_EQ(extract({"--hook", name, "--num-samples", "24"}, "acts").exit_code, 0) << name;
    EXPECT_EQ(read_file(folder_ / "acts/activations.npy"),
              read_file(folder_ / "ours/activations.npy"));
    std::filesystem::remove_all(folder_ / "acts");
  }
  run_ok({"train", "--activations", path("ours"), "--output", path("sae"), "--hidden-dim", "128",
          "--steps", "20", "--batch-size", "64"});
  const Json cfg = parse_json(read_file(folder_ / "sae/cfg.json"), "cfg.json");
  EXPECT_EQ(cfg.at("metadata").at("hook_name"), "blocks.1.attn.hook_z");
  EXPECT_EQ(cfg.at("reshape_activations"), "hook_z");
  const Json told = parse_json(run_ok({"info", path("sae"), "--json"}).out, "output");
  EXPECT_EQ(told.at("hook"), "attn_z");
  EXPECT_EQ(told.at("layer"), 1);
  const Json info = parse_json(run_ok({"info", demo_model(), "--json"}).out, "output");
  const std::int64_t width =
      info.at("heads").get<std::int64_t>() * info.at("head_dim").get<std::int64_t>();
  EXPECT_EQ(info.at("hooks").at("attn_z"), width);
  EXPECT_EQ(cfg.at("d_in"), width);
  for (const bool sidecar : {true, false}) {
    if (!sidecar) std::filesystem::remove(folder_ / "sae/drrik.json");
    const Result steered =
        run_ok({"steer", "--sae", path("sae"), "--model", demo_model(), "--prompt", "The sea",
                "--feature", "3", "--strength", "4", "--max-new-tokens", "3"});
    EXPECT_EQ(steered.err.find("is used at"), std::string::npos) << steered.err;
  }
}

TEST_F(HookNames, BeforeTheBlocksTakeNoLayer) {
  ASSERT_EQ(extract({"--hook", "embed"}, "ours").exit_code, 0);
  const std::string wanted = read_file(folder_ / "ours/activations.npy");
  for (const std::string name : {"hook_embed", "model.embed_tokens", "resid_pre"}) {
    ASSERT_EQ(extract({"--hook", name}, "x").exit_code, 0) << name;
    EXPECT_EQ(read_file(folder_ / "x/activations.npy"), wanted) << name;
    std::filesystem::remove_all(folder_ / "x");
  }
  refuses(extract({"--hook", "embed", "--layers", "1"}, "x"), "is in layer 0, and layer 1");
  refuses(extract({"--hook", "pos_embed"}, "x"), "does not exist in this llama model");
  run_ok({"train", "--activations", path("ours"), "--output", path("sae"), "--hidden-dim", "128",
          "--steps", "20", "--batch-size", "64"});
  const Json cfg = parse_json(read_file(folder_ / "sae/cfg.json"), "cfg.json");
  EXPECT_EQ(cfg.at("metadata").at("hook_name"), "hook_embed");
  EXPECT_EQ(cfg.at("reshape_activations"), "none");
  std::filesystem::remove(folder_ / "sae/drrik.json");
  const Result features = run_ok(
      {"features", "--sae", path("sae"), "--model", demo_model(), "--text", "The sea was calm."});
  EXPECT_EQ(features.err.find("is used at"), std::string::npos) << features.err;
}

TEST_F(HookNames, AreShownByInfo) {
  const Json info = parse_json(run_ok({"info", demo_model(), "--json"}).out, "output");
  const Json& names = info.at("hook_names");
  EXPECT_EQ(names.at("mlp_out").at("transformer_lens"), "blocks.0.hook_mlp_out");
  EXPECT_EQ(names.at("mlp_out").at("module"), "model.layers[0].mlp");
  EXPECT_EQ(info.at("hooks").size(), names.size());
  EXPECT_NE(run_ok({"info", demo_model()}).out.find("model.layers[0].mlp.down_proj (input)"),
            std::string::npos);
}

}  // namespace
}  // namespace drrik::cli_test
