// Llama: RMSNorm, rotary positions, grouped-query attention, gated MLP.

#include "model/family.h"

namespace drrik::detail {
namespace {

void parse(const Json& json, std::string_view what, ModelConfig& c) {
  c.vocab_size = get_size(json, "vocab_size", what, kMaxVocab);
  c.d_model = get_size(json, "hidden_size", what, kMaxWidth);
  c.n_layers = get_size(json, "num_hidden_layers", what, kMaxLayers);
  c.n_heads = get_size(json, "num_attention_heads", what, kMaxWidth);
  c.n_kv_heads = get_size(json, "num_key_value_heads", what, kMaxWidth, c.n_heads);
  if (c.d_model % c.n_heads != 0 && !find_member(json, "head_dim", what)) {
    throw_data(what, ": 'hidden_size' is ", c.d_model,
               ", wanted a multiple of 'num_attention_heads' (", c.n_heads, ") or a 'head_dim'");
  }
  c.head_dim = get_size(json, "head_dim", what, kMaxWidth, c.d_model / c.n_heads);
  c.d_mlp = get_size(json, "intermediate_size", what, kMaxWidth);
  c.max_positions = get_size(json, "max_position_embeddings", what, kMaxPositions, 2048);
  c.norm = NormKind::kRmsNorm;
  c.norm_eps = get_positive(json, "rms_norm_eps", what, 1e-6);
  c.activation = get_activation(json, "hidden_act", what, "silu");
  c.gated_mlp = true;
  c.positions = PositionKind::kRotary;
  parse_rope(json, what, 10000.0, 1.0, c);
  c.qkv_bias = get_bool(json, "attention_bias", what, false);
  c.attn_out_bias = c.qkv_bias;
  c.mlp_bias = get_bool(json, "mlp_bias", what, false);
  c.tied_head = get_bool(json, "tie_word_embeddings", what, false);
}

}  // namespace

extern const Family kLlamaFamily;
const Family kLlamaFamily = {
    .name = "llama",
    .parse = parse,
    .tensors = {.prefix = "model.",
                .embedding = "embed_tokens",
                .positions = {},
                .blocks = "layers",
                .final_norm = "norm",
                .head = "lm_head",
                .attn_norm = "input_layernorm",
                .mlp_norm = "post_attention_layernorm",
                .qkv_layout = QkvLayout::kSeparate,
                .qkv = {},
                .q = "self_attn.q_proj",
                .k = "self_attn.k_proj",
                .v = "self_attn.v_proj",
                .attn_out = "self_attn.o_proj",
                .gate = "mlp.gate_proj",
                .up = "mlp.up_proj",
                .down = "mlp.down_proj",
                .layout = WeightLayout::kOutIn},
    .modules = {.attention = "self_attn", .mlp = "mlp"},
};

}  // namespace drrik::detail
