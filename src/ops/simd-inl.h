// Highway helpers shared by the kernels of this room: loads and stores with conversion, tails,
// row loops. Included once per target (hence the toggled guard).

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "drrik/tensor/dtype.h"
#include "hwy/highway.h"

#if defined(DRRIK_OPS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DRRIK_OPS_SIMD_INL_H_
#undef DRRIK_OPS_SIMD_INL_H_
#else
#define DRRIK_OPS_SIMD_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;

// Upper bound of Lanes(DF()) for stack buffers.
constexpr std::size_t kMaxFloatLanes = HWY_MAX_BYTES / sizeof(float);

HWY_INLINE std::int64_t float_lanes() { return static_cast<std::int64_t>(hn::Lanes(DF())); }

// Vectors of floats from memory of any of the three floating types.
HWY_INLINE VF load(DF d, const float* p) { return hn::LoadU(d, p); }
HWY_INLINE VF load(DF d, const BF16* p) {
  const hn::Rebind<std::uint16_t, DF> d16;
  const hn::RebindToUnsigned<DF> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const std::uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}
// Highway 1.0.3 emulates binary16 where the processor lacks it, and there gets infinities and
// subnormal numbers wrong; those targets go by the integer route.
#if HWY_TARGET <= HWY_AVX2 || HWY_ARCH_ARM_A64
HWY_INLINE VF load(DF d, const F16* p) {
  const hn::Rebind<hwy::float16_t, DF> d16;
  return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
}
#else
HWY_INLINE VF load(DF d, const F16* p) {
  const hn::Rebind<std::uint16_t, DF> d16;
  const hn::RebindToUnsigned<DF> d32;
  const auto bits = hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const std::uint16_t*>(p)));
  const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(d32, 0x8000U)));
  const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(d32, 0x7FFFU)));
  // Moves the exponent's bias from 15 to 127; exact for subnormal numbers too.
  const auto finite = hn::BitCast(d32, hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p112F)));
  const auto special = hn::Or(magnitude, hn::Set(d32, 0x7F800000U));
  const auto is_finite = hn::Lt(magnitude, hn::Set(d32, 0x0F800000U));
  return hn::BitCast(d, hn::Or(hn::IfThenElse(is_finite, finite, special), sign));
}
#endif

HWY_INLINE void store(DF d, VF v, float* p) { hn::StoreU(v, d, p); }
// Round to nearest even as BF16(float) does; Highway's own conversion truncates.
HWY_INLINE void store(DF, VF v, BF16* p) {
  const hn::RebindToUnsigned<DF> d32;
  const hn::RebindToSigned<DF> di32;
  const hn::Rebind<std::uint16_t, DF> d16;
  const auto u = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(u), hn::Set(d32, 1U));
  const auto rounded = hn::ShiftRight<16>(hn::Add(u, hn::Add(odd, hn::Set(d32, 0x7FFFU))));
  const auto quiet = hn::Or(hn::ShiftRight<16>(u), hn::Set(d32, 0x40U));
  const auto bits = hn::IfThenElse(hn::RebindMask(d32, hn::IsNaN(v)), quiet, rounded);
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di32, bits)), d16, reinterpret_cast<std::uint16_t*>(p));
}
#if HWY_TARGET <= HWY_AVX2 || HWY_ARCH_ARM_A64
HWY_INLINE void store(DF, VF v, F16* p) {
  const hn::Rebind<hwy::float16_t, DF> d16;
  hn::StoreU(hn::DemoteTo(d16, v), d16, reinterpret_cast<hwy::float16_t*>(p));
}
#else
HWY_INLINE void store(DF d, VF v, F16* p) {
  HWY_ALIGN_MAX float values[kMaxFloatLanes];
  hn::Store(v, d, values);
  for (std::int64_t i = 0; i < float_lanes(); ++i) p[i] = F16(values[i]);
}
#endif

// The first n < lanes elements, the rest zero. Through a buffer because Highway's masked loads may
// touch memory behind the mask on some targets.
template <typename T>
HWY_INLINE VF load_n(DF d, const T* p, std::int64_t n) {
  T buffer[kMaxFloatLanes] = {};
  std::memcpy(buffer, p, static_cast<std::size_t>(n) * sizeof(T));
  return load(d, buffer);
}
template <typename T>
HWY_INLINE void store_n(DF d, VF v, T* p, std::int64_t n) {
  T buffer[kMaxFloatLanes];
  store(d, v, buffer);
  std::memcpy(p, buffer, static_cast<std::size_t>(n) * sizeof(T));
}

HWY_INLINE float sum_of(DF d, VF v) { return hn::GetLane(hn::SumOfLanes(d, v)); }
HWY_INLINE float max_of(DF d, VF v) { return hn::GetLane(hn::MaxOfLanes(d, v)); }

// out[i] = f(d, x[i]) for i < n.
template <typename In, typename Out, typename F>
HWY_INLINE void map1(const In* x, Out* out, std::int64_t n, const F& f) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) store(d, f(d, load(d, x + i)), out + i);
  if (i < n) store_n(d, f(d, load_n(d, x + i, n - i)), out + i, n - i);
}

// out[i] = f(d, x[i], y[i]) for i < n.
template <typename In1, typename In2, typename Out, typename F>
HWY_INLINE void map2(const In1* x, const In2* y, Out* out, std::int64_t n, const F& f) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    store(d, f(d, load(d, x + i), load(d, y + i)), out + i);
  }
  if (i < n) {
    store_n(d, f(d, load_n(d, x + i, n - i), load_n(d, y + i, n - i)), out + i, n - i);
  }
}

// Σ f(d, x[i], y[i]) over i < n, in four fixed partial sums. f must give 0 for (0, 0).
template <typename In1, typename In2, typename F>
HWY_INLINE float sum2(const In1* x, const In2* y, std::int64_t n, const F& f) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  VF s0 = hn::Zero(d);
  VF s1 = hn::Zero(d);
  VF s2 = hn::Zero(d);
  VF s3 = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    s0 = f(d, load(d, x + i), load(d, y + i), s0);
    s1 = f(d, load(d, x + i + lanes), load(d, y + i + lanes), s1);
    s2 = f(d, load(d, x + i + 2 * lanes), load(d, y + i + 2 * lanes), s2);
    s3 = f(d, load(d, x + i + 3 * lanes), load(d, y + i + 3 * lanes), s3);
  }
  for (; i + lanes <= n; i += lanes) s0 = f(d, load(d, x + i), load(d, y + i), s0);
  if (i < n) s1 = f(d, load_n(d, x + i, n - i), load_n(d, y + i, n - i), s1);
  return sum_of(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
}

struct MulAddOp {
  HWY_INLINE VF operator()(DF, VF a, VF b, VF s) const { return hn::MulAdd(a, b, s); }
};

template <typename A, typename B>
HWY_INLINE float dot_product(const A* a, const B* b, std::int64_t n) {
  return sum2(a, b, n, MulAddOp());
}

}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#endif
