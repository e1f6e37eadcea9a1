// GPT-2: LayerNorm, learned positions, matrices stored [in, out].

#include "model/family.h"

namespace drrik::detail {
namespace {

void parse(const Json& json, std::string_view what, ModelConfig& c) {
  if (get_bool(json, "add_cross_attention", what, false)) {
    throw_data(what, ": 'add_cross_attention' is true, wanted a decoder without an encoder");
  }
  c.vocab_size = get_size(json, "vocab_size", what, kMaxVocab);
  c.d_model = get_size(json, "n_embd", what, kMaxWidth);
  c.n_layers = get_size(json, "n_layer", what, kMaxLayers);
  c.n_heads = get_size(json, "n_head", what, kMaxWidth);
  c.n_kv_heads = c.n_heads;
  c.head_dim = divided_head_dim(what, c, "n_embd", "n_head");
  c.d_mlp = get_size(json, "n_inner", what, kMaxWidth, 4 * c.d_model);
  c.max_positions = get_size(json, "n_positions", what, kMaxPositions, 1024);
  c.norm = NormKind::kLayerNorm;
  c.norm_eps = get_positive(json, "layer_norm_epsilon", what, 1e-5);
  c.activation = get_activation(json, "activation_function", what, "gelu_new");
  c.gated_mlp = false;
  c.positions = PositionKind::kLearned;
  c.attention_scale = get_bool(json, "scale_attn_weights", what, true) ? 0.0 : 1.0;
  c.scale_by_inverse_layer = get_bool(json, "scale_attn_by_inverse_layer_idx", what, false);
  c.qkv_bias = true;
  c.attn_out_bias = true;
  c.mlp_bias = true;
  c.tied_head = get_bool(json, "tie_word_embeddings", what, true);
}

}  // namespace

extern const Family kGpt2Family;
const Family kGpt2Family = {
    .name = "gpt2",
    .parse = parse,
    .tensors = {.prefix = "transformer.",
                .embedding = "wte",
                .positions = "wpe",
                .blocks = "h",
                .final_norm = "ln_f",
                .head = "lm_head",
                .attn_norm = "ln_1",
                .mlp_norm = "ln_2",
                .qkv_layout = QkvLayout::kBlocks,
                .qkv = "attn.c_attn",
                .attn_out = "attn.c_proj",
                .up = "mlp.c_fc",
                .down = "mlp.c_proj",
                .layout = WeightLayout::kInOut},
    .modules = {.attention = "attn", .mlp = "mlp"},
};

}  // namespace drrik::detail
