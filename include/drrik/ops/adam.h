#pragma once
// One step of Adam (Kingma & Ba, arXiv:1412.6980) as torch.optim.Adam takes it.

#include <cstdint>
#include <span>

namespace drrik {

struct AdamOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  /// L2 added to the gradient (torch.optim.Adam's weight_decay, not AdamW's). 0: off.
  double weight_decay = 0.0;
  /// AdamW's: parameters shrink by learning_rate · this before each step (torch.optim.AdamW).
  double decoupled_weight_decay = 0.0;
};

/// The step's scalars, formed in double as PyTorch forms them and then rounded to float32.
struct AdamScalars {
  float beta1 = 0.0F;
  float one_minus_beta1 = 0.0F;
  float beta2 = 0.0F;
  float one_minus_beta2 = 0.0F;
  float step_size = 0.0F;              ///< learning_rate / (1 - beta1^step).
  float sqrt_bias_correction2 = 0.0F;  ///< sqrt(1 - beta2^step).
  float eps = 0.0F;
  float weight_decay = 0.0F;
  float keep = 1.0F;  ///< 1 - learning_rate · decoupled_weight_decay.
};
/// step counts from 1. Throws Error(usage) for step < 1.
AdamScalars adam_scalars(const AdamOptions& options, std::int64_t step);

/// m = β1 m + (1-β1) g;  v = β2 v + (1-β2) g²;
/// param = keep · param - step_size · m / (sqrt(v) / sqrt_bias_correction2 + eps).
/// All of one size (Error(data)). In parallel over fixed blocks; thread-safe for disjoint spans.
void adam_step(std::span<float> param, std::span<const float> grad, std::span<float> m,
               std::span<float> v, const AdamScalars& scalars);
void adam_step(std::span<float> param, std::span<const float> grad, std::span<float> m,
               std::span<float> v, std::int64_t step, const AdamOptions& options);

}  // namespace drrik
