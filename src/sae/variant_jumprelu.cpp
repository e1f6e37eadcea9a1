// f = h · 1[h > θ] with a learned θ for each latent (Rajamanoharan et al., "Jumping ahead", 2024;
// Anthropic's January 2025 update). θ has a gradient through a kernel of width ε around it.

#include <algorithm>
#include <cmath>
#include <limits>

#include "drrik/base/error.h"
#include "sae/variant.h"

namespace drrik {
namespace {

class JumpRelu final : public SaeVariant {
 public:
  std::string_view name() const override { return "jumprelu"; }
  std::vector<std::string> parameters() const override { return {"threshold"}; }

  void initialize(SparseCoder& coder, const SparseCoderInit& init) const override {
    std::ranges::fill(coder.latent_parameter("threshold"), static_cast<float>(init.threshold));
  }

  SaeSelection select(const SparseCoder& coder) const override {
    return select_by_threshold(coder);
  }

  SaeSelection select_batch(const SparseCoder& coder, const BatchContext& batch) const override {
    SaeSelection out = select(coder);
    const SparsityOptions& s = *batch.sparsity;
    for (std::size_t j = 0; j < out.threshold.size(); ++j) {
      // Entries of the kernel's lower half only have a gradient; so have all of a dead latent that
      // is pulled up.
      float lowest = out.threshold[j] - static_cast<float>(s.bandwidth / 2);
      if (pulls(batch, j)) lowest = -std::numeric_limits<float>::infinity();
      out.threshold[j] = std::nextafter(lowest, -std::numeric_limits<float>::infinity());
    }
    return out;
  }

  void activate(const SparseCoder& coder, std::int64_t latent, std::span<const float> pre,
                std::span<float> value) const override {
    const float theta = coder.latent_parameter("threshold")[static_cast<std::size_t>(latent)];
    for (std::size_t i = 0; i < pre.size(); ++i) value[i] = pre[i] > theta ? pre[i] : 0.0F;
  }

  // A jump is at a positive number (SAELens clamps it before each step).
  void before_step(SparseCoder& coder) const override {
    for (float& t : coder.latent_parameter("threshold")) t = std::max(t, 0.0F);
  }

  bool needs_decoder_norm(const SparsityOptions& s) const override {
    return s.jumprelu == SparsityOptions::JumpRelu::kTanh;
  }

  void backward(const SparseCoder& coder, const BatchContext& batch, LatentEntries& e,
                LatentGradients& out) const override {
    const SparsityOptions& s = *batch.sparsity;
    const auto j = static_cast<std::size_t>(e.latent);
    const auto theta = static_cast<double>(coder.latent_parameter("threshold")[j]);
    const double inverse_rows = 1.0 / static_cast<double>(batch.rows);
    const double lambda = s.coefficient * inverse_rows;
    const bool tanh_form = s.jumprelu == SparsityOptions::JumpRelu::kTanh;
    const bool pulled = pulls(batch, j);
    const double norm = static_cast<double>(e.decoder_norm);
    // dL/d(step of an entry of row r): the penalty counts active entries.
    const auto step_weight = [&](std::int32_t r, bool active) {
      switch (s.jumprelu) {
        case SparsityOptions::JumpRelu::kL0:
          return lambda;
        case SparsityOptions::JumpRelu::kTarget:
          // dictionary_learning takes the step of f, whose kernel has no lower half.
          return active ? 2.0 * lambda * (batch.l0 / s.target_l0 - 1.0) / s.target_l0 : 0.0;
        case SparsityOptions::JumpRelu::kQuadratic:
          return 4.0 * lambda *
                 (static_cast<double>(batch.row_l0[static_cast<std::size_t>(r)]) - s.target_l0) /
                 s.target_l0;
        case SparsityOptions::JumpRelu::kTanh:
          break;
      }
      return 0.0;
    };
    double theta_grad = 0.0;
    double norm_grad = 0.0;
    double bias_grad = 0.0;
    double pull = 0.0;
    for (std::size_t i = 0; i < e.grad.size(); ++i) {
      const auto h = static_cast<double>(e.pre[i]);
      const bool active = h > theta;
      double df = static_cast<double>(e.grad[i]);  // dL/df
      if (tanh_form) {
        const double f = active ? h : 0.0;
        const double t = std::tanh(s.tanh_scale * f * norm);
        const double slope = lambda * s.tanh_scale * (1.0 - t * t);
        out.penalty += lambda * t;
        df += slope * norm;
        norm_grad += slope * f;
      }
      if (active && s.jumprelu == SparsityOptions::JumpRelu::kL0) out.penalty += lambda;
      double dh = active ? df : 0.0;
      if (std::abs(h - theta) < s.bandwidth / 2) {
        const double kernel = (df * theta + step_weight(e.row[i], active)) / s.bandwidth;
        theta_grad -= kernel;
        if (s.gradient_to_input) dh += kernel;
      }
      if (pulled && h < theta) {
        const double weight = s.preact_coefficient * inverse_rows;
        pull += theta - h;
        theta_grad += weight * norm;
        dh -= weight * norm;
      }
      e.grad[i] = static_cast<float>(dh);
      bias_grad += dh;
    }
    if (pull != 0.0) {
      const double weight = s.preact_coefficient * inverse_rows;
      out.penalty += weight * pull * norm;
      norm_grad += weight * pull;
    }
    out.bias = static_cast<float>(bias_grad);
    out.norm = static_cast<float>(norm_grad);
    out.parameter[0] = static_cast<float>(theta_grad);
  }

  double batch_penalty(const BatchContext& batch) const override {
    const SparsityOptions& s = *batch.sparsity;
    if (s.jumprelu == SparsityOptions::JumpRelu::kTarget) {
      const double off = batch.l0 / s.target_l0 - 1.0;
      return s.coefficient * off * off;
    }
    if (s.jumprelu != SparsityOptions::JumpRelu::kQuadratic) return 0.0;
    double sum = 0.0;
    for (const std::int32_t l0 : batch.row_l0) {
      const double off = static_cast<double>(l0) - s.target_l0;
      sum += off * off;
    }
    return s.coefficient * 2.0 / s.target_l0 * sum / static_cast<double>(batch.rows);
  }

 private:
  static bool pulls(const BatchContext& batch, std::size_t latent) {
    return batch.sparsity->jumprelu == SparsityOptions::JumpRelu::kTanh &&
           batch.sparsity->preact_coefficient > 0 && !batch.dead.empty() && batch.dead[latent] != 0;
  }
};

}  // namespace

std::unique_ptr<const SaeVariant> make_jumprelu_variant() { return std::make_unique<JumpRelu>(); }

}  // namespace drrik
