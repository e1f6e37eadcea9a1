// Falcon: rotary positions or ALiBi, one key/value head or several, norms and wiring in three
// generations.

#include "model/family.h"

namespace drrik::detail {
namespace {

void parse(const Json& json, std::string_view what, ModelConfig& c) {
  c.vocab_size = get_size(json, "vocab_size", what, kMaxVocab);
  c.d_model = get_size(json, find_member(json, "n_embed", what) ? "n_embed" : "hidden_size", what,
                       kMaxWidth);
  c.n_layers = get_size(json, "num_hidden_layers", what, kMaxLayers);
  c.n_heads = get_size(json, "num_attention_heads", what, kMaxWidth);
  c.head_dim = divided_head_dim(what, c, "hidden_size", "num_attention_heads");
  const bool newer = get_bool(json, "new_decoder_architecture", what, false);
  if (newer) {
    c.n_kv_heads = get_size(json, "num_kv_heads", what, kMaxWidth, c.n_heads);
  } else {
    c.n_kv_heads = get_bool(json, "multi_query", what, true) ? 1 : c.n_heads;
  }
  c.d_mlp = get_size(json, "ffn_hidden_size", what, kMaxWidth, 4 * c.d_model);
  c.max_positions = get_size(json, "max_position_embeddings", what, kMaxPositions, 2048);
  if (get_bool(json, "alibi", what, false)) {
    c.positions = PositionKind::kAlibi;
    c.rounded_alibi = true;
  } else {
    c.positions = PositionKind::kRotary;
    parse_rope(json, what, 10000.0, 1.0, c);
  }
  c.norm = NormKind::kLayerNorm;
  c.norm_eps = get_positive(json, "layer_norm_epsilon", what, 1e-5);
  c.parallel_residual = get_bool(json, "parallel_attn", what, true);
  if (newer && !c.parallel_residual) {
    throw_data(what, ": 'parallel_attn' is false, wanted true with 'new_decoder_architecture'");
  }
  const std::int64_t norms = get_size(json, "num_ln_in_parallel_attn", what, 2, newer ? 2 : 1);
  if (!newer && norms == 2 && c.parallel_residual) {
    throw_data(what,
               ": 'num_ln_in_parallel_attn' is 2, wanted 1 without "
               "'new_decoder_architecture'");
  }
  c.shared_norm = c.parallel_residual && norms == 1;
  c.activation = get_activation(json, "activation", what, "gelu");
  c.gated_mlp = false;
  const bool bias = get_bool(json, "bias", what, false);
  c.qkv_bias = bias;
  c.attn_out_bias = bias;
  c.mlp_bias = bias;
  c.tied_head = get_bool(json, "tie_word_embeddings", what, true);
}

void refine(const ModelConfig& c, TensorNames& names) {
  if (!c.parallel_residual || c.shared_norm) return;
  names.attn_norm = "ln_attn";
  names.mlp_norm = "ln_mlp";
}

}  // namespace

extern const Family kFalconFamily;
const Family kFalconFamily = {
    .name = "falcon",
    .parse = parse,
    .tensors = {.prefix = "transformer.",
                .embedding = "word_embeddings",
                .blocks = "h",
                .final_norm = "ln_f",
                .head = "lm_head",
                .attn_norm = "input_layernorm",
                .mlp_norm = "post_attention_layernorm",
                .qkv_layout = QkvLayout::kGrouped,
                .qkv = "self_attention.query_key_value",
                .attn_out = "self_attention.dense",
                .up = "mlp.dense_h_to_4h",
                .down = "mlp.dense_4h_to_h"},
    .modules = {.attention = "self_attention", .mlp = "mlp"},
    .refine = refine,
};

}  // namespace drrik::detail
