#include "drrik/sae/control_vector.h"

#include <array>
#include <map>

#include "drrik/base/error.h"
#include "drrik/io/gguf.h"
#include "drrik/ops/convert.h"
#include "io/lens_names.h"

namespace drrik {

std::vector<float> sum_directions(const Sae& sae, std::span<const SteeredFeature> features) {
  if (features.empty()) throw_usage("no feature given");
  std::vector<double> sum(static_cast<std::size_t>(sae.d_out()));
  for (const auto& [feature, strength] : features) {
    const std::vector<float> direction = sae.decoder_direction(feature);
    for (std::size_t c = 0; c < sum.size(); ++c) {
      sum[c] += strength * static_cast<double>(direction[c]);
    }
  }
  std::vector<float> out(sum.size());
  for (std::size_t c = 0; c < sum.size(); ++c) out[c] = static_cast<float>(sum[c]);
  if (has_nonfinite(out)) throw_usage("the sum of the directions is not finite");
  return out;
}

std::int64_t control_layer(const SaeRecord& record) {
  std::string hook = record.hook_name;
  std::int64_t layer = record.layer;
  // A transcoder's directions belong where it writes.
  if (const auto out = detail::split_lens_name(record.foreign_hook_name_out)) {
    layer = out->layer;
    hook = detail::find_own_place(out->place);
  }
  if (layer < 0) throw_usage("the autoencoder does not say its layer; --layer names it");
  if (hook == "resid_pre") {
    --layer;
  } else if (hook != "resid_post" && hook != "mlp_out" && hook != "mlp_add") {
    throw_usage("a control vector is added to a block's output, where the autoencoder's hook '",
                hook, "' has no part; --layer N adds it behind block N all the same");
  }
  if (layer < 1) {
    throw_usage("llama.cpp adds control vectors behind block 1 and later; this one belongs ",
                layer == 0 ? "behind block 0" : "before block 0");
  }
  return layer;
}

void write_control_vector(std::span<const float> direction, std::int64_t layer,
                          const std::string& model_hint, const std::filesystem::path& path) {
  if (layer < 1) throw_usage("layer ", layer, ": llama.cpp has control vectors from layer 1 on");
  const Tensor values =
      Tensor::from<float>(direction, {static_cast<std::int64_t>(direction.size())});
  const std::array<NamedTensor, 1> tensors = {{{str("direction.", layer), &values}}};
  const std::map<std::string, GgufValue> metadata = {
      {"general.architecture", std::string("controlvector")},
      {"controlvector.model_hint", model_hint},
      {"controlvector.layer_count", static_cast<std::int32_t>(tensors.size())}};
  write_gguf(path, metadata, tensors);
}

}  // namespace drrik
