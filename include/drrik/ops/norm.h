#pragma once
// Normalisation of rows. Statistics are float32, summed in a fixed order.

#include <span>

#include "drrik/ops/heads.h"
#include "drrik/tensor/dtype.h"
#include "drrik/tensor/mat_view.h"

namespace drrik {

/// out = (x - mean) / sqrt(var + eps) · gamma + beta, var the biased variance of the row (as
/// torch.nn.LayerNorm). gamma, beta [cols] or empty (1 and 0).
/// x, out [n, cols]; out may be x itself. Throws Error(data) when sizes differ. Thread-safe.
void layer_norm(MatView<const float> x, std::span<const float> gamma, std::span<const float> beta,
                float eps, MatView<float> out);
/// Rounded to bfloat16, for a product that would round its input anyway.
void layer_norm(MatView<const float> x, std::span<const float> gamma, std::span<const float> beta,
                float eps, MatView<BF16> out);

struct RmsNormOptions {
  float eps = 1e-6F;
  /// Added to gamma (Gemma stores the weight minus 1).
  float gamma_offset = 0.0F;
};

/// out = x / sqrt(mean(x²) + eps) · (gamma + gamma_offset). gamma [cols] or empty.
/// x, out [n, cols]; out may be x itself. Throws Error(data) when sizes differ. Thread-safe.
void rms_norm(MatView<const float> x, std::span<const float> gamma, RmsNormOptions options,
              MatView<float> out);
void rms_norm(MatView<const float> x, std::span<const float> gamma, RmsNormOptions options,
              MatView<BF16> out);

/// Every head of every row by itself, in place; gamma and beta [x.dim] or empty.
void layer_norm(const Heads<float>& x, std::span<const float> gamma, std::span<const float> beta,
                float eps);
void rms_norm(const Heads<float>& x, std::span<const float> gamma, RmsNormOptions options);

}  // namespace drrik
