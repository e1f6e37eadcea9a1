#include "sae/variant.h"

#include <limits>
#include <utility>

#include "drrik/base/error.h"

namespace drrik {
namespace {

struct Entry {
  const char* name;
  std::unique_ptr<const SaeVariant> (*make)();
};

// One line an architecture.
constexpr Entry kVariants[] = {
    {"standard", make_standard_variant},   {"topk", make_topk_variant},
    {"batchtopk", make_batchtopk_variant}, {"matryoshka", make_matryoshka_variant},
    {"jumprelu", make_jumprelu_variant},   {"gated", make_gated_variant},
};

}  // namespace

void SaeVariant::backward(const SparseCoder&, const BatchContext&, LatentEntries& entries,
                          LatentGradients& out) const {
  for (std::size_t i = 0; i < entries.grad.size(); ++i) {
    if (entries.value[i] == 0.0F) entries.grad[i] = 0.0F;
    out.bias += entries.grad[i];
  }
}

SaeSelection select_by_threshold(const SparseCoder& coder) {
  SaeSelection out;
  const auto theta = coder.latent_parameter("threshold");
  out.threshold.assign(theta.begin(), theta.end());
  if (coder.config().rescale_by_decoder_norm) {
    const std::vector<float> norms = coder.decoder_norms();
    for (std::size_t j = 0; j < norms.size(); ++j) {
      out.threshold[j] =
          norms[j] > 0.0F ? out.threshold[j] / norms[j] : std::numeric_limits<float>::infinity();
    }
  }
  return out;
}

std::unique_ptr<const SaeVariant> make_sae_variant(std::string_view name) {
  for (const Entry& entry : kVariants) {
    if (name == entry.name) return entry.make();
  }
  throw_usage("architecture '", name, "'; known: ", join(sparse_coder_architectures()));
}

std::vector<std::string> sparse_coder_architectures() {
  std::vector<std::string> names;
  for (const Entry& entry : kVariants) names.emplace_back(entry.name);
  return names;
}

}  // namespace drrik
