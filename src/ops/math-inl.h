// exp, sigmoid, tanh and the normal distribution's Φ for vectors of floats, to about 2 ulp.

#include "ops/simd-inl.h"

#if defined(DRRIK_OPS_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DRRIK_OPS_MATH_INL_H_
#undef DRRIK_OPS_MATH_INL_H_
#else
#define DRRIK_OPS_MATH_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {

// exp for x <= 0 (softmax after its maximum was subtracted, sigmoids of -|x|); 0 below -87, NaN
// stays NaN. Cody-Waite reduction by ln 2 in two parts and Cephes' polynomial on [-ln2/2, ln2/2],
// relative error below 1.2e-7. Adding 1.5 · 2^23 leaves the rounded quotient in the low bits, from
// where it goes straight into an exponent, as 2^n is a normal number here.
HWY_INLINE VF exp_nonpositive(DF d, VF x) {
  const hn::RebindToSigned<DF> di;
  const VF limit = hn::Set(d, -87.0F);
  const VF magic = hn::Set(d, 12582912.0F);
  const auto below = hn::Lt(x, limit);
  const VF t = hn::MulAdd(x, hn::Set(d, 1.44269504F), magic);
  const VF n = hn::Sub(t, magic);
  VF r = hn::NegMulAdd(n, hn::Set(d, 0.693359375F), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4F), r);
  VF p = hn::Set(d, 1.9875691500e-4F);
  p = hn::MulAdd(p, r, hn::Set(d, 1.3981999507e-3F));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3F));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2F));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1F));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1F));
  p = hn::MulAdd(hn::Mul(p, r), r, hn::Add(r, hn::Set(d, 1.0F)));
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::BitCast(di, t), hn::Set(di, 127)));
  const VF y = hn::Mul(p, hn::BitCast(d, exponent));
  return hn::IfThenElse(below, hn::Zero(d), y);
}

// x · sigmoid(z), by way of exp(-|z|), which cannot overflow.
HWY_INLINE VF swish_f32(DF d, VF x, VF z) {
  const VF one = hn::Set(d, 1.0F);
  const VF e = exp_nonpositive(d, hn::Neg(hn::Abs(z)));
  const VF top = hn::IfThenElse(hn::Lt(z, hn::Zero(d)), hn::Mul(x, e), x);
  return hn::Div(top, hn::Add(one, e));
}

// 1 / (1 + exp(-x)).
HWY_INLINE VF sigmoid_f32(DF d, VF x) { return swish_f32(d, hn::Set(d, 1.0F), x); }

// tanh: odd polynomial below 0.625 (Cephes' tanhf), (1 - e) / (1 + e) with e = exp(-2|x|) above.
HWY_INLINE VF tanh_f32(DF d, VF x) {
  const VF a = hn::Abs(x);
  const VF one = hn::Set(d, 1.0F);
  const VF s = hn::Mul(x, x);
  VF p = hn::Set(d, -5.70498872745e-3F);
  p = hn::MulAdd(p, s, hn::Set(d, 2.06390887954e-2F));
  p = hn::MulAdd(p, s, hn::Set(d, -5.37397155531e-2F));
  p = hn::MulAdd(p, s, hn::Set(d, 1.33314422036e-1F));
  p = hn::MulAdd(p, s, hn::Set(d, -3.33332819422e-1F));
  const VF small = hn::MulAdd(hn::Mul(p, s), x, x);
  const VF e = exp_nonpositive(d, hn::Neg(hn::Add(a, a)));
  const VF large = hn::Div(hn::Sub(one, e), hn::Add(one, e));
  return hn::IfThenElse(hn::Lt(a, hn::Set(d, 0.625F)), small, hn::CopySign(large, x));
}

// x · Φ(x) = 0.5 x (1 + erf(x / √2)). For |x| / √2 above 0.93 it uses erfc = exp(polynomial), whose
// value is kept as it is for negative x, so that the tail keeps its relative accuracy (N. Juffa's
// erff coefficients).
HWY_INLINE VF gelu_f32(DF d, VF x) {
  const VF one = hn::Set(d, 1.0F);
  const VF a = hn::Mul(x, hn::Set(d, 0.707106781F));
  const VF t = hn::Min(hn::Abs(a), hn::Set(d, 10.0F));
  const VF s = hn::Mul(t, t);
  // erf(a) for small |a|.
  VF p = hn::Set(d, -5.96761703e-4F);
  p = hn::MulAdd(p, s, hn::Set(d, 4.99119423e-3F));
  p = hn::MulAdd(p, s, hn::Set(d, -2.67681349e-2F));
  p = hn::MulAdd(p, s, hn::Set(d, 1.12819925e-1F));
  p = hn::MulAdd(p, s, hn::Set(d, -3.76125336e-1F));
  p = hn::MulAdd(p, s, hn::Set(d, 1.28379166e-1F));
  const VF small = hn::Add(one, hn::MulAdd(p, a, a));
  // erfc(|a|) for large |a|.
  VF r = hn::MulAdd(hn::Set(d, -1.72853470e-5F), t, hn::Set(d, 3.83197126e-4F));
  const VF u = hn::MulAdd(hn::Set(d, -3.88396438e-3F), t, hn::Set(d, 2.42546219e-2F));
  r = hn::MulAdd(r, s, u);
  r = hn::MulAdd(r, t, hn::Set(d, -1.06777877e-1F));
  r = hn::MulAdd(r, t, hn::Set(d, -6.34846687e-1F));
  r = hn::MulAdd(r, t, hn::Set(d, -1.28717512e-1F));
  r = hn::NegMulAdd(hn::Neg(r), t, hn::Neg(t));
  const VF erfc = exp_nonpositive(d, r);
  const VF large = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), erfc, hn::Sub(hn::Set(d, 2.0F), erfc));
  const VF twice_phi = hn::IfThenElse(hn::Gt(t, hn::Set(d, 0.927734375F)), large, small);
  return hn::Mul(hn::Mul(hn::Set(d, 0.5F), x), twice_phi);
}

}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#endif
