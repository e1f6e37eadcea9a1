// exp, sigmoid, tanh and the normal distribution's Φ for vectors of floats, to about 2 ulp.

#include "hwy/contrib/math/math-inl.h"
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

// exp for x in [-87.3, 88.7]; smaller x gives 0, NaN stays NaN, and x above the range infinity.
// Cody-Waite reduction by ln 2 in two parts and a degree-6 polynomial on [-ln2/2, ln2/2] (the
// coefficients of Cephes' expf), relative error below 1.2e-7.
HWY_INLINE VF exp_f32(DF d, VF x) {
  const hn::RebindToSigned<DF> di;
  const VF limit_low = hn::Set(d, -87.33654F);
  const VF limit_high = hn::Set(d, 88.72283F);
  const VF clamped = hn::Min(hn::Max(x, limit_low), limit_high);
  const VF n = hn::Round(hn::Mul(clamped, hn::Set(d, 1.44269504F)));
  VF r = hn::NegMulAdd(n, hn::Set(d, 0.693359375F), clamped);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4F), r);
  VF p = hn::Set(d, 1.9875691500e-4F);
  p = hn::MulAdd(p, r, hn::Set(d, 1.3981999507e-3F));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3F));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2F));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1F));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1F));
  p = hn::MulAdd(hn::Mul(p, r), r, hn::Add(r, hn::Set(d, 1.0F)));
  // 2^n in two factors, as n = 128 and n = -127 have no single float exponent.
  const auto ni = hn::ConvertTo(di, n);
  const auto half = hn::ShiftRight<1>(ni);
  const auto bias = hn::Set(di, 127);
  const VF scale1 = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const VF scale2 = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(ni, half), bias)));
  VF y = hn::Mul(hn::Mul(p, scale1), scale2);
  y = hn::IfThenElse(hn::Lt(x, limit_low), hn::Zero(d), y);
  y = hn::IfThenElse(hn::Gt(x, limit_high), hn::Inf(d), y);
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

// exp for x <= 0 (softmax after its maximum was subtracted); NaN stays NaN.
HWY_INLINE VF exp_nonpositive(DF d, VF x) {
  const hn::RebindToSigned<DF> di;
  const VF limit_low = hn::Set(d, -87.0F);
  const auto below = hn::Lt(x, limit_low);
  const VF clamped = hn::IfThenElse(below, limit_low, x);
  const VF n = hn::Round(hn::Mul(clamped, hn::Set(d, 1.44269504F)));
  VF r = hn::NegMulAdd(n, hn::Set(d, 0.693359375F), clamped);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4F), r);
  VF p = hn::Set(d, 1.9875691500e-4F);
  p = hn::MulAdd(p, r, hn::Set(d, 1.3981999507e-3F));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3F));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2F));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1F));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1F));
  p = hn::MulAdd(hn::Mul(p, r), r, hn::Add(r, hn::Set(d, 1.0F)));
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  const VF y = hn::Mul(p, hn::BitCast(d, exponent));
  return hn::IfThenElse(below, hn::Zero(d), y);
}

// 1 / (1 + exp(-x)).
HWY_INLINE VF sigmoid_f32(DF d, VF x) {
  const VF one = hn::Set(d, 1.0F);
  return hn::Div(one, hn::Add(one, exp_f32(d, hn::Neg(x))));
}

// tanh: odd polynomial below 0.625 (Cephes' tanhf), 1 - 2 / (exp(2|x|) + 1) above.
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
  const VF e = exp_f32(d, hn::Add(a, a));
  const VF large = hn::Sub(one, hn::Div(hn::Set(d, 2.0F), hn::Add(e, one)));
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
  const VF erfc = exp_f32(d, r);
  const VF large = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), erfc, hn::Sub(hn::Set(d, 2.0F), erfc));
  const VF twice_phi = hn::IfThenElse(hn::Gt(t, hn::Set(d, 0.927734375F)), large, small);
  return hn::Mul(hn::Mul(hn::Set(d, 0.5F), x), twice_phi);
}

}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#endif
