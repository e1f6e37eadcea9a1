// Adam's update of a run of parameters, for the optimiser over spans and for kernels that fuse it
// with the gradient that they form in cache.

#include "drrik/ops/adam.h"
#include "ops/simd-inl.h"

#if defined(DRRIK_OPS_ADAM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DRRIK_OPS_ADAM_INL_H_
#undef DRRIK_OPS_ADAM_INL_H_
#else
#define DRRIK_OPS_ADAM_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {

// The scalars in registers.
struct AdamVectors {
  VF beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, sqrt_bias_correction2, eps;
  VF weight_decay, keep;
  explicit AdamVectors(const AdamScalars& s)
      : beta1(hn::Set(DF(), s.beta1)),
        one_minus_beta1(hn::Set(DF(), s.one_minus_beta1)),
        beta2(hn::Set(DF(), s.beta2)),
        one_minus_beta2(hn::Set(DF(), s.one_minus_beta2)),
        step_size(hn::Set(DF(), s.step_size)),
        sqrt_bias_correction2(hn::Set(DF(), s.sqrt_bias_correction2)),
        eps(hn::Set(DF(), s.eps)),
        weight_decay(hn::Set(DF(), s.weight_decay)),
        keep(hn::Set(DF(), s.keep)) {}
};

// Updates m and v and returns the new parameters.
HWY_INLINE VF adam_update(const AdamVectors& k, VF param, VF grad, VF& m, VF& v) {
  const VF g = hn::MulAdd(k.weight_decay, param, grad);
  m = hn::MulAdd(k.beta1, m, hn::Mul(k.one_minus_beta1, g));
  v = hn::MulAdd(k.beta2, v, hn::Mul(hn::Mul(k.one_minus_beta2, g), g));
  const VF denominator = hn::Add(hn::Div(hn::Sqrt(v), k.sqrt_bias_correction2), k.eps);
  return hn::NegMulAdd(k.step_size, hn::Div(m, denominator), hn::Mul(k.keep, param));
}

HWY_INLINE void adam_run(float* param, const float* grad, float* m, float* v, std::int64_t n,
                         const AdamScalars& scalars) {
  const DF d;
  const AdamVectors k(scalars);
  const std::int64_t lanes = float_lanes();
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    VF vm = load(d, m + i);
    VF vv = load(d, v + i);
    store(d, adam_update(k, load(d, param + i), load(d, grad + i), vm, vv), param + i);
    store(d, vm, m + i);
    store(d, vv, v + i);
  }
  if (i < n) {
    const std::int64_t rest = n - i;
    VF vm = load_n(d, m + i, rest);
    VF vv = load_n(d, v + i, rest);
    const VF next = adam_update(k, load_n(d, param + i, rest), load_n(d, grad + i, rest), vm, vv);
    store_n(d, next, param + i, rest);
    store_n(d, vm, m + i, rest);
    store_n(d, vv, v + i, rest);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#endif
