// Gemma 1 to 3: embeddings scaled by the root of their width, norm weights stored minus 1; from the
// second on norms on both sides of every module, windows in some layers, soft caps.

#include <cmath>

#include "model/family.h"

namespace drrik::detail {
namespace {

constexpr LlamaDefaults kGemmaDefaults = {.max_positions = 8192,
                                          .kv_heads = 16,
                                          .head_dim = 256,
                                          .activation_key = "hidden_act",
                                          .activation = "gelu_pytorch_tanh",
                                          .tied_head = true};

void parse_common(const Json& json, std::string_view what, const LlamaDefaults& defaults,
                  ModelConfig& c, bool rope) {
  parse_llama_like(json, what, defaults, c, rope);
  c.embedding_scale = std::sqrt(static_cast<double>(c.d_model));
  c.norm_weight_offset = 1.0;
}

/// Whether these two mean it depends on transformers' attention implementation.
void refuse_bidirectional(const Json& json, std::string_view what) {
  if (get_bool(json, "use_bidirectional_attention", what, false)) {
    throw_data(what, ": 'use_bidirectional_attention' is true, wanted a causal model");
  }
}

void parse_gemma(const Json& json, std::string_view what, ModelConfig& c) {
  parse_common(json, what, kGemmaDefaults, c, true);
  refuse_bidirectional(json, what);
  // The first official files said "gelu" and meant its approximation.
  if (c.activation == Activation::kGelu) c.activation = Activation::kGeluTanh;
}

/// What Gemma 2 and 3 share.
void parse_sandwich(const Json& json, std::string_view what, LlamaDefaults defaults, ModelConfig& c,
                    bool rope) {
  defaults.kv_heads = 4;
  defaults.activation_key = "hidden_activation";
  parse_common(json, what, defaults, c, rope);
  c.norm_wiring = NormWiring::kSandwich;
  c.attention_scale = 1.0 / std::sqrt(get_positive(json, "query_pre_attn_scalar", what, 256.0));
}

void parse_gemma2(const Json& json, std::string_view what, ModelConfig& c) {
  parse_sandwich(json, what, kGemmaDefaults, c, true);
  refuse_bidirectional(json, what);
  c.attention_soft_cap = get_cap(json, "attn_logit_softcapping", what, 50.0);
  c.logit_soft_cap = get_cap(json, "final_logit_softcapping", what, 30.0);
  parse_layer_types(
      json, what, get_window(json, "sliding_window", what, 4096),
      [](std::int64_t layer) { return layer % 2 == 0; }, c);
}

/// Layers with a window turn by rope_local_base_freq and are never scaled.
void parse_gemma3_rope(const Json& json, std::string_view what, ModelConfig& c) {
  static const Json kEmpty = Json::object();
  const Json* both = find_member(json, "rope_parameters", what);
  if (!both) both = &kEmpty;
  const std::string where = str(what, ": rope_parameters");
  const auto part = [&](std::string_view kind, const Json* otherwise, std::string_view theta_key,
                        double theta) {
    const Json* found = find_member(*both, kind, where);
    if (!found) found = otherwise ? otherwise : &kEmpty;
    return parse_rope_parameters(*found, str(where, ".", kind),
                                 get_positive(json, theta_key, what, theta), 1.0, c);
  };
  c.rope = part("full_attention", find_member(json, "rope_scaling", what), "rope_theta", 1e6);
  c.local_rope = part("sliding_attention", nullptr, "rope_local_base_freq", 1e4);
}

void parse_gemma3_text(const Json& json, std::string_view what, ModelConfig& c) {
  // The files of the multimodal models leave out what is the class's default.
  Json full = expect_object(json, what);
  const std::pair<const char*, std::int64_t> sizes[] = {{"vocab_size", 262208},
                                                        {"hidden_size", 2304},
                                                        {"intermediate_size", 9216},
                                                        {"num_hidden_layers", 26},
                                                        {"num_attention_heads", 8}};
  for (const auto& [key, size] : sizes) {
    if (!find_member(full, key, what)) full[key] = size;
  }
  LlamaDefaults defaults = kGemmaDefaults;
  defaults.max_positions = 131072;
  parse_sandwich(full, what, defaults, c, false);
  parse_gemma3_rope(json, what, c);
  c.qk_norm = QkNorm::kPerHead;
  c.logit_soft_cap = get_cap(json, "final_logit_softcapping", what, 0.0);
  std::int64_t window = get_window(json, "sliding_window", what, 4096);
  if (get_bool(json, "use_bidirectional_attention", what, false)) {
    c.causal = false;
    if (window > 0) window = window / 2 + 1;
  }
  const std::int64_t pattern = get_size(json, "sliding_window_pattern", what, kMaxLayers, 6);
  parse_layer_types(
      json, what, window, [&](std::int64_t layer) { return (layer + 1) % pattern != 0; }, c);
}

void parse_gemma3(const Json& json, std::string_view what, ModelConfig& c) {
  static const Json kEmpty = Json::object();
  const Json* text = find_member(json, "text_config", what);
  parse_gemma3_text(text ? *text : kEmpty, str(what, ": text_config"), c);
  c.tied_head = get_bool(json, "tie_word_embeddings", what, c.tied_head);
}

constexpr TensorNames kSandwichTensors = [] {
  TensorNames names = kLlamaTensors;
  names.mlp_norm = "pre_feedforward_layernorm";
  names.attn_out_norm = "post_attention_layernorm";
  names.mlp_out_norm = "post_feedforward_layernorm";
  names.q_norm = "self_attn.q_norm";
  names.k_norm = "self_attn.k_norm";
  return names;
}();

constexpr TensorNames kMultimodalTensors = [] {
  TensorNames names = kSandwichTensors;
  names.prefix = "model.language_model.";
  return names;
}();

}  // namespace

extern const Family kGemmaFamily;
extern const Family kGemma2Family;
extern const Family kGemma3TextFamily;
extern const Family kGemma3Family;
const Family kGemmaFamily = {"gemma", parse_gemma, kLlamaTensors, kLlamaModules};
const Family kGemma2Family = {"gemma2", parse_gemma2, kSandwichTensors, kLlamaModules};
const Family kGemma3TextFamily = {"gemma3_text", parse_gemma3_text, kSandwichTensors,
                                  kLlamaModules};
const Family kGemma3Family = {"gemma3", parse_gemma3, kMultimodalTensors, kLlamaModules};

}  // namespace drrik::detail
