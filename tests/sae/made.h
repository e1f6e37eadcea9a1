#pragma once
// Small autoencoders and rows by seed, and a comparison by norm.

#include <cmath>
#include <cstdint>
#include <span>
#include <utility>

#include "drrik/base/rng.h"
#include "drrik/sae/relu_sae.h"
#include "drrik/sae/sparse_coder.h"
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

/// Of 40 latents and, unless `config` says otherwise, 12 inputs; k = 6, groups of 8, 12 and 20.
/// Everything but encoder and decoder is normal with deviation `spread`.
inline SparseCoder made_coder(SparseCoderConfig config, double decoder_norm, float spread) {
  config.d_in = config.d_in > 0 ? config.d_in : 12;
  config.d_sae = 40;
  config.k = 6;
  if (config.architecture == "matryoshka") config.groups = {8, 20, 40};
  SparseCoderInit init;
  init.encoder = SparseCoderInit::Encoder::kKaimingUniform;
  init.decoder_norm = decoder_norm;
  Rng rng(5);
  SparseCoder coder = SparseCoder::random(config, init, rng);
  for (const NamedTensor& p : std::as_const(coder).parameters()) {
    if (p.name == "W_enc" || p.name == "W_dec") continue;
    for (float& v : coder.parameter(p.name).mutable_data<float>()) v = spread * rng.normal();
  }
  return coder;
}

/// Gives the decoder's directions norms that differ.
inline void vary_norms(SparseCoder& coder) {
  for (std::int64_t j = 0; j < coder.d_sae(); ++j) {
    for (float& v : coder.decoder().row(j)) v *= 0.5F + 0.02F * static_cast<float>(j);
  }
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
