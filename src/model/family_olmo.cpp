// OLMo: Llama's wiring with LayerNorms that have no weights. OLMo 2: RMSNorm after the modules, and
// over all queries and all keys.

#include "model/family.h"

namespace drrik::detail {
namespace {

void parse_olmo(const Json& json, std::string_view what, ModelConfig& c) {
  parse_llama_like(json, what, {}, c);
  c.norm = NormKind::kLayerNorm;
  c.norm_weights = false;
  c.norm_eps = 1e-5;
  if (find_member(json, "clip_qkv", what)) c.clip_qkv = get_positive(json, "clip_qkv", what, 0.0);
}

void parse_olmo2(const Json& json, std::string_view what, ModelConfig& c) {
  parse_llama_like(json, what, {.norm_eps = 1e-5}, c);
  c.norm_wiring = NormWiring::kOutput;
  c.qk_norm = QkNorm::kWhole;
}

constexpr TensorNames kOlmo2Tensors = [] {
  TensorNames names = kLlamaTensors;
  names.attn_norm = {};
  names.mlp_norm = {};
  names.attn_out_norm = "post_attention_layernorm";
  names.mlp_out_norm = "post_feedforward_layernorm";
  names.q_norm = "self_attn.q_norm";
  names.k_norm = "self_attn.k_norm";
  return names;
}();

}  // namespace

extern const Family kOlmoFamily;
extern const Family kOlmo2Family;
const Family kOlmoFamily = {"olmo", parse_olmo, kLlamaTensors, kLlamaModules};
const Family kOlmo2Family = {"olmo2", parse_olmo2, kOlmo2Tensors, kLlamaModules};

}  // namespace drrik::detail
