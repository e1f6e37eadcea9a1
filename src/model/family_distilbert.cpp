// DistilBERT: BERT without token types, under names of its own.

#include "model/family.h"

namespace drrik::detail {
namespace {

void parse(const Json& json, std::string_view what, ModelConfig& c) {
  c.vocab_size = get_size(json, "vocab_size", what, kMaxVocab);
  c.d_model = get_size(json, "dim", what, kMaxWidth);
  c.n_layers = get_size(json, "n_layers", what, kMaxLayers);
  c.n_heads = get_size(json, "n_heads", what, kMaxWidth);
  c.n_kv_heads = c.n_heads;
  c.head_dim = divided_head_dim(what, c, "dim", "n_heads");
  c.d_mlp = get_size(json, "hidden_dim", what, kMaxWidth);
  // With sinusoidal_pos_embds too the positions are a table in the file.
  c.max_positions = get_size(json, "max_position_embeddings", what, kMaxPositions, 512);
  c.positions = PositionKind::kLearned;
  c.embedding_norm = true;
  c.norm = NormKind::kLayerNorm;
  c.norm_wiring = NormWiring::kPost;
  c.norm_eps = 1e-12;
  c.final_norm = false;
  c.causal = false;
  c.activation = get_activation(json, "activation", what, "gelu");
  c.gated_mlp = false;
  c.qkv_bias = true;
  c.attn_out_bias = true;
  c.mlp_bias = true;
  c.tied_head = get_bool(json, "tie_word_embeddings", what, true);
  c.head_bias = true;
  c.head_transform = c.activation;
}

}  // namespace

extern const Family kDistilBertFamily;
const Family kDistilBertFamily = {
    .name = "distilbert",
    .parse = parse,
    .tensors = {.prefix = "distilbert.",
                .embedding = "embeddings.word_embeddings",
                .positions = "embeddings.position_embeddings",
                .embedding_norm = "embeddings.LayerNorm",
                .blocks = "transformer.layer",
                .head = "vocab_projector",
                .head_bias = "vocab_projector.bias",
                .head_dense = "vocab_transform",
                .head_norm = "vocab_layer_norm",
                .attn_norm = "sa_layer_norm",
                .mlp_norm = "output_layer_norm",
                .q = "attention.q_lin",
                .k = "attention.k_lin",
                .v = "attention.v_lin",
                .attn_out = "attention.out_lin",
                .up = "ffn.lin1",
                .down = "ffn.lin2"},
    .modules = {.attention = "attention", .mlp = "ffn"},
};

}  // namespace drrik::detail
