// A gate decides which latents are active, a magnitude how much (Rajamanoharan et al., "Improving
// dictionary learning with gated sparse autoencoders", 2024):
//
//   π = p + b_enc      m = p · exp(r_mag) + b_mag      f = 1[π > 0] · ReLU(m)
//
// In training the gate alone reconstructs too, through the decoder as it stands (no gradient to the
// decoder and its bias), and is what is penalised: λ Σ ReLU(π).

#include <cmath>

#include "sae/variant.h"

namespace drrik {
namespace {

class Gated final : public SaeVariant {
 public:
  std::string_view name() const override { return "gated"; }
  std::vector<std::string> parameters() const override { return {"r_mag", "b_mag"}; }

  SaeSelection select(const SparseCoder& coder) const override {
    SaeSelection out;
    out.threshold.assign(static_cast<std::size_t>(coder.d_sae()), 0.0F);
    return out;
  }

  void activate(const SparseCoder& coder, std::int64_t latent, std::span<const float> pre,
                std::span<float> value) const override {
    const auto j = static_cast<std::size_t>(latent);
    const float gain = std::exp(coder.latent_parameter("r_mag")[j]);
    const float b_mag = coder.latent_parameter("b_mag")[j];
    const float b_gate = coder.b_enc()[j];
    for (std::size_t i = 0; i < pre.size(); ++i) {
      const float m = (pre[i] - b_gate) * gain + b_mag;
      value[i] = m > 0.0F ? m : 0.0F;
    }
  }

  bool gate_values() const override { return true; }
  void gate(LatentEntries& e) const override {
    for (std::size_t i = 0; i < e.pre.size(); ++i) e.gate_value[i] = e.pre[i];
  }

  bool needs_decoder_norm(const SparsityOptions& sparsity) const override {
    return sparsity.by_decoder_norm;
  }

  void backward(const SparseCoder& coder, const BatchContext& batch, LatentEntries& e,
                LatentGradients& out) const override {
    const SparsityOptions& s = *batch.sparsity;
    const auto j = static_cast<std::size_t>(e.latent);
    const float gain = std::exp(coder.latent_parameter("r_mag")[j]);
    const float b_gate = coder.b_enc()[j];
    const double lambda = s.coefficient / static_cast<double>(batch.rows);
    const double norm = s.by_decoder_norm ? static_cast<double>(e.decoder_norm) : 1.0;
    const auto add = static_cast<float>(lambda * norm);
    double sum = 0.0;
    for (std::size_t i = 0; i < e.grad.size(); ++i) {
      sum += static_cast<double>(e.pre[i]);
      const float gate = e.gate_grad[i] + add;
      const float magnitude = e.value[i] > 0.0F ? e.grad[i] : 0.0F;
      out.bias += gate;
      out.parameter[0] += magnitude * (e.pre[i] - b_gate) * gain;
      out.parameter[1] += magnitude;
      e.grad[i] = gate + magnitude * gain;
    }
    out.penalty = lambda * norm * sum;
    if (s.by_decoder_norm) out.norm = static_cast<float>(lambda * sum);
  }
};

}  // namespace

std::unique_ptr<const SaeVariant> make_gated_variant() { return std::make_unique<Gated>(); }

}  // namespace drrik
