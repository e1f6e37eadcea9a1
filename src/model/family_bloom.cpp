// BLOOM: ALiBi, a norm on the embedding, queries, keys and values together in one matrix.

#include "model/family.h"

namespace drrik::detail {
namespace {

/// A size under its name, or under the one that old files have.
std::int64_t either(const Json& json, std::string_view key, std::string_view other,
                    std::string_view what, std::int64_t limit) {
  return get_size(json, find_member(json, other, what) ? other : key, what, limit);
}

void parse(const Json& json, std::string_view what, ModelConfig& c) {
  c.vocab_size = get_size(json, "vocab_size", what, kMaxVocab);
  c.d_model = either(json, "hidden_size", "n_embed", what, kMaxWidth);
  c.n_layers = either(json, "n_layer", "num_hidden_layers", what, kMaxLayers);
  c.n_heads = either(json, "n_head", "num_attention_heads", what, kMaxWidth);
  c.n_kv_heads = c.n_heads;
  c.head_dim = divided_head_dim(what, c, "hidden_size", "n_head");
  c.d_mlp = 4 * c.d_model;
  c.max_positions = get_size(json, "seq_length", what, kMaxPositions, 2048);
  c.embedding_norm = true;
  c.positions = PositionKind::kAlibi;
  c.norm = NormKind::kLayerNorm;
  c.norm_eps = get_positive(json, "layer_norm_epsilon", what, 1e-5);
  if (get_bool(json, "apply_residual_connection_post_layernorm", what, false)) {
    c.norm_wiring = NormWiring::kPreStream;
  }
  c.activation = Activation::kGeluTanh;
  c.gated_mlp = false;
  c.qkv_bias = true;
  c.attn_out_bias = true;
  c.mlp_bias = true;
  c.tied_head = get_bool(json, "tie_word_embeddings", what, true);
}

}  // namespace

extern const Family kBloomFamily;
const Family kBloomFamily = {
    .name = "bloom",
    .parse = parse,
    .tensors = {.prefix = "transformer.",
                .embedding = "word_embeddings",
                .embedding_norm = "word_embeddings_layernorm",
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
    // The modules around these add the residual stream themselves.
    .modules = {.attention = "self_attention.dense", .mlp = "mlp.dense_4h_to_h", .mlp_in = "mlp"},
};

}  // namespace drrik::detail
