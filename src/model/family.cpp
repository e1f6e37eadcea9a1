#include "model/family.h"

#include <array>
#include <cmath>

namespace drrik::detail {

extern const Family kBertFamily;
extern const Family kBloomFamily;
extern const Family kDistilBertFamily;
extern const Family kFalconFamily;
extern const Family kGemmaFamily;
extern const Family kGemma2Family;
extern const Family kGemma3Family;
extern const Family kGemma3TextFamily;
extern const Family kGpt2Family;
extern const Family kGptNeoFamily;
extern const Family kGptNeoXFamily;
extern const Family kLlamaFamily;
extern const Family kMistralFamily;
extern const Family kOlmoFamily;
extern const Family kOlmo2Family;
extern const Family kOptFamily;
extern const Family kPhiFamily;
extern const Family kPhi3Family;
extern const Family kQwen2Family;
extern const Family kQwen3Family;
extern const Family kRobertaFamily;

std::span<const Family* const> families() {
  static const std::array table = {
      &kBertFamily,    &kBloomFamily,  &kDistilBertFamily, &kFalconFamily, &kGemmaFamily,
      &kGemma2Family,  &kGemma3Family, &kGemma3TextFamily, &kGpt2Family,   &kGptNeoFamily,
      &kGptNeoXFamily, &kLlamaFamily,  &kMistralFamily,    &kOlmoFamily,   &kOlmo2Family,
      &kOptFamily,     &kPhiFamily,    &kPhi3Family,       &kQwen2Family,  &kQwen3Family,
      &kRobertaFamily};
  return table;
}

TensorNames tensor_names(const ModelConfig& config) {
  const Family& family = get_family(config.family);
  TensorNames names = family.tensors;
  if (family.refine != nullptr) family.refine(config, names);
  return names;
}

const Family& get_family(std::string_view name) {
  std::vector<std::string> names;
  for (const Family* family : families()) {
    if (family->name == name) return *family;
    names.emplace_back(family->name);
  }
  throw_data("model family '", name, "' is not supported; supported: ", join(names),
             did_you_mean(name, names));
}

std::int64_t get_size(const Json& json, std::string_view key, std::string_view what,
                      std::int64_t limit) {
  const std::int64_t value = get_int(json, key, what);
  if (value < 1 || value > limit) {
    throw_data(what, ": '", key, "' is ", value, ", wanted 1 to ", limit);
  }
  return value;
}

std::int64_t get_size(const Json& json, std::string_view key, std::string_view what,
                      std::int64_t limit, std::int64_t fallback) {
  return find_member(json, key, what) ? get_size(json, key, what, limit) : fallback;
}

double get_positive(const Json& json, std::string_view key, std::string_view what,
                    double fallback) {
  const double value = get_double(json, key, what, fallback);
  if (!(value > 0.0) || !std::isfinite(value)) {
    throw_data(what, ": '", key, "' is ", value, ", wanted a positive number");
  }
  return value;
}

Activation get_activation(const Json& json, std::string_view key, std::string_view what,
                          std::string_view fallback) {
  const std::string name = get_string(json, key, what, fallback);
  const auto found = find_activation(name);
  if (!found) {
    std::vector<std::string> known;
    for (int i = 0; i <= static_cast<int>(kLastActivation); ++i) {
      known.emplace_back(activation_name(static_cast<Activation>(i)));
    }
    throw_data(what, ": '", key, "' is '", name, "', which is not a known activation (",
               join(known), ")", did_you_mean(name, known));
  }
  return *found;
}

void parse_sizes(const Json& json, std::string_view what, ModelConfig& c) {
  c.vocab_size = get_size(json, "vocab_size", what, kMaxVocab);
  c.d_model = get_size(json, "hidden_size", what, kMaxWidth);
  c.n_layers = get_size(json, "num_hidden_layers", what, kMaxLayers);
  c.n_heads = get_size(json, "num_attention_heads", what, kMaxWidth);
}

std::int64_t divided_head_dim(std::string_view what, const ModelConfig& config,
                              std::string_view width_key, std::string_view heads_key) {
  if (config.d_model % config.n_heads != 0) {
    throw_data(what, ": '", width_key, "' is ", config.d_model, ", wanted a multiple of '",
               heads_key, "' (", config.n_heads, ")");
  }
  return config.d_model / config.n_heads;
}

std::int64_t get_window(const Json& json, std::string_view key, std::string_view what,
                        std::int64_t fallback) {
  if (!expect_object(json, what).contains(key)) return fallback;
  return get_size(json, key, what, kMaxPositions, 0);
}

void parse_layer_types(const Json& json, std::string_view what, std::int64_t window,
                       const std::function<bool(std::int64_t)>& sliding, ModelConfig& config) {
  std::vector<std::int64_t> windows(static_cast<std::size_t>(config.n_layers));
  std::vector<std::string> types;
  if (find_member(json, "layer_types", what)) {
    types = get_strings(json, "layer_types", what);
    if (types.size() != windows.size()) {
      throw_data(what, ": 'layer_types' has ", types.size(), " entries, the model ",
                 config.n_layers, " layers");
    }
  }
  bool any = false;
  for (std::size_t i = 0; i < windows.size(); ++i) {
    bool slides = false;
    if (types.empty()) {
      slides = sliding(static_cast<std::int64_t>(i));
    } else if (types[i] == "sliding_attention") {
      slides = true;
    } else if (types[i] != "full_attention") {
      throw_data(what, ": 'layer_types' has '", types[i],
                 "', wanted full_attention or sliding_attention");
    }
    if (!slides) continue;
    if (window == 0)
      throw_data(what, ": layer ", i, " is to slide, but no 'sliding_window' is set");
    windows[i] = window;
    any = true;
  }
  if (any) config.windows = std::move(windows);
}

double get_cap(const Json& json, std::string_view key, std::string_view what, double fallback) {
  if (!expect_object(json, what).contains(key)) return fallback;
  return find_member(json, key, what) ? get_positive(json, key, what, 0.0) : 0.0;
}

}  // namespace drrik::detail
