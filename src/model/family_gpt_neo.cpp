// GPT-Neo: GPT-2's wiring, with local attention in some layers and scores that are not scaled.

#include "model/family.h"

namespace drrik::detail {
namespace {

/// attention_types is a list of [pattern, repeats]; a pattern lists "global" and "local".
void parse_windows(const Json& json, std::string_view what, ModelConfig& c) {
  static const Json kDefault = Json::parse(R"([[["global", "local"], 12]])");
  const std::string where = str(what, ": attention_types");
  const Json* found = find_member(json, "attention_types", what);
  const std::int64_t window = get_size(json, "window_size", what, kMaxPositions, 256);
  const auto layers = static_cast<std::size_t>(c.n_layers);
  for (const Json& item : expect_array(found ? *found : kDefault, where)) {
    if (expect_array(item, where).size() != 2) {
      throw_data(where, ": an entry has ", item.size(), " parts, wanted [pattern, repeats]");
    }
    const std::int64_t repeats = json_int(item[1], where);
    const Json& pattern = expect_array(item[0], where);
    // Every round adds a layer or is the last, however many are asked for.
    for (std::int64_t i = 0; i < repeats && !pattern.empty(); ++i) {
      for (const Json& kind : pattern) {
        const std::string name = json_string(kind, where);
        if (name != "global" && name != "local") {
          throw_data(where, " has '", name, "', wanted global or local");
        }
        if (c.windows.size() == layers) {
          throw_data(where, " is for more layers than 'num_layers' (", layers, ")");
        }
        c.windows.push_back(name == "local" ? window : 0);
      }
    }
  }
  if (c.windows.size() != layers) {
    throw_data(where, " is for ", c.windows.size(), " layers, 'num_layers' is ", layers);
  }
}

void parse(const Json& json, std::string_view what, ModelConfig& c) {
  c.vocab_size = get_size(json, "vocab_size", what, kMaxVocab);
  c.d_model = get_size(json, "hidden_size", what, kMaxWidth);
  c.n_layers = get_size(json, "num_layers", what, kMaxLayers);
  c.n_heads = get_size(json, "num_heads", what, kMaxWidth);
  c.n_kv_heads = c.n_heads;
  c.head_dim = divided_head_dim(what, c, "hidden_size", "num_heads");
  c.d_mlp = get_size(json, "intermediate_size", what, kMaxWidth, 4 * c.d_model);
  c.max_positions = get_size(json, "max_position_embeddings", what, kMaxPositions, 2048);
  parse_windows(json, what, c);
  c.norm = NormKind::kLayerNorm;
  c.norm_eps = get_positive(json, "layer_norm_epsilon", what, 1e-5);
  c.activation = get_activation(json, "activation_function", what, "gelu_new");
  c.gated_mlp = false;
  c.positions = PositionKind::kLearned;
  c.attention_scale = 1.0;
  c.attn_out_bias = true;
  c.mlp_bias = true;
  c.tied_head = get_bool(json, "tie_word_embeddings", what, true);
}

}  // namespace

extern const Family kGptNeoFamily;
const Family kGptNeoFamily = {
    .name = "gpt_neo",
    .parse = parse,
    .tensors = {.prefix = "transformer.",
                .embedding = "wte",
                .positions = "wpe",
                .blocks = "h",
                .final_norm = "ln_f",
                .head = "lm_head",
                .attn_norm = "ln_1",
                .mlp_norm = "ln_2",
                .q = "attn.attention.q_proj",
                .k = "attn.attention.k_proj",
                .v = "attn.attention.v_proj",
                .attn_out = "attn.attention.out_proj",
                .up = "mlp.c_fc",
                .down = "mlp.c_proj"},
    .modules = {.attention = "attn", .mlp = "mlp"},
};

}  // namespace drrik::detail
