#include "drrik/model/config.h"

#include <cmath>
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
      {R"(, "model_type": "resnet")", "supported: bert, bloom, distilbert, falcon, "},
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

// A small valid file of every family, as transformers writes it; tests put members at its end.
std::string small(const std::string& type) {
  const std::string common =
      R"({"model_type": ")" + type + R"(", "vocab_size": 50, "hidden_size": 32,
      "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48,
      "num_key_value_heads": 4)";
  if (type == "gpt_neo") {
    return R"({"model_type": "gpt_neo", "vocab_size": 50, "hidden_size": 32, "num_layers": 4,
        "num_heads": 4, "attention_types": [[["global", "local"], 2]])";
  }
  if (type == "bloom") {
    return R"({"model_type": "bloom", "vocab_size": 50, "hidden_size": 32, "n_layer": 4,
        "n_head": 4)";
  }
  if (type == "opt") return common + R"(, "ffn_dim": 48)";
  if (type == "gemma3") return R"({"model_type": "gemma3", "text_config": {}, "a": 0)";
  return common;
}
ModelConfig parse_small(const std::string& type, const std::string& more = "") {
  return parse_model_config(small(type) + more + "}", "config.json");
}

TEST(ModelConfig, WindowsByFamily) {
  using Windows = std::vector<std::int64_t>;
  EXPECT_EQ(parse_small("mistral").windows, Windows(4, 4096));
  EXPECT_EQ(parse_small("mistral", R"(, "sliding_window": null)").windows, Windows());
  EXPECT_EQ(parse_small("mistral", R"(, "sliding_window": 7)").windows, Windows(4, 7));
  EXPECT_EQ(parse_small("phi3").windows, Windows());
  EXPECT_EQ(parse_small("phi3", R"(, "sliding_window": 7)").windows, Windows(4, 7));
  // Qwen names a window that it does not use.
  EXPECT_EQ(parse_small("qwen2", R"(, "sliding_window": 7)").windows, Windows());
  EXPECT_EQ(parse_small("qwen3", R"(, "sliding_window": 7, "use_sliding_window": true,
      "max_window_layers": 3)")
                .windows,
            (Windows{0, 0, 0, 7}));
  EXPECT_EQ(parse_small("gemma2", R"(, "sliding_window": 7)").windows, (Windows{7, 0, 7, 0}));
  EXPECT_EQ(
      parse_small("gemma3_text", R"(, "sliding_window": 8, "sliding_window_pattern": 2)").windows,
      (Windows{8, 0, 8, 0}));
  EXPECT_EQ(parse_small("gemma3_text", R"(, "sliding_window": 8, "sliding_window_pattern": 2,
      "use_bidirectional_attention": true)")
                .windows,
            (Windows{5, 0, 5, 0}));
  const char* const types = R"(, "sliding_window": 7, "layer_types": ["full_attention",
      "sliding_attention", "sliding_attention", "full_attention"])";
  EXPECT_EQ(parse_small("gemma2", types).windows, (Windows{0, 7, 7, 0}));
  EXPECT_EQ(parse_small("gpt_neo").windows, (Windows{0, 256, 0, 256}));
}

TEST(ModelConfig, Gemma3InBothSpellings) {
  const ModelConfig v4 = parse_small("gemma3_text", R"(, "rope_theta": 500.0,
      "rope_local_base_freq": 30.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0})");
  const ModelConfig v5 = parse_small("gemma3_text", R"(, "rope_parameters": {
      "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 500.0},
      "sliding_attention": {"rope_type": "default", "rope_theta": 30.0}})");
  for (const ModelConfig& c : {v4, v5}) {
    EXPECT_EQ(c.rope.theta, 500.0);
    EXPECT_EQ(c.rope.scaling, RopeScaling::kLinear);
    EXPECT_EQ(c.rope.factor, 8.0);
    ASSERT_TRUE(c.local_rope);
    EXPECT_EQ(c.local_rope->theta, 30.0);
    EXPECT_EQ(c.local_rope->scaling, RopeScaling::kNone);
  }
  // As the published 4B file has it: everything else is the class's default.
  const ModelConfig published = parse_model_config(
      R"({"model_type": "gemma3", "eos_token_id": [1, 106], "text_config": {"hidden_size": 2560,
      "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
      "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}})",
      "c");
  EXPECT_EQ(published.vocab_size, 262208);
  EXPECT_EQ(published.head_dim, 256);
  EXPECT_EQ(published.n_kv_heads, 4);
  EXPECT_EQ(published.rope.theta, 1e6);
  EXPECT_EQ(published.window(4), 1024);
  EXPECT_EQ(published.window(5), 0);
  EXPECT_TRUE(published.tied_head);
  EXPECT_EQ(published.eos_ids, (std::vector<std::int32_t>{1, 106}));
  EXPECT_EQ(published.parameter_count(), 3880263168);  // as transformers counts the text model
}

TEST(ModelConfig, Phi3LongRopeInAllSpellings) {
  const std::string lists = R"("short_factor": [1, 1, 1, 1], "long_factor": [2, 3, 4, 5]})";
  for (const char* type : {"longrope", "su", "yarn"}) {
    for (const char* place : {"rope_scaling", "rope_parameters"}) {
      const ModelConfig c = parse_small(
          "phi3",
          str(R"(, "max_position_embeddings": 128, "original_max_position_embeddings": 32, ")",
              place, R"(": {"type": ")", type, R"(", )", lists));
      EXPECT_EQ(c.rope.scaling, RopeScaling::kLongRope);
      EXPECT_EQ(c.rope.original_positions, 32);
      EXPECT_EQ(c.rope.factor, 4.0);
      EXPECT_DOUBLE_EQ(c.rope.cos_sin_scale, std::sqrt(1.0 + std::log(4.0) / std::log(32.0)));
      EXPECT_FALSE(c.rope.stretched(32));
      EXPECT_TRUE(c.rope.stretched(33));
      EXPECT_EQ(rope_inverse_frequencies(c.rope, 32)[0], 1.0F);
      EXPECT_EQ(rope_inverse_frequencies(c.rope, 33)[0], 0.5F);
    }
  }
}

TEST(ModelConfig, DynamicRopeGoesBeyondItsPositions) {
  const ModelConfig c = llama(R"(, "max_position_embeddings": 100,
      "rope_scaling": {"type": "dynamic", "factor": 2.5})");
  EXPECT_EQ(c.max_positions, 250);
  EXPECT_EQ(c.rope.original_positions, 100);
  EXPECT_EQ(rope_inverse_frequencies(c.rope, 100), rope_inverse_frequencies(llama().rope));
  EXPECT_LT(rope_inverse_frequencies(c.rope, 200)[1], rope_inverse_frequencies(c.rope, 150)[1]);
}

TEST(ModelConfig, ReadsOldNamesOfSizes) {
  const ModelConfig bloom = parse_model_config(
      R"({"model_type": "bloom", "vocab_size": 50, "n_embed": 32, "num_hidden_layers": 3,
      "num_attention_heads": 4, "seq_length": 512})",
      "c");
  EXPECT_EQ(bloom.d_model, 32);
  EXPECT_EQ(bloom.n_layers, 3);
  EXPECT_EQ(bloom.max_positions, 512);
  EXPECT_EQ(parse_small("falcon", R"(, "n_embed": 64)").d_model, 64);
  EXPECT_EQ(parse_small("gemma", R"(, "hidden_act": "gelu")").activation, Activation::kGeluTanh);
}

TEST(ModelConfig, FalconHasThreeGenerations) {
  const ModelConfig first = parse_small("falcon", R"(, "multi_query": false, "alibi": true,
      "parallel_attn": false, "bias": true)");
  EXPECT_EQ(first.n_kv_heads, 4);
  EXPECT_EQ(first.positions, PositionKind::kAlibi);
  EXPECT_TRUE(first.rounded_alibi && first.qkv_bias && first.mlp_bias);
  EXPECT_FALSE(first.parallel_residual || first.shared_norm);
  const ModelConfig second = parse_small("falcon");
  EXPECT_EQ(second.n_kv_heads, 1);
  EXPECT_TRUE(second.parallel_residual && second.shared_norm);
  const ModelConfig third =
      parse_small("falcon", R"(, "new_decoder_architecture": true, "num_kv_heads": 2)");
  EXPECT_EQ(third.n_kv_heads, 2);
  EXPECT_TRUE(third.parallel_residual);
  EXPECT_FALSE(third.shared_norm);
}

TEST(ModelConfig, AlibiSlopes) {
  const auto expect = [](std::int64_t heads, std::vector<float> want) {
    const std::vector<float> got = alibi_slopes(heads);
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < want.size(); ++i) EXPECT_FLOAT_EQ(got[i], want[i]);
  };
  expect(1, {0.00390625F});
  expect(4, {0.25F, 0.0625F, 0.015625F, 0.00390625F});
  expect(5, {0.25F, 0.0625F, 0.015625F, 0.00390625F, 0.5F});
  // (2^-0.5)^1, ^3 after the eight of 2^-1.
  expect(10, {0.5F, 0.25F, 0.125F, 0.0625F, 0.03125F, 0.015625F, 0.0078125F, 0.00390625F,
              0.70710678F, 0.35355339F});
}

TEST(ModelConfig, EveryFamilyRefusesWhatItCannotRun) {
  struct Case {
    const char* type;
    const char* change;
    const char* expected;
  };
  const Case cases[] = {
      {"gpt_neo", R"(, "attention_types": [[["global", "local"], 3]])", "more layers than"},
      {"gpt_neo", R"(, "attention_types": [[["global"], 1]])", "is for 1 layers"},
      {"gpt_neo", R"(, "attention_types": [[["global"], 9223372036854775807]])",
       "more layers than"},
      {"gpt_neo", R"(, "attention_types": [[[], 9223372036854775807]])", "is for 0 layers"},
      {"gpt_neo", R"(, "attention_types": [[["global"], -4]])", "is for 0 layers"},
      {"gpt_neo", R"(, "attention_types": [[["globl"], 4]])", "'globl'"},
      {"gpt_neo", R"(, "attention_types": [["global", 4]])", "attention_types"},
      {"gpt_neo", R"(, "attention_types": [[["global"]]])", "1 parts"},
      {"gpt_neo", R"(, "attention_types": 3)", "attention_types"},
      {"gpt_neo", R"(, "window_size": 0)", "'window_size' is 0"},
      {"gpt_neo", R"(, "num_heads": 5)", "multiple of 'num_heads' (5)"},
      {"mistral", R"(, "sliding_window": 0)", "'sliding_window' is 0"},
      {"mistral", R"(, "sliding_window": -4)", "'sliding_window' is -4"},
      {"mistral", R"(, "num_key_value_heads": null, "head_dim": 0)", "'head_dim' is 0"},
      {"qwen2", R"(, "layer_types": ["full_attention"])", "1 entries"},
      {"qwen2", R"(, "layer_types": ["a", "a", "a", "a"])", "'a'"},
      {"qwen2", R"(, "layer_types": [1, 2, 3, 4])", "layer_types"},
      {"qwen3", R"(, "layer_types": ["full_attention", "full_attention", "full_attention",
          "sliding_attention"])",
       "layer 3 is to slide"},
      {"gemma", R"(, "use_bidirectional_attention": true)", "use_bidirectional_attention"},
      {"gemma2", R"(, "sliding_window": null)", "layer 0 is to slide"},
      {"gemma2", R"(, "attn_logit_softcapping": 0)", "'attn_logit_softcapping' is 0"},
      {"gemma2", R"(, "query_pre_attn_scalar": -1)", "'query_pre_attn_scalar' is -1"},
      {"gemma3_text", R"(, "sliding_window_pattern": 0)", "'sliding_window_pattern' is 0"},
      {"gemma3_text", R"(, "rope_parameters": [])", "rope_parameters"},
      {"gemma3_text", R"(, "rope_parameters": {"full_attention": {"rope_theta": 0}})",
       "rope_parameters.full_attention"},
      {"gemma3", R"(, "text_config": 4)", "text_config"},
      {"gemma3", R"(, "text_config": {"hidden_size": -1})", "text_config: 'hidden_size'"},
      {"phi", R"(, "partial_rotary_factor": 0)", "'partial_rotary_factor' is 0"},
      {"phi", R"(, "num_key_value_heads": 3)", "n_kv_heads (3)"},
      {"phi3", R"(, "rope_scaling": {"type": "longrope"})", "short_factor"},
      {"phi3", R"(, "rope_scaling": {"type": "longrope", "short_factor": [1],
          "long_factor": [1, 1, 1, 1]})",
       "'short_factor' has 1 numbers, wanted 4"},
      {"phi3", R"(, "rope_scaling": {"type": "longrope", "short_factor": [1, 1, 1, 1],
          "long_factor": [1, 0, 1, 1]})",
       "'long_factor' has 0"},
      {"phi3", R"(, "original_max_position_embeddings": 1, "rope_scaling": {"type": "longrope",
          "short_factor": [1, 1, 1, 1], "long_factor": [1, 1, 1, 1]})",
       "attention_factor"},
      {"phi3", R"(, "original_max_position_embeddings": 0, "rope_scaling": {"type": "su"})",
       "original_max_position_embeddings"},
      {"phi3", R"(, "rope_scaling": "longrope")", "rope_scaling"},
      {"olmo", R"(, "clip_qkv": -8)", "'clip_qkv' is -8"},
      {"olmo", R"(, "rope_scaling": {"rope_type": "dynamic", "factor": 0.5})", "at least 1"},
      {"olmo2", R"(, "rms_norm_eps": 0)", "'rms_norm_eps' is 0"},
      {"olmo2", R"(, "num_attention_heads": 16, "rope_scaling": {"rope_type": "dynamic",
          "factor": 2})",
       "dynamic scaling of 2 elements"},
      {"opt", R"(, "word_embed_proj_dim": 0)", "'word_embed_proj_dim' is 0"},
      {"opt", R"(, "word_embed_proj_dim": 4611686018427387904)", "word_embed_proj_dim"},
      {"opt", R"(, "activation_function": "rleu")", "did you mean 'relu'"},
      {"bloom", R"(, "n_head": 5)", "multiple of 'n_head' (5)"},
      {"bloom", R"(, "hidden_size": 2097152)", "d_mlp"},
      {"falcon", R"(, "new_decoder_architecture": true, "parallel_attn": false)", "parallel_attn"},
      {"falcon", R"(, "num_ln_in_parallel_attn": 2)", "num_ln_in_parallel_attn"},
      {"falcon", R"(, "num_ln_in_parallel_attn": 3)", "num_ln_in_parallel_attn"},
      {"falcon", R"(, "new_decoder_architecture": true, "num_kv_heads": 3)", "n_kv_heads (3)"},
  };
  for (const Case& c : cases) {
    EXPECT_NO_THROW(parse_small(c.type)) << c.type;
    const auto [kind, text] = test::error_of([&] { parse_small(c.type, c.change); });
    EXPECT_EQ(kind, ErrorKind::kData) << c.type << c.change;
    EXPECT_NE(text.find(c.expected), std::string::npos) << c.type << c.change << " gave: " << text;
  }
}

TEST(ModelConfig, ValidateSeesWhatContradictsItself) {
  const auto error = [](void (*change)(ModelConfig&)) {
    ModelConfig config = llama();
    change(config);
    return test::error_of([&] { config.validate(); }).second;
  };
  EXPECT_NE(error([](ModelConfig& c) { c.windows = {1}; }).find("windows"), std::string::npos);
  EXPECT_NE(error([](ModelConfig& c) {
              c.windows = {0, 0, -1};
            }).find("window"),
            std::string::npos);
  EXPECT_NE(error([](ModelConfig& c) { c.shared_norm = true; }).find("shared_norm"),
            std::string::npos);
  EXPECT_NE(error([](ModelConfig& c) {
              c.parallel_residual = true;
              c.norm_wiring = NormWiring::kPost;
            }).find("parallel_residual"),
            std::string::npos);
  EXPECT_NE(error([](ModelConfig& c) { c.position_offset = -1; }).find("position_offset"),
            std::string::npos);
  EXPECT_NE(error([](ModelConfig& c) { c.logit_soft_cap = -1; }).find("logit_soft_cap"),
            std::string::npos);
  EXPECT_NE(error([](ModelConfig& c) { c.embedding_scale = std::nan(""); }).find("embedding_scale"),
            std::string::npos);
  EXPECT_NE(error([](ModelConfig& c) { c.rope.scaling = RopeScaling::kLongRope; }).find("factors"),
            std::string::npos);
  EXPECT_NE(error([](ModelConfig& c) { c.local_rope = RopeOptions(); }).find("local_rope"),
            std::string::npos);
}

}  // namespace
}  // namespace drrik
