#pragma once
// Small autoencoders and rows by seed, and a comparison by norm.

#include <cmath>
#include <cstdint>
#include <span>

#include "drrik/base/rng.h"
#include "drrik/sae/relu_sae.h"
#include "drrik/tensor/tensor.h"

namespace drrik::testing {

inline ReluSae make_sae(std::int64_t d, std::int64_t h, std::uint64_t seed = 1,
                        float encoder_bias = 0.0F) {
  ReluSaeConfig config;
  config.activation_dim = d;
  config.hidden_dim = h;
  Rng rng(seed);
  ReluSae sae = ReluSae::random(config, rng);
  for (float& v : sae.encoder_bias()) v = encoder_bias + 0.1F * rng.normal();
  for (float& v : sae.bias()) v = 0.3F * rng.normal();
  return sae;
}

inline Tensor normal_rows(std::int64_t n, std::int64_t d, std::uint64_t seed = 2) {
  Tensor out = Tensor::zeros<float>({n, d});
  Rng rng(seed);
  for (float& v : out.mutable_data<float>()) v = rng.normal();
  return out;
}

/// ‖a − b‖ / ‖b‖; infinite for NaN and for sizes that differ.
inline double relative_error(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return HUGE_VAL;
  double error = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double e = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    if (!std::isfinite(e)) return HUGE_VAL;
    error += e * e;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  if (norm == 0.0) return error == 0.0 ? 0.0 : HUGE_VAL;
  return std::sqrt(error / norm);
}

}  // namespace drrik::testing
