// Weighted sums of matrix rows: decoding is one, and so are both weight gradients of a latent.

#include "ops/simd-inl.h"

#if defined(DRRIK_OPS_SAE_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DRRIK_OPS_SAE_ROWS_INL_H_
#undef DRRIK_OPS_SAE_ROWS_INL_H_
#else
#define DRRIK_OPS_SAE_ROWS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {

// out[c] = init[c] + Σ_e weight[e] · base[index[e] · stride + c]; init may be null (zero).
// Eight accumulators hide the latency of the multiply-add.
HWY_INLINE void weighted_rows(const float* HWY_RESTRICT base, std::int64_t stride,
                              const std::int32_t* HWY_RESTRICT index,
                              const float* HWY_RESTRICT weight, std::int64_t entries,
                              const float* HWY_RESTRICT init, std::int64_t n,
                              float* HWY_RESTRICT out) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  std::int64_t c = 0;
  for (; c + 8 * lanes <= n; c += 8 * lanes) {
    VF s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
    if (init != nullptr) {
      s0 = load(d, init + c);
      s1 = load(d, init + c + lanes);
      s2 = load(d, init + c + 2 * lanes);
      s3 = load(d, init + c + 3 * lanes);
      s4 = load(d, init + c + 4 * lanes);
      s5 = load(d, init + c + 5 * lanes);
      s6 = load(d, init + c + 6 * lanes);
      s7 = load(d, init + c + 7 * lanes);
    }
    for (std::int64_t e = 0; e < entries; ++e) {
      const float* row = base + index[e] * stride + c;
      const VF w = hn::Set(d, weight[e]);
      s0 = hn::MulAdd(w, load(d, row), s0);
      s1 = hn::MulAdd(w, load(d, row + lanes), s1);
      s2 = hn::MulAdd(w, load(d, row + 2 * lanes), s2);
      s3 = hn::MulAdd(w, load(d, row + 3 * lanes), s3);
      s4 = hn::MulAdd(w, load(d, row + 4 * lanes), s4);
      s5 = hn::MulAdd(w, load(d, row + 5 * lanes), s5);
      s6 = hn::MulAdd(w, load(d, row + 6 * lanes), s6);
      s7 = hn::MulAdd(w, load(d, row + 7 * lanes), s7);
    }
    store(d, s0, out + c);
    store(d, s1, out + c + lanes);
    store(d, s2, out + c + 2 * lanes);
    store(d, s3, out + c + 3 * lanes);
    store(d, s4, out + c + 4 * lanes);
    store(d, s5, out + c + 5 * lanes);
    store(d, s6, out + c + 6 * lanes);
    store(d, s7, out + c + 7 * lanes);
  }
  for (; c + lanes <= n; c += lanes) {
    VF s = init != nullptr ? load(d, init + c) : hn::Zero(d);
    for (std::int64_t e = 0; e < entries; ++e) {
      s = hn::MulAdd(hn::Set(d, weight[e]), load(d, base + index[e] * stride + c), s);
    }
    store(d, s, out + c);
  }
  for (; c < n; ++c) {
    float s = init != nullptr ? init[c] : 0.0F;
    for (std::int64_t e = 0; e < entries; ++e) s += weight[e] * base[index[e] * stride + c];
    out[c] = s;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#endif
