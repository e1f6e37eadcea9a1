// The k · B largest pre-activations of a batch (Bussmann et al., "BatchTopK sparse autoencoders",
// 2024). A single row is encoded with a threshold, the running mean of the batches' smallest kept
// value, as a JumpReLU.

#include "drrik/base/error.h"
#include "sae/variant.h"

namespace drrik {
namespace {

class BatchTopK final : public SaeVariant {
 public:
  explicit BatchTopK(const char* name) : name_(name) {}

  std::string_view name() const override { return name_; }
  std::vector<std::string> parameters() const override { return {"threshold"}; }

  void validate(const SparseCoderConfig& config) const override {
    if (config.k < 1 || config.k > config.d_sae) {
      throw_usage("k: got ", config.k, ", wanted 1 to d_sae = ", config.d_sae);
    }
    if (!config.relu_after_topk) throw_usage(name_, ": relu_after_topk cannot be off");
  }

  SaeSelection select(const SparseCoder& coder) const override {
    SaeSelection out = select_by_threshold(coder);
    for (float& t : out.threshold) t = t > 0.0F ? t : 0.0F;
    return out;
  }

  SaeSelection select_batch(const SparseCoder& coder, const BatchContext&) const override {
    SaeSelection out;
    out.kind = SaeSelection::Kind::kBatchTopK;
    out.k = coder.config().k;
    if (coder.config().rescale_by_decoder_norm) out.scale = coder.decoder_norms();
    return out;
  }

  void activate(const SparseCoder&, std::int64_t, std::span<const float> pre,
                std::span<float> value) const override {
    for (std::size_t i = 0; i < pre.size(); ++i) value[i] = pre[i];
  }

  bool averages_threshold() const override { return true; }
  std::string_view inference_architecture() const override { return "jumprelu"; }

 private:
  const char* name_;
};

}  // namespace

std::unique_ptr<const SaeVariant> make_batchtopk_variant() {
  return std::make_unique<BatchTopK>("batchtopk");
}

// Nested prefixes of latents that each reconstruct (Bussmann et al., "Learning multi-level features
// with matryoshka SAEs", 2025): the activation is BatchTopK's; the prefixes are the stepper's.
std::unique_ptr<const SaeVariant> make_matryoshka_variant() {
  return std::make_unique<BatchTopK>("matryoshka");
}

}  // namespace drrik
