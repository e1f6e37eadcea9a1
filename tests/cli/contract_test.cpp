// The command-line contract: every subcommand, its help, its output forms.

#include "cli/command.h"
#include "drrik/base/file.h"
#include "io/json.h"

namespace drrik::cli_test {
namespace {

const std::vector<std::string> kSubcommands = {
    "run",      "extract", "train",    "eval",     "encode",    "decode", "visualize",
    "features", "steer",   "generate", "tokenize", "logits",    "serve",  "hooks",
    "bench",    "data",    "info",     "config",   "completion"};

class Contract : public CommandTest {};

TEST_F(Contract, EverySubcommandHelpsWithExamples) {
  const Result top = run_ok({"--help"});
  for (const std::string& name : kSubcommands) {
    EXPECT_NE(top.out.find("\n  " + name), std::string::npos) << name;
    const Result help = run_ok({name, "--help"});
    EXPECT_NE(help.out.find("Examples:\n  drrik " + name), std::string::npos) << help.out;
    for (const char* flag : {"--config", "--log-level", "--threads", "--seed", "--json"}) {
      EXPECT_NE(help.out.find(flag), std::string::npos) << name << " " << flag;
    }
  }
}

TEST_F(Contract, VersionNamesBuildAndInstructionSets) {
  const Result version = run_ok({"--version"});
  EXPECT_NE(version.out.find("drrik 0."), std::string::npos) << version.out;
  EXPECT_NE(version.out.find("oneDNN"), std::string::npos) << version.out;
}

TEST_F(Contract, CompletionScriptsNameEverySubcommand) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Result script = run_ok({"completion", shell});
    for (const std::string& name : kSubcommands) {
      EXPECT_NE(script.out.find(name), std::string::npos) << shell << " " << name;
    }
  }
  EXPECT_EQ(run({"completion", "tcsh"}).exit_code, 2);
}

TEST_F(Contract, TokenizeGoesBothWays) {
  const std::string text = "The old man looked at the sea; \"naïve\" he said.";
  write("a.txt", text);
  const Result ids = run_ok({"tokenize", "--model", demo_model(), "--text", text});
  const Json parsed = parse_json(ids.out, "output");
  ASSERT_TRUE(parsed.is_array());
  EXPECT_GT(parsed.size(), 5U);
  EXPECT_EQ(run_ok({"tokenize", "--model", demo_model(), "--file", path("a.txt")}).out, ids.out);
  EXPECT_EQ(run_ok({"tokenize", "--model", demo_model() + "/tokenizer.json", "--text", text}).out,
            ids.out);
  EXPECT_EQ(run_ok({"tokenize", "--model", demo_model(), "--decode", "--text", ids.out}).out,
            text + "\n");
  const Result plain =
      run_ok({"tokenize", "--model", demo_model(), "--no-special-tokens", "--text", text});
  const auto tokenize = [&](const std::vector<std::string>& flags) {
    std::vector<std::string> args = {"tokenize", "--model", demo_model(), "--text", text};
    args.insert(args.end(), flags.begin(), flags.end());
    return run_ok(args).out;
  };
  EXPECT_EQ(tokenize({"--no-bos"}), plain.out);
  EXPECT_EQ(tokenize({"--prepend-bos"}), ids.out);
  EXPECT_EQ(tokenize({"--prepend-bos", "--no-special-tokens"}), ids.out);
  EXPECT_EQ(run({"tokenize", "--model", demo_model(), "--text", text, "--no-bos", "--prepend-bos"})
                .exit_code,
            2);
  EXPECT_EQ(parse_json(plain.out, "output").size() + 1, parsed.size());
  write("rows.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two two\"}\n");
  const Result rows =
      run_ok({"tokenize", "--model", demo_model(), "--dataset", path("rows.jsonl")});
  EXPECT_EQ(std::count(rows.out.begin(), rows.out.end(), '\n'), 2);
}

TEST_F(Contract, TokensAreTakenAsTokenizePrintsThem) {
  run_ok({"logits", "--model", demo_model(), "--tokens", "[1, 2, 3]", "--output", path("a.npy")});
  run_ok({"logits", "--model", demo_model(), "--tokens", "1 2 3", "--output", path("b.npy")});
  EXPECT_EQ(read_file(folder_ / "a.npy"), read_file(folder_ / "b.npy"));
  const Result beyond =
      run({"tokenize", "--model", demo_model(), "--decode", "--text", "[1, 999999]"});
  EXPECT_EQ(beyond.exit_code, 3) << beyond.err;
}

TEST_F(Contract, SplitsChooseFilesOfAFolder) {
  std::filesystem::create_directory(folder_ / "data");
  write("data/train.jsonl", "{\"text\": \"a\"}\n");
  write("data/test.jsonl", "{\"text\": \"b\"}\n");
  EXPECT_EQ(run_ok({"data", "--dataset", path("data")}).out, "{\"text\":\"a\"}\n");
  EXPECT_EQ(run_ok({"data", "--dataset", path("data"), "--split", "test"}).out,
            "{\"text\":\"b\"}\n");
  EXPECT_EQ(run({"data", "--dataset", path("data"), "--split", "bogus"}).exit_code, 3);
}

// Defaults, then --config, then the environment, then flags: for options that any subcommand takes.
TEST_F(Contract, SettingsComeFromFileEnvironmentAndFlags) {
  write("c.yaml", "extractor:\n  model: {model_name: " + demo_model() +
                      "}\n  dataset: {dataset_name: " + demo_text() +
                      ", num_samples: 3}\n  extraction: {mlp_layers: [1], positions: first, "
                      "output_dir: from-file}\noutput_dir: " +
                      path("base") + "\n");
  const auto rows_of = [&](const std::vector<std::string>& more,
                           const std::vector<std::string>& environment) {
    std::vector<std::string> args = {"extract", "--config", path("c.yaml"), "--json"};
    args.insert(args.end(), more.begin(), more.end());
    const Result result = run(args, environment);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return parse_json(result.out, "output");
  };
  Json made = rows_of({}, {});
  EXPECT_EQ(made.at("rows").get<int>(), 3);
  EXPECT_EQ(made.at("output").get<std::string>(), path("base") + "/from-file");
  made = rows_of({"--output", path("flag")}, {"DRIK_EXTRACTOR__DATASET__NUM_SAMPLES=2"});
  EXPECT_EQ(made.at("rows").get<int>(), 2);
  EXPECT_EQ(made.at("output").get<std::string>(), path("flag"));
  made = rows_of({"--num-samples", "1"}, {"DRIK_EXTRACTOR__DATASET__NUM_SAMPLES=2"});
  EXPECT_EQ(made.at("rows").get<int>(), 1);
  run_ok({"extract", "--config", path("c.yaml"), "--no-bos", "--output", path("no-bos")});
  // First positions are the BOS of every text, unless the template is left out.
  run_ok({"extract", "--config", path("c.yaml"), "--output", path("with")});
  write("n.yaml", "extractor: {dataset: {add_special_tokens: false}}\n");
  run_ok({"extract", "--config", path("n.yaml"), "--model", demo_model(), "--dataset", demo_text(),
          "--layers", "1", "--positions", "first", "--num-samples", "3", "--output",
          path("without")});
  EXPECT_NE(read_file(folder_ / "with/activations.npy"),
            read_file(folder_ / "without/activations.npy"));
  EXPECT_EQ(read_file(folder_ / "no-bos/activations.npy"),
            read_file(folder_ / "without/activations.npy"));
  EXPECT_EQ(
      run_ok({"generate", "--config", path("c.yaml"), "--prompt", "The", "--max-new-tokens", "2"})
          .out.rfind("The", 0),
      0U);
  EXPECT_EQ(run_ok({"data", "--config", path("c.yaml"), "--num-samples", "1"}).out,
            run_ok({"data", "--dataset", demo_text(), "--num-samples", "1"}).out);
}

TEST_F(Contract, DataPrintsRowsAsJsonLines) {
  write("d.csv", "id,body\n1,\"a \"\"quoted\"\"\nline\"\n2,b\n");
  const Result rows = run_ok({"data", "--dataset", path("d.csv"), "--text-column", "body"});
  EXPECT_EQ(rows.out, "{\"text\":\"a \\\"quoted\\\"\\nline\"}\n{\"text\":\"b\"}\n");
  EXPECT_EQ(run_ok({"data", "--dataset", path("d.csv"), "--text-column", "body", "--num-samples",
                    "1", "--skip", "1"})
                .out,
            "{\"text\":\"b\"}\n");
}

TEST_F(Contract, GenerateIsOneTextAndRepeatable) {
  const std::vector<std::string> args = {"generate", "--model",          demo_model(),
                                         "--prompt", "The sea was",      "--seed",
                                         "7",        "--max-new-tokens", "12"};
  const Result first = run_ok(args);
  EXPECT_EQ(first.out.rfind("The sea was", 0), 0U) << first.out;
  EXPECT_GT(first.out.size(), std::string("The sea was\n").size());
  EXPECT_EQ(run_ok(args).out, first.out);
  auto as_json = args;
  as_json.push_back("--json");
  const Json result = parse_json(run_ok(as_json).out, "output");
  EXPECT_EQ(result.at("text").get<std::string>() + "\n", first.out);
}

TEST_F(Contract, LogitsAndHooksWriteNumpyFiles) {
  run_ok({"logits", "--model", demo_model(), "--tokens", "1 2 3", "--output", path("l.npy")});
  EXPECT_EQ(std::filesystem::file_size(folder_ / "l.npy") % 4, 0U);
  const Result hooks = run_ok({"hooks", "--model", demo_model(), "--tokens", "1,2,3", "--hook",
                               "mlp_post", "--layer", "0", "--output", path("h.npy"), "--json"});
  const Json json = parse_json(hooks.out, "output");
  EXPECT_EQ(json.at("shape").at(0).get<int>(), 3);
  EXPECT_EQ(json.at("module").get<std::string>().rfind("model.layers[0].mlp", 0), 0U);
}

// Layers prepared anew in every pass give the same bytes as those that stay.
TEST_F(Contract, StreamedWeightsChangeNothing) {
  const auto both = [&](std::vector<std::string> args, const std::string& output,
                        const std::string& file) {
    args.insert(args.end(), {"--model", demo_model(), "--output", "", "--stream-weights", ""});
    std::vector<std::string> bytes;
    for (const char* how : {"off", "on"}) {
      args.end()[-3] = path(how + output);
      args.back() = how;
      run_ok(args);
      bytes.push_back(read_file(folder_ / (how + output + file)));
    }
    EXPECT_FALSE(bytes[0].empty());
    EXPECT_TRUE(bytes[0] == bytes[1]) << args[0];
  };
  for (const char* dtype : {"float32", "bfloat16"}) {
    both({"logits", "--tokens", "1 2 3", "--dtype", dtype}, std::string(dtype) + "-l.npy", "");
  }
  both({"hooks", "--tokens", "1 2 3", "--hook", "attn_z", "--layer", "1"}, "-h.npy", "");
  both({"extract", "--dataset", demo_text(), "--layers", "0,1", "--num-samples", "4", "--positions",
        "all"},
       "-acts", "/activations.npy");
  const std::vector<std::string> generate = {"generate", "--model",       demo_model(),
                                             "--prompt", "The sea was",   "--max-new-tokens",
                                             "8",        "--temperature", "0"};
  auto streamed = generate;
  streamed.insert(streamed.end(), {"--stream-weights", "on"});
  EXPECT_EQ(run_ok(streamed).out, run_ok(generate).out);
  EXPECT_EQ(run({"logits", "--model", demo_model(), "--tokens", "1", "--output", path("x.npy"),
                 "--stream-weights", "maybe"})
                .exit_code,
            2);
}

TEST_F(Contract, InfoSaysWhatAFolderIs) {
  const Json model = parse_json(run_ok({"info", demo_model(), "--json"}).out, "output");
  EXPECT_EQ(model.at("kind").get<std::string>(), "model");
  EXPECT_EQ(model.at("architecture").get<std::string>(), "llama");
  const Json data = parse_json(run_ok({"info", demo_text(), "--json"}).out, "output");
  EXPECT_EQ(data.at("kind").get<std::string>(), "dataset");
}

}  // namespace
}  // namespace drrik::cli_test
