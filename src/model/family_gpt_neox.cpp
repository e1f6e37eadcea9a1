// GPT-NeoX (Pythia): LayerNorm, partial rotary positions, attention and MLP side by side.

#include "model/family.h"

namespace drrik::detail {
namespace {

void parse(const Json& json, std::string_view what, ModelConfig& c) {
  parse_sizes(json, what, c);
  c.n_kv_heads = c.n_heads;
  c.head_dim = divided_head_dim(what, c, "hidden_size", "num_attention_heads");
  c.d_mlp = get_size(json, "intermediate_size", what, kMaxWidth);
  c.max_positions = get_size(json, "max_position_embeddings", what, kMaxPositions, 2048);
  c.norm = NormKind::kLayerNorm;
  c.norm_eps = get_positive(json, "layer_norm_eps", what, 1e-5);
  c.activation = get_activation(json, "hidden_act", what, "gelu");
  c.gated_mlp = false;
  c.positions = PositionKind::kRotary;
  // transformers 4 called them rotary_emb_base and rotary_pct.
  parse_rope(json, what, get_positive(json, "rotary_emb_base", what, 10000.0),
             get_positive(json, "rotary_pct", what, 0.25), c);
  c.parallel_residual = get_bool(json, "use_parallel_residual", what, true);
  c.qkv_bias = get_bool(json, "attention_bias", what, true);
  c.attn_out_bias = c.qkv_bias;
  c.mlp_bias = true;
  c.tied_head = get_bool(json, "tie_word_embeddings", what, false);
}

}  // namespace

extern const Family kGptNeoXFamily;
const Family kGptNeoXFamily = {
    .name = "gpt_neox",
    .parse = parse,
    .tensors = {.prefix = "gpt_neox.",
                .embedding = "embed_in",
                .blocks = "layers",
                .final_norm = "final_layer_norm",
                .head = "embed_out",
                .attn_norm = "input_layernorm",
                .mlp_norm = "post_attention_layernorm",
                .qkv_layout = QkvLayout::kGrouped,
                .qkv = "attention.query_key_value",
                .attn_out = "attention.dense",
                .up = "mlp.dense_h_to_4h",
                .down = "mlp.dense_4h_to_h"},
    .modules = {.attention = "attention", .mlp = "mlp"},
};

}  // namespace drrik::detail
