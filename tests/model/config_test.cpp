#include "drrik/model/config.h"

#include <fstream>

#include "model/compare.h"

namespace drrik {
namespace {

const char* const kLlama = R"({"model_type": "llama", "vocab_size": 100, "hidden_size": 64,
  "intermediate_size": 172, "num_hidden_layers": 3, "num_attention_heads": 8)";

ModelConfig llama(const std::string& more = "") {
  return parse_model_config(kLlama + more + "}", "config.json");
}

TEST(ModelConfig, LlamaDefaults) {
  const ModelConfig c = llama();
  EXPECT_EQ(c.family, "llama");
  EXPECT_EQ(c.n_kv_heads, 8);
  EXPECT_EQ(c.head_dim, 8);
  EXPECT_EQ(c.rope.dim, 8);
  EXPECT_EQ(c.max_positions, 2048);
  EXPECT_EQ(c.norm, NormKind::kRmsNorm);
  EXPECT_EQ(c.norm_eps, 1e-6);
  EXPECT_EQ(c.activation, Activation::kSilu);
  EXPECT_EQ(c.rope.theta, 10000.0);
  EXPECT_FALSE(c.tied_head);
  EXPECT_FALSE(c.qkv_bias);
  EXPECT_TRUE(c.eos_ids.empty());
}

TEST(ModelConfig, ReadsRopeInBothSpellings) {
  const ModelConfig v4 = llama(
      R"(, "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 32,
      "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192})");
  const ModelConfig v5 = llama(
      R"(, "rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 32,
      "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192})");
  for (const ModelConfig& c : {v4, v5}) {
    EXPECT_EQ(c.rope.theta, 500000.0);
    EXPECT_EQ(c.rope.scaling, RopeScaling::kLlama3);
    EXPECT_EQ(c.rope.factor, 32.0);
    EXPECT_EQ(c.rope.original_positions, 8192);
  }
  EXPECT_EQ(rope_inverse_frequencies(v4.rope), rope_inverse_frequencies(v5.rope));
  const ModelConfig legacy = llama(R"(, "rope_scaling": {"type": "linear", "factor": 2.0})");
  EXPECT_EQ(legacy.rope.scaling, RopeScaling::kLinear);
  EXPECT_EQ(llama(R"(, "rope_scaling": null)").rope.scaling, RopeScaling::kNone);
  // Linear: every frequency is divided.
  const auto plain = rope_inverse_frequencies(llama().rope);
  const auto half = rope_inverse_frequencies(legacy.rope);
  for (std::size_t j = 0; j < plain.size(); ++j) EXPECT_FLOAT_EQ(half[j], plain[j] / 2.0F);
}

TEST(ModelConfig, ReadsLegacyNeoXNames) {
  const std::string head = R"({"model_type": "gpt_neox", "vocab_size": 50304, "hidden_size": 512,
    "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 8,
    "layer_norm_eps": 1e-05, "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "float16")";
  const ModelConfig c =
      parse_model_config(head + R"(, "rotary_pct": 0.5, "rotary_emb_base": 1000})", "c");
  EXPECT_EQ(c.rope.dim, 32);
  EXPECT_EQ(c.rope.theta, 1000.0);
  EXPECT_TRUE(c.parallel_residual);
  EXPECT_EQ(c.activation, Activation::kGelu);
  EXPECT_EQ(c.dtype, DType::kF16);
  EXPECT_FALSE(c.tied_head);
  EXPECT_EQ(c.eos_ids, std::vector<std::int32_t>{0});
  EXPECT_EQ(parse_model_config(head + "}", "c").rope.dim, 16);
}

TEST(ModelConfig, ReadsGpt2) {
  const ModelConfig c = parse_model_config(
      R"({"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, "n_ctx": 1024,
      "n_embd": 768, "n_layer": 12, "n_head": 12, "activation_function": "gelu_new",
      "bos_token_id": 50256, "eos_token_id": 50256})",
      "c");
  EXPECT_EQ(c.d_mlp, 3072);
  EXPECT_TRUE(c.tied_head);
  EXPECT_EQ(c.positions, PositionKind::kLearned);
  EXPECT_EQ(c.parameter_count(), 124439808);  // as published
}

TEST(ModelConfig, EosMayBeAListAndComesFromGenerationConfig) {
  EXPECT_EQ(llama(R"(, "eos_token_id": [7, 9])").eos_ids, (std::vector<std::int32_t>{7, 9}));
  EXPECT_EQ(llama(R"(, "eos_token_id": 7)").eos_ids, std::vector<std::int32_t>{7});
  EXPECT_TRUE(llama(R"(, "eos_token_id": -1)").eos_ids.empty());

  const auto folder = std::filesystem::temp_directory_path() / "drrik_model_config_test";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << kLlama << R"(, "eos_token_id": 7})";
  std::ofstream(folder / "generation_config.json") << R"({"eos_token_id": [7, 8]})";
  EXPECT_EQ(read_model_config(folder).eos_ids, (std::vector<std::int32_t>{7, 8}));
  std::filesystem::remove_all(folder);
}

TEST(ModelConfig, RefusesWhatItCannotRun) {
  struct Case {
    const char* change;    // member put at the end, where the last one wins
    const char* expected;  // somewhere in the message
  };
  const Case cases[] = {
      {R"(, "num_attention_heads": 0)", "'num_attention_heads' is 0"},
      {R"(, "hidden_size": -64)", "'hidden_size' is -64"},
      {R"(, "hidden_size": 9223372036854775807)", "'hidden_size'"},
      {R"(, "hidden_size": 1e300)", "hidden_size"},
      {R"(, "hidden_size": "64")", "hidden_size"},
      {R"(, "hidden_size": 64.5)", "hidden_size"},
      {R"(, "num_hidden_layers": 1000000000)", "'num_hidden_layers'"},
      {R"(, "vocab_size": 4611686018427387904)", "'vocab_size'"},
      {R"(, "num_key_value_heads": 3)", "n_kv_heads (3)"},
      {R"(, "num_key_value_heads": 0)", "'num_key_value_heads' is 0"},
      {R"(, "num_attention_heads": 65)", "wanted a multiple of 'num_attention_heads' (65)"},
      {R"(, "num_attention_heads": 4194304, "head_dim": 4194304)", "n_heads * head_dim"},
      {R"(, "intermediate_size": 0)", "'intermediate_size' is 0"},
      {R"(, "max_position_embeddings": 0)", "'max_position_embeddings' is 0"},
      {R"(, "rms_norm_eps": 0)", "'rms_norm_eps' is 0"},
      {R"(, "rms_norm_eps": -1e-5)", "rms_norm_eps"},
      {R"(, "hidden_act": "sliu")", "did you mean 'silu'"},
      {R"(, "rope_theta": -5)", "'rope_theta' is -5"},
      {R"(, "rope_scaling": {"rope_type": "proportional"})", "'proportional'"},
      {R"(, "rope_scaling": {"rope_type": "linear", "factor": 0})", "'factor' is 0"},
      {R"(, "rope_scaling": 7)", "rope_parameters"},
      {R"(, "partial_rotary_factor": 1.5)", "rotary factor"},
      {R"(, "partial_rotary_factor": 1e300)", "rotary factor"},
      {R"(, "partial_rotary_factor": 0.01)", "rotary factor"},
      {R"(, "tie_word_embeddings": "yes")", "tie_word_embeddings"},
      {R"(, "eos_token_id": "</s>")", "eos_token_id"},
      {R"(, "model_type": "lama")", "did you mean 'llama'"},
      {R"(, "model_type": "resnet")", "supported: bloom, falcon, "},
      {R"(, "model_type": 3)", "model_type"},
  };
  for (const Case& c : cases) {
    const auto [kind, text] = test::error_of([&] { llama(c.change); });
    EXPECT_EQ(kind, ErrorKind::kData) << c.change;
    EXPECT_NE(text.find(c.expected), std::string::npos) << c.change << " gave: " << text;
    EXPECT_NE(text.find("config.json"), std::string::npos) << text;
  }
  for (const char* text : {"", "[]", "{}", "{\"model_type\": \"llama\"}", "nul"}) {
    EXPECT_EQ(test::error_of([&] { parse_model_config(text, "c"); }).first, ErrorKind::kData)
        << text;
  }
}

}  // namespace
}  // namespace drrik
