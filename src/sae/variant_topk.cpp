// The k largest pre-activations of a row (Gao et al., "Scaling and evaluating sparse autoencoders",
// 2024). Dead latents are revived by the auxiliary loss, which is the stepper's.

#include <limits>

#include "drrik/base/error.h"
#include "sae/variant.h"

namespace drrik {
namespace {

class TopK final : public SaeVariant {
 public:
  std::string_view name() const override { return "topk"; }

  void validate(const SparseCoderConfig& config) const override {
    if (config.k < 1 || config.k > config.d_sae) {
      throw_usage("k: got ", config.k, ", wanted 1 to d_sae = ", config.d_sae);
    }
  }

  SaeSelection select(const SparseCoder& coder) const override {
    const SparseCoderConfig& config = coder.config();
    SaeSelection out;
    out.kind = SaeSelection::Kind::kTopK;
    out.k = config.k;
    out.floor = config.relu_after_topk ? 0.0F : -std::numeric_limits<float>::infinity();
    if (config.rescale_by_decoder_norm) out.scale = coder.decoder_norms();
    return out;
  }

  void activate(const SparseCoder&, std::int64_t, std::span<const float> pre,
                std::span<float> value) const override {
    for (std::size_t i = 0; i < pre.size(); ++i) value[i] = pre[i];
  }
};

}  // namespace

std::unique_ptr<const SaeVariant> make_topk_variant() { return std::make_unique<TopK>(); }

}  // namespace drrik
