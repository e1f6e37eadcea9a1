// BERT and RoBERTa: encoders with their norms after the residual adds, learned positions, and token
// types of which only the first is used. RoBERTa counts its positions from its padding id on.

#include "model/family.h"

namespace drrik::detail {
namespace {

void parse_encoder(const Json& json, std::string_view what, std::int64_t positions,
                   ModelConfig& c) {
  for (const std::string_view key : {"is_decoder", "add_cross_attention"}) {
    if (get_bool(json, key, what, false)) {
      throw_data(what, ": '", key,
                 "' is true, wanted an encoder; models of this family that were "
                 "made decoders are not supported");
    }
  }
  const std::string kind = get_string(json, "position_embedding_type", what, "absolute");
  if (kind != "absolute") {
    throw_data(what, ": 'position_embedding_type' is '", kind,
               "', wanted 'absolute'; relative positions are not supported");
  }
  parse_sizes(json, what, c);
  c.n_kv_heads = c.n_heads;
  c.head_dim = divided_head_dim(what, c, "hidden_size", "num_attention_heads");
  c.d_mlp = get_size(json, "intermediate_size", what, kMaxWidth);
  c.max_positions = positions;
  c.positions = PositionKind::kLearned;
  c.token_types = get_size(json, "type_vocab_size", what, kMaxVocab, 2);
  c.embedding_norm = true;
  c.norm = NormKind::kLayerNorm;
  c.norm_wiring = NormWiring::kPost;
  c.norm_eps = get_positive(json, "layer_norm_eps", what, 1e-12);
  c.final_norm = false;
  c.causal = false;
  c.activation = get_activation(json, "hidden_act", what, "gelu");
  c.gated_mlp = false;
  c.qkv_bias = true;
  c.attn_out_bias = true;
  c.mlp_bias = true;
  c.tied_head = get_bool(json, "tie_word_embeddings", what, true);
  c.head_bias = true;
}

void parse_bert(const Json& json, std::string_view what, ModelConfig& c) {
  parse_encoder(json, what, get_size(json, "max_position_embeddings", what, kMaxPositions, 512), c);
  c.head_transform = c.activation;
}

void parse_roberta(const Json& json, std::string_view what, ModelConfig& c) {
  const std::int64_t pad = get_int(json, "pad_token_id", what, 1);
  const std::int64_t rows = get_size(json, "max_position_embeddings", what, kMaxPositions, 512);
  if (pad < 0 || pad >= rows - 1) {
    throw_data(what, ": 'pad_token_id' is ", pad, ", wanted 0 to 'max_position_embeddings' - 2 (",
               rows - 2, "), as positions are counted from it on");
  }
  parse_encoder(json, what, rows - pad - 1, c);
  c.position_offset = pad + 1;
  c.uncounted_id = static_cast<std::int32_t>(pad);
  c.head_transform = Activation::kGelu;
}

constexpr TensorNames kBertTensors = {.prefix = "bert.",
                                      .embedding = "embeddings.word_embeddings",
                                      .positions = "embeddings.position_embeddings",
                                      .token_types = "embeddings.token_type_embeddings",
                                      .embedding_norm = "embeddings.LayerNorm",
                                      .blocks = "encoder.layer",
                                      .head = "cls.predictions.decoder",
                                      .head_bias = "cls.predictions.bias",
                                      .head_dense = "cls.predictions.transform.dense",
                                      .head_norm = "cls.predictions.transform.LayerNorm",
                                      .attn_norm = "attention.output.LayerNorm",
                                      .mlp_norm = "output.LayerNorm",
                                      .q = "attention.self.query",
                                      .k = "attention.self.key",
                                      .v = "attention.self.value",
                                      .attn_out = "attention.output.dense",
                                      .up = "intermediate.dense",
                                      .down = "output.dense"};

constexpr TensorNames roberta_tensors() {
  TensorNames names = kBertTensors;
  names.prefix = "roberta.";
  names.head = "lm_head.decoder";
  names.head_bias = "lm_head.bias";
  names.head_dense = "lm_head.dense";
  names.head_norm = "lm_head.layer_norm";
  return names;
}

// A head that is not the embedding has a bias of its own as well; the other one then idles.
void refine(const ModelConfig& config, TensorNames& names) {
  if (config.tied_head) return;
  names.head_bias =
      config.family == "bert" ? "cls.predictions.decoder.bias" : "lm_head.decoder.bias";
}

// The modules named "output" add the residual stream and normalise themselves.
constexpr ModulePaths kBertModules = {
    .attention = "attention.output.dense", .mlp = "output.dense", .mlp_in = "intermediate"};

}  // namespace

extern const Family kBertFamily;
const Family kBertFamily = {.name = "bert",
                            .parse = parse_bert,
                            .tensors = kBertTensors,
                            .modules = kBertModules,
                            .refine = refine};

extern const Family kRobertaFamily;
const Family kRobertaFamily = {.name = "roberta",
                               .parse = parse_roberta,
                               .tensors = roberta_tensors(),
                               .modules = kBertModules,
                               .refine = refine};

}  // namespace drrik::detail
