// ReLU with an L1 penalty: Bricken et al. 2023 (unit decoder rows, λ Σ f), and the form of
// Anthropic's April 2024 update (free decoder rows, λ Σ f ‖d‖).

#include "sae/variant.h"

namespace drrik {
namespace {

class Standard final : public SaeVariant {
 public:
  std::string_view name() const override { return "standard"; }

  SaeSelection select(const SparseCoder& coder) const override {
    SaeSelection out;
    out.threshold.assign(static_cast<std::size_t>(coder.d_sae()), 0.0F);
    return out;
  }

  void activate(const SparseCoder&, std::int64_t, std::span<const float> pre,
                std::span<float> value) const override {
    for (std::size_t i = 0; i < pre.size(); ++i) value[i] = pre[i] > 0.0F ? pre[i] : 0.0F;
  }

  bool needs_decoder_norm(const SparsityOptions& sparsity) const override {
    return sparsity.by_decoder_norm;
  }

  void backward(const SparseCoder&, const BatchContext& batch, LatentEntries& e,
                LatentGradients& out) const override {
    const SparsityOptions& s = *batch.sparsity;
    const double lambda = s.coefficient / static_cast<double>(batch.rows);
    const double norm = s.by_decoder_norm ? static_cast<double>(e.decoder_norm) : 1.0;
    const auto add = static_cast<float>(lambda * norm);
    double sum = 0.0;
    for (std::size_t i = 0; i < e.grad.size(); ++i) {
      if (!(e.value[i] > 0.0F)) {
        e.grad[i] = 0.0F;
        continue;
      }
      sum += static_cast<double>(e.value[i]);
      e.grad[i] += add;
      out.bias += e.grad[i];
    }
    out.penalty = lambda * norm * sum;
    if (s.by_decoder_norm) out.norm = static_cast<float>(lambda * sum);
  }
};

}  // namespace

std::unique_ptr<const SaeVariant> make_standard_variant() { return std::make_unique<Standard>(); }

}  // namespace drrik
