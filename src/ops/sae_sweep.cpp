// One pass over the latents: gradients in cache, Adam, unit norm.

#include <algorithm>
#include <cmath>
#include <vector>

#include "drrik/base/threads.h"
#include "drrik/ops/sae_kernels.h"
#include "ops/grain.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/sae_sweep.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "ops/sae_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {
namespace {

struct Scalars {
  float beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_correction2, eps;
};

// Adam's step on one vector; torch divides sqrt(v) by the correction where this multiplies by its
// inverse (one rounding of difference).
struct AdamKernel {
  VF beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_correction2, eps;
  explicit AdamKernel(const Scalars& s)
      : beta1(hn::Set(DF(), s.beta1)),
        one_minus_beta1(hn::Set(DF(), s.one_minus_beta1)),
        beta2(hn::Set(DF(), s.beta2)),
        one_minus_beta2(hn::Set(DF(), s.one_minus_beta2)),
        step_size(hn::Set(DF(), s.step_size)),
        inverse_correction2(hn::Set(DF(), s.inverse_correction2)),
        eps(hn::Set(DF(), s.eps)) {}

  HWY_INLINE VF operator()(VF param, VF grad, VF& m, VF& v) const {
    m = hn::MulAdd(beta1, m, hn::Mul(one_minus_beta1, grad));
    v = hn::MulAdd(beta2, v, hn::Mul(hn::Mul(one_minus_beta2, grad), grad));
    return step(param, m, v);
  }
  // With gradient 0.
  HWY_INLINE VF idle(VF param, VF& m, VF& v) const {
    m = hn::Mul(beta1, m);
    v = hn::Mul(beta2, v);
    return step(param, m, v);
  }
  HWY_INLINE VF step(VF param, VF m, VF v) const {
    const VF denominator = hn::MulAdd(hn::Sqrt(v), inverse_correction2, eps);
    return hn::NegMulAdd(step_size, hn::Div(m, denominator), param);
  }
};

// Calls f(vector-wise body) over [0, n) with a padded tail: body(load, store) on offset i.
template <typename Body>
HWY_INLINE void each_vector(std::int64_t n, const Body& body) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    body([&](const float* p) HWY_ATTR { return load(d, p + i); },
         [&](VF v, float* p) HWY_ATTR { store(d, v, p + i); });
  }
  if (i < n) {
    body([&](const float* p) HWY_ATTR { return load_n(d, p + i, n - i); },
         [&](VF v, float* p) HWY_ATTR { store_n(d, v, p + i, n - i); });
  }
}

struct Latent {
  float *encoder, *encoder_m, *encoder_v;
  float *decoder, *decoder_m, *decoder_v;
};

// encoder_grad and decoder_grad may be null: gradient 0. centring += bias_grad · encoder.
void StepLatent(const Latent& p, const float* encoder_grad, const float* decoder_grad,
                float bias_grad, std::int64_t n, const Scalars& scalars, bool unit_decoder,
                float* centring) {
  const DF d;
  const AdamKernel adam(scalars);
  if (encoder_grad == nullptr) {
    each_vector(n, [&](const auto& get, const auto& put) HWY_ATTR {
      VF m = get(p.encoder_m);
      VF v = get(p.encoder_v);
      put(adam.idle(get(p.encoder), m, v), p.encoder);
      put(m, p.encoder_m);
      put(v, p.encoder_v);
    });
  } else {
    const VF bg = hn::Set(d, bias_grad);
    each_vector(n, [&](const auto& get, const auto& put) HWY_ATTR {
      VF m = get(p.encoder_m);
      VF v = get(p.encoder_v);
      const VF w = get(p.encoder);
      if (centring != nullptr) put(hn::MulAdd(bg, w, get(centring)), centring);
      put(adam(w, get(encoder_grad), m, v), p.encoder);
      put(m, p.encoder_m);
      put(v, p.encoder_v);
    });
  }

  VF squares = hn::Zero(d);
  if (decoder_grad == nullptr) {
    each_vector(n, [&](const auto& get, const auto& put) HWY_ATTR {
      VF m = get(p.decoder_m);
      VF v = get(p.decoder_v);
      const VF w = adam.idle(get(p.decoder), m, v);
      squares = hn::MulAdd(w, w, squares);
      put(w, p.decoder);
      put(m, p.decoder_m);
      put(v, p.decoder_v);
    });
  } else {
    const VF parallel =
        hn::Set(d, unit_decoder ? dot_product(decoder_grad, p.decoder, n) : 0.0F);
    each_vector(n, [&](const auto& get, const auto& put) HWY_ATTR {
      VF m = get(p.decoder_m);
      VF v = get(p.decoder_v);
      const VF w0 = get(p.decoder);
      const VF w = adam(w0, hn::NegMulAdd(parallel, w0, get(decoder_grad)), m, v);
      squares = hn::MulAdd(w, w, squares);
      put(w, p.decoder);
      put(m, p.decoder_m);
      put(v, p.decoder_v);
    });
  }
  if (!unit_decoder) return;
  const VF inverse = hn::Set(d, 1.0F / std::max(std::sqrt(sum_of(d, squares)), 1e-8F));
  each_vector(n, [&](const auto& get, const auto& put) HWY_ATTR {
    put(hn::Mul(get(p.decoder), inverse), p.decoder);
  });
}

void GradientRow(const float* base, std::int64_t stride, const std::int32_t* row,
                 const float* weight, std::int64_t entries, std::int64_t n, float* out) {
  weighted_rows(base, stride, row, weight, entries, nullptr, n, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace drrik {
namespace {

HWY_EXPORT(StepLatent);
HWY_EXPORT(GradientRow);

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// A struct of the same layout in every target's namespace; the baseline's is the one callers name.
using Scalars = HWY_STATIC_NAMESPACE::Scalars;

void check_state(const SaeSweepState& s, MatView<float> centring) {
  const MatView<float> all[] = {s.encoder_m, s.encoder_v, s.decoder, s.decoder_m, s.decoder_v};
  for (const auto& m : all) check_same_shape("sae", s.encoder, m);
  const auto h = at(s.encoder.rows());
  if (s.bias.size() != h || s.bias_m.size() != h || s.bias_v.size() != h) {
    throw_data("sae: ", h, " latents, encoder bias of ", s.bias.size());
  }
  const std::int64_t blocks = (s.encoder.rows() + kSaeSweepBlock - 1) / kSaeSweepBlock;
  if (!centring.empty() && (centring.rows() < blocks || centring.cols() != s.encoder.cols())) {
    throw_data("sae: centring ", shape_of(centring), ", wanted [", blocks, ", ", s.encoder.cols(),
               "]");
  }
}

}  // namespace
}  // namespace drrik
#endif  // HWY_ONCE
