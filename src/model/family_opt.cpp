// OPT: learned positions from the third row on; the 350m model has its norms after the residual add
// and a token embedding of another width.

#include "model/family.h"

namespace drrik::detail {
namespace {

void parse(const Json& json, std::string_view what, ModelConfig& c) {
  parse_sizes(json, what, c);
  c.n_kv_heads = c.n_heads;
  c.head_dim = divided_head_dim(what, c, "hidden_size", "num_attention_heads");
  c.d_mlp = get_size(json, "ffn_dim", what, kMaxWidth);
  c.max_positions = get_size(json, "max_position_embeddings", what, kMaxPositions, 2048);
  c.embedding_dim = get_size(json, "word_embed_proj_dim", what, kMaxWidth, c.d_model);
  c.positions = PositionKind::kLearned;
  c.position_offset = 2;
  c.norm = NormKind::kLayerNorm;
  c.norm_eps = 1e-5;
  c.norm_weights = get_bool(json, "layer_norm_elementwise_affine", what, true);
  const bool before = get_bool(json, "do_layer_norm_before", what, true);
  c.norm_wiring = before ? NormWiring::kPre : NormWiring::kPost;
  c.final_norm = before && !get_bool(json, "_remove_final_layer_norm", what, false);
  c.activation = get_activation(json, "activation_function", what, "relu");
  c.gated_mlp = false;
  const bool bias = get_bool(json, "enable_bias", what, true);
  c.qkv_bias = bias;
  c.attn_out_bias = bias;
  c.mlp_bias = bias;
  c.tied_head = get_bool(json, "tie_word_embeddings", what, true);
}

}  // namespace

extern const Family kOptFamily;
const Family kOptFamily = {
    .name = "opt",
    .parse = parse,
    .tensors = {.prefix = "model.",
                .embedding = "decoder.embed_tokens",
                .positions = "decoder.embed_positions",
                .project_in = "decoder.project_in",
                .project_out = "decoder.project_out",
                .blocks = "decoder.layers",
                .final_norm = "decoder.final_layer_norm",
                .head = "lm_head",
                .attn_norm = "self_attn_layer_norm",
                .mlp_norm = "final_layer_norm",
                .q = "self_attn.q_proj",
                .k = "self_attn.k_proj",
                .v = "self_attn.v_proj",
                .attn_out = "self_attn.out_proj",
                .up = "fc1",
                .down = "fc2"},
    .modules = {.attention = "self_attn", .mlp = "fc2", .mlp_in = "fc1"},
};

}  // namespace drrik::detail
