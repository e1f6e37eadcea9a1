// Phi: attention and MLP side by side after one LayerNorm, partial rotary positions, biases
// everywhere. Phi-3: Llama with fused matrices and LongRoPE.

#include "model/family.h"

namespace drrik::detail {
namespace {

void parse_phi(const Json& json, std::string_view what, ModelConfig& c) {
  parse_sizes(json, what, c);
  c.n_kv_heads = get_size(json, "num_key_value_heads", what, kMaxWidth, c.n_heads);
  c.head_dim = divided_head_dim(what, c, "hidden_size", "num_attention_heads");
  c.d_mlp = get_size(json, "intermediate_size", what, kMaxWidth);
  c.max_positions = get_size(json, "max_position_embeddings", what, kMaxPositions, 2048);
  c.norm = NormKind::kLayerNorm;
  c.norm_eps = get_positive(json, "layer_norm_eps", what, 1e-5);
  c.activation = get_activation(json, "hidden_act", what, "gelu_new");
  c.gated_mlp = false;
  c.positions = PositionKind::kRotary;
  parse_rope(json, what, 10000.0, 0.5, c);
  if (get_bool(json, "qk_layernorm", what, false)) c.qk_norm = QkNorm::kPerHead;
  c.parallel_residual = true;
  c.shared_norm = true;
  c.qkv_bias = true;
  c.attn_out_bias = true;
  c.mlp_bias = true;
  c.head_bias = true;
  c.tied_head = get_bool(json, "tie_word_embeddings", what, false);
}

void parse_phi3(const Json& json, std::string_view what, ModelConfig& c) {
  parse_llama_like(json, what, {.max_positions = 4096, .norm_eps = 1e-5}, c, false);
  c.qkv_bias = false;
  c.attn_out_bias = false;
  // What other families keep inside the rotary parameters stands beside them, and two old names
  // mean LongRoPE.
  static constexpr std::string_view kPlaces[] = {"rope_parameters", "rope_scaling"};
  Json full = json;
  for (const std::string_view place : kPlaces) {
    if (!find_member(json, place, what)) continue;
    Json& parameters = full[std::string(place)];
    const std::string where = str(what, ": ", place);
    expect_object(parameters, where);
    std::string type = get_string(parameters, "type", where, "default");
    type = get_string(parameters, "rope_type", where, type);
    if (type == "su" || type == "yarn") type = "longrope";
    parameters["rope_type"] = type;
    parameters["original_max_position_embeddings"] =
        get_size(json, "original_max_position_embeddings", what, kMaxPositions, 4096);
  }
  parse_rope(full, what, 10000.0, 1.0, c);
  const std::int64_t window = get_window(json, "sliding_window", what, 0);
  if (window > 0) c.windows.assign(static_cast<std::size_t>(c.n_layers), window);
}

constexpr TensorNames kPhi3Tensors = [] {
  TensorNames names = kLlamaTensors;
  names.qkv_layout = QkvLayout::kBlocks;
  names.qkv = "self_attn.qkv_proj";
  names.gate_up = "mlp.gate_up_proj";
  return names;
}();

}  // namespace

extern const Family kPhiFamily;
extern const Family kPhi3Family;
const Family kPhiFamily = {
    .name = "phi",
    .parse = parse_phi,
    .tensors = {.prefix = "model.",
                .embedding = "embed_tokens",
                .blocks = "layers",
                .final_norm = "final_layernorm",
                .head = "lm_head",
                .head_bias = "lm_head.bias",
                .attn_norm = "input_layernorm",
                .mlp_norm = "input_layernorm",
                .q = "self_attn.q_proj",
                .k = "self_attn.k_proj",
                .v = "self_attn.v_proj",
                .q_norm = "self_attn.q_layernorm",
                .k_norm = "self_attn.k_layernorm",
                .attn_out = "self_attn.dense",
                .up = "mlp.fc1",
                .down = "mlp.fc2"},
    .modules = {.attention = "self_attn", .mlp = "mlp"},
};
const Family kPhi3Family = {"phi3", parse_phi3, kPhi3Tensors, kLlamaModules};

}  // namespace drrik::detail
