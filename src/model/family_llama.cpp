// Llama and its nearest descendants: RMSNorm, rotary positions, grouped-query attention, gated MLP.

#include "model/family.h"

namespace drrik::detail {

void parse_llama_like(const Json& json, std::string_view what, const LlamaDefaults& defaults,
                      ModelConfig& c, bool rope) {
  parse_sizes(json, what, c);
  const bool says_kv = expect_object(json, what).contains("num_key_value_heads");
  c.n_kv_heads = get_size(json, "num_key_value_heads", what, kMaxWidth,
                          says_kv || defaults.kv_heads == 0 ? c.n_heads : defaults.kv_heads);
  if (find_member(json, "head_dim", what)) {
    c.head_dim = get_size(json, "head_dim", what, kMaxWidth);
  } else if (defaults.head_dim > 0) {
    c.head_dim = defaults.head_dim;
  } else if (c.d_model % c.n_heads == 0) {
    c.head_dim = c.d_model / c.n_heads;
  } else {
    throw_data(what, ": 'hidden_size' is ", c.d_model,
               ", wanted a multiple of 'num_attention_heads' (", c.n_heads, ") or a 'head_dim'");
  }
  c.d_mlp = get_size(json, "intermediate_size", what, kMaxWidth);
  c.max_positions =
      get_size(json, "max_position_embeddings", what, kMaxPositions, defaults.max_positions);
  c.norm = NormKind::kRmsNorm;
  c.norm_eps = get_positive(json, "rms_norm_eps", what, defaults.norm_eps);
  c.activation = get_activation(json, defaults.activation_key, what, defaults.activation);
  c.gated_mlp = true;
  c.positions = PositionKind::kRotary;
  if (rope) parse_rope(json, what, 10000.0, 1.0, c);
  c.qkv_bias = get_bool(json, "attention_bias", what, false);
  c.attn_out_bias = c.qkv_bias;
  c.tied_head = get_bool(json, "tie_word_embeddings", what, defaults.tied_head);
}

namespace {

void parse_llama(const Json& json, std::string_view what, ModelConfig& c) {
  parse_llama_like(json, what, {}, c);
  c.mlp_bias = get_bool(json, "mlp_bias", what, false);
}

void set_biases(ModelConfig& c, bool qkv) {
  c.qkv_bias = qkv;
  c.attn_out_bias = false;
}

void parse_mistral(const Json& json, std::string_view what, ModelConfig& c) {
  parse_llama_like(json, what, {.max_positions = 131072, .kv_heads = 8}, c);
  set_biases(c, false);
  const std::int64_t window = get_window(json, "sliding_window", what, 4096);
  if (window > 0) c.windows.assign(static_cast<std::size_t>(c.n_layers), window);
}

/// Qwen slides where told to, from a layer on.
void parse_qwen_windows(const Json& json, std::string_view what, ModelConfig& c) {
  const bool slides = get_bool(json, "use_sliding_window", what, false);
  const std::int64_t window = slides ? get_window(json, "sliding_window", what, 4096) : 0;
  const std::int64_t first = get_int(json, "max_window_layers", what, 28);
  parse_layer_types(
      json, what, window, [&](std::int64_t layer) { return window > 0 && layer >= first; }, c);
}

void parse_qwen2(const Json& json, std::string_view what, ModelConfig& c) {
  parse_llama_like(json, what, {.max_positions = 32768, .kv_heads = 32}, c);
  set_biases(c, true);
  parse_qwen_windows(json, what, c);
}

void parse_qwen3(const Json& json, std::string_view what, ModelConfig& c) {
  parse_llama_like(json, what, {.max_positions = 32768, .kv_heads = 32, .head_dim = 128}, c);
  c.qk_norm = QkNorm::kPerHead;
  parse_qwen_windows(json, what, c);
}

constexpr TensorNames kQwen3Tensors = [] {
  TensorNames names = kLlamaTensors;
  names.q_norm = "self_attn.q_norm";
  names.k_norm = "self_attn.k_norm";
  return names;
}();

}  // namespace

extern const Family kLlamaFamily;
extern const Family kMistralFamily;
extern const Family kQwen2Family;
extern const Family kQwen3Family;
const Family kLlamaFamily = {"llama", parse_llama, kLlamaTensors, kLlamaModules};
const Family kMistralFamily = {"mistral", parse_mistral, kLlamaTensors, kLlamaModules};
const Family kQwen2Family = {"qwen2", parse_qwen2, kLlamaTensors, kLlamaModules};
const Family kQwen3Family = {"qwen3", parse_qwen3, kQwen3Tensors, kLlamaModules};

}  // namespace drrik::detail
