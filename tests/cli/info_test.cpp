// drrik info on every kind of thing: its JSON, which scripts read, and its screen.

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "cli/command.h"
#include "drrik/base/file.h"
#include "drrik/io/npy.h"
#include "drrik/io/safetensors.h"
#include "io/json.h"

namespace drrik::cli_test {
namespace {

namespace fs = std::filesystem;

class InfoCommand : public CommandTest {
 protected:
  Json info(const std::string& what, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> args = {"info", what, "--json"};
    args.insert(args.end(), more.begin(), more.end());
    return parse_json(run_ok(args).out, "output");
  }
  std::string screen(const std::string& what) const { return run_ok({"info", what}).out; }
  void expect_parts(const std::string& text, const std::vector<std::string>& parts) const {
    for (const std::string& part : parts) {
      EXPECT_NE(text.find(part), std::string::npos) << "no '" << part << "' in\n" << text;
    }
  }
  std::string copied_model() const {
    fs::copy(demo_model(), folder_ / "model");
    return path("model");
  }
};

TEST_F(InfoCommand, Model) {
  const Json json = info(demo_model());
  EXPECT_EQ(json.begin().key(), "kind");
  EXPECT_EQ(json.at("kind"), "model");
  EXPECT_EQ(json.at("architecture"), "llama");
  EXPECT_EQ(json.at("supported"), true);
  EXPECT_EQ(json.at("weight_format"), "safetensors");
  EXPECT_EQ(json.at("weight_files"), Json({"model.safetensors"}));
  // Every parameter lies in the file once.
  EXPECT_EQ(json.at("parameters"), json.at("stored_parameters"));
  std::uint64_t bytes = 0;
  for (const auto& [dtype, size] : json.at("dtype_on_disk").items())
    bytes += size.get<std::uint64_t>();
  EXPECT_EQ(json.at("stored_bytes").get<std::uint64_t>(), bytes);
  EXPECT_EQ(json.at("hooks").at("mlp_post"), json.at("d_mlp"));
  EXPECT_EQ(json.at("hooks").at("resid_post"), json.at("d_model"));
  EXPECT_EQ(json.at("kv_cache_bytes_per_1000_tokens").get<std::int64_t>(),
            2 * json.at("layers").get<std::int64_t>() * json.at("kv_heads").get<std::int64_t>() *
                json.at("head_dim").get<std::int64_t>() * 4 * 1000);
  EXPECT_LE(json.at("memory_bfloat16_bytes").get<std::int64_t>(),
            json.at("memory_float32_bytes").get<std::int64_t>());
  const Json& tokenizer = json.at("tokenizer");
  EXPECT_EQ(tokenizer.at("kind"), "BPE");
  EXPECT_EQ(tokenizer.at("adds_bos"), true);
  EXPECT_EQ(tokenizer.at("adds_before"), Json({0}));
  EXPECT_EQ(tokenizer.at("special").at("bos").at("text"), "<|endoftext|>");
  const std::string text = screen(demo_model());
  expect_parts(text, {"llama (LlamaForCausalLM)", "Weights", "Memory to run", "Tokenizer",
                      "Hook points", "mlp_out", "<|endoftext|> (0)", "KV cache"});
  EXPECT_EQ(text.find('\x1b'), std::string::npos) << "colours in a pipe";
}

TEST_F(InfoCommand, ModelByItsConfigFile) {
  EXPECT_EQ(info(demo_model() + "/config.json").at("kind"), "model");
}

TEST_F(InfoCommand, ModelWithoutWeightsSaysSo) {
  const std::string model = copied_model();
  fs::remove(fs::path(model) / "model.safetensors");
  const Json json = info(model);
  EXPECT_EQ(json.at("kind"), "model");
  expect_parts(json.at("weights_error").get<std::string>(), {"has no weights"});
  expect_parts(screen(model), {"note", "has no weights"});
}

TEST_F(InfoCommand, QuantisedModelIsNamed) {
  const std::string model = copied_model();
  std::string config = read_file(fs::path(model) / "config.json");
  config.insert(config.find('{') + 1, R"("quantization_config":{"quant_method":"awq","bits":4},)");
  write("model/config.json", config);
  expect_parts(info(model).at("weights_error").get<std::string>(), {"quantised with awq (4 bits)"});
}

TEST_F(InfoCommand, UnknownFamilyIsDescribedAllTheSame) {
  fs::create_directory(folder_ / "m");
  write("m/config.json", R"({"model_type":"mamba9","architectures":["Mamba9ForCausalLM"],)"
                         R"("hidden_size":64,"num_hidden_layers":3,"vocab_size":100})");
  const Json json = info(path("m"));
  EXPECT_EQ(json.at("kind"), "model");
  EXPECT_EQ(json.at("supported"), false);
  EXPECT_EQ(json.at("hidden_size"), 64);
  expect_parts(json.at("reason").get<std::string>(), {"'mamba9' is not supported"});
  expect_parts(screen(path("m")), {"mamba9", "drrik does not run it"});
}

TEST_F(InfoCommand, WeightFile) {
  const Json json = info(demo_model() + "/model.safetensors");
  EXPECT_EQ(json.at("kind"), "weights");
  EXPECT_EQ(json.at("tensor_list").size(), json.at("tensors").get<std::size_t>());
  EXPECT_TRUE(json.at("tensor_list").at(0).contains("shape"));
  expect_parts(screen(demo_model() + "/model.safetensors"), {"Tensors", "name", "shape"});
}

TEST_F(InfoCommand, TokenizerUnderAnyName) {
  fs::copy_file(demo_model() + "/tokenizer.json", folder_ / "mine.json");
  for (const std::string& name : {demo_model() + "/tokenizer.json", path("mine.json")}) {
    const Json json = info(name);
    EXPECT_EQ(json.at("kind"), "tokenizer");
    EXPECT_EQ(json.at("tokenizer").at("kind"), "BPE");
    EXPECT_GT(json.at("vocab_size").get<int>(), 1000);
  }
  expect_parts(screen(path("mine.json")), {"tokenizer", "kind", "BPE", "special tokens"});
}

TEST_F(InfoCommand, ArraysAndActivations) {
  Tensor rows(DType::kF32, {7, 3});
  write_npy(folder_ / "a.npy", rows);
  Json json = info(path("a.npy"));
  EXPECT_EQ(json.at("kind"), "activations");
  EXPECT_EQ(json.at("rows"), 7);
  EXPECT_EQ(json.at("dim"), 3);
  EXPECT_EQ(json.at("dtype"), "float32");
  const NamedTensor named{"x", &rows};
  write_npz(folder_ / "a.npz", {&named, 1});
  json = info(path("a.npz"));
  EXPECT_EQ(json.at("kind"), "arrays");
  EXPECT_EQ(json.at("arrays").at(0).at("shape"), Json({7, 3}));
}

TEST_F(InfoCommand, ActivationsAndAutoencoder) {
  write("t.jsonl", "{\"text\": \"one two three\"}\n{\"text\": \"four five six seven\"}\n");
  run_ok({"extract", "--model", demo_model(), "--dataset", path("t.jsonl"), "--layers", "0",
          "--positions", "all", "--output", path("acts")});
  Json json = info(path("acts"));
  EXPECT_EQ(json.at("kind"), "activations");
  EXPECT_EQ(json.at("model"), demo_model());
  EXPECT_EQ(json.at("samples"), 2);
  EXPECT_EQ(json.at("hook"), "mlp_out");
  EXPECT_EQ(json.at("complete"), true);
  expect_parts(screen(path("acts")), {"model.layers[0].mlp", "mlp_out", "t.jsonl"});

  run_ok({"train", "--activations", path("acts"), "--hidden-dim", "32", "--steps", "3",
          "--batch-size", "4", "--validation-split", "0", "--output", path("sae")});
  json = info(path("sae"));
  EXPECT_EQ(json.at("kind"), "sae");
  EXPECT_EQ(json.at("architecture"), "relu");
  EXPECT_EQ(json.at("d_sae"), 32);
  EXPECT_EQ(json.at("d_in"), info(path("acts")).at("dim"));
  expect_parts(screen(path("sae")), {"Architecture", "32 latents", "Trained on", "mlp_out"});
  EXPECT_EQ(info(path("sae") + "/sae_weights.safetensors").at("kind"), "sae");
}

TEST_F(InfoCommand, Dataset) {
  write("d.csv", "id,text\n1,one\n2,two\x1b[31m\n3,three\n4,four\n");
  Json json = info(path("d.csv"));
  EXPECT_EQ(json.at("kind"), "dataset");
  EXPECT_EQ(json.at("format"), "csv");
  EXPECT_EQ(json.at("rows"), 4);
  EXPECT_EQ(json.at("text_column"), "text");
  EXPECT_EQ(json.at("columns").size(), 2U);
  EXPECT_EQ(json.at("samples").at(0), "one");
  const std::string text = screen(path("d.csv"));
  expect_parts(text, {"Columns", "the text", "First texts", "two\\x1b[31m"});
  EXPECT_EQ(text.find('\x1b'), std::string::npos) << "an escape of the file reached the terminal";

  // Without a column that is clearly the text the columns are still told.
  write("e.jsonl", "{\"a\": \"x\", \"b\": \"y\"}\n");
  json = info(path("e.jsonl"));
  EXPECT_TRUE(json.at("text_column").is_null());
  EXPECT_TRUE(json.at("rows").is_null());
  expect_parts(screen(path("e.jsonl")), {"choose one with --text-column"});
}

TEST_F(InfoCommand, WhatIsNotReadIsNamedWithAdvice) {
  write("m.gguf", "GGUF\x03");
  fs::create_directory(folder_ / "lora");
  write("lora/adapter_config.json",
        R"({"peft_type":"LORA","base_model_name_or_path":"org/base","r":8})");
  fs::create_directory(folder_ / "diffusion");
  write("diffusion/model_index.json", "{}");
  fs::create_directory(folder_ / "original");
  write("original/params.json", "{}");
  const struct {
    const char* name;
    const char* kind;
    const char* part;
  } cases[] = {{"m.gguf", "gguf", "use the HuggingFace folder"},
               {"lora", "adapter", "merge_and_unload"},
               {"diffusion", "diffusers", "diffusers pipeline"},
               {"original", "foreign", "save_pretrained"}};
  for (const auto& c : cases) {
    const Json json = info(path(c.name));
    EXPECT_EQ(json.at("kind"), c.kind);
    EXPECT_EQ(json.at("supported"), false);
    expect_parts(json.at("reason").get<std::string>(), {c.part});
    expect_parts(screen(path(c.name)), {"note"});
  }
  EXPECT_EQ(info(path("lora")).at("base_model"), "org/base");
}

TEST_F(InfoCommand, BrokenFilesAreErrors) {
  write("a.safetensors", "not one");
  write("b.pt", "not one");
  fs::create_directory(folder_ / "c");
  write("c/config.json", "{");
  for (const char* name : {"a.safetensors", "b.pt", "c"}) {
    const Result result = run({"info", path(name)});
    EXPECT_EQ(result.exit_code, 3) << name << ": " << result.err;
    expect_parts(result.err, {name});
  }
  EXPECT_EQ(run({"info", path("absent")}).exit_code, 4);
}

// Counting the rows of something large ends at the first Ctrl-C.
TEST_F(InfoCommand, CtrlCEndsTheCounting) {
  std::string rows;
  for (int i = 0; i < 200'000; ++i) rows += "{\"text\": \"some words to count\"}\n";
  fs::create_directory(folder_ / "big");
  write("big/0.jsonl", rows);
  // 1.2 GB for a reader, 6 MB on the disk.
  for (int i = 1; i < 200; ++i) {
    fs::create_hard_link(folder_ / "big" / "0.jsonl",
                         folder_ / "big" / (std::to_string(i) + ".jsonl"));
  }
  Command command({"info", path("big"), "--count"}, folder_);
  usleep(150'000);
  command.signal(SIGINT);
  const Result result = command.wait();
  EXPECT_EQ(result.exit_code, 130) << result.err << result.out;
}

}  // namespace
}  // namespace drrik::cli_test
