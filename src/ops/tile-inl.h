// Small products from cache, for blocks of attention.

#include "ops/simd-inl.h"
#include "ops/unroll.h"

#if defined(DRRIK_OPS_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DRRIK_OPS_TILE_INL_H_
#undef DRRIK_OPS_TILE_INL_H_
#else
#define DRRIK_OPS_TILE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {

constexpr std::int64_t kTileRows = 4;
// Vectors across a tile: rows · vectors sums and one row of b fit the registers (32 with AVX-512
// and NEON, else 16).
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3) || HWY_ARCH_ARM_A64
constexpr std::int64_t kTileVectors = 4;
#else
constexpr std::int64_t kTileVectors = 2;
#endif

// c[4][V vectors] (+)= a[4][k] · b[k][V vectors].
template <int V>
HWY_INLINE void tile(const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float* c,
                     std::int64_t ldc, std::int64_t k, bool accumulate) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  VF sums[kTileRows][V];
  DRRIK_UNROLL
  for (std::int64_t r = 0; r < kTileRows; ++r) {
    DRRIK_UNROLL
    for (int v = 0; v < V; ++v) {
      sums[r][v] = accumulate ? hn::LoadU(d, c + r * ldc + v * lanes) : hn::Zero(d);
    }
  }
  for (std::int64_t i = 0; i < k; ++i) {
    VF row[V];
    DRRIK_UNROLL
    for (int v = 0; v < V; ++v) row[v] = hn::LoadU(d, b + i * ldb + v * lanes);
    DRRIK_UNROLL
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      const VF x = hn::Set(d, a[r * lda + i]);
      DRRIK_UNROLL
      for (int v = 0; v < V; ++v) sums[r][v] = hn::MulAdd(x, row[v], sums[r][v]);
    }
  }
  DRRIK_UNROLL
  for (std::int64_t r = 0; r < kTileRows; ++r) {
    DRRIK_UNROLL
    for (int v = 0; v < V; ++v) hn::StoreU(sums[r][v], d, c + r * ldc + v * lanes);
  }
}

// c[m][n] (+)= a[m][k] · b[k][n]; m a multiple of 4, n of the vector width.
HWY_INLINE void tile_product(const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
                             float* c, std::int64_t ldc, std::int64_t m, std::int64_t n,
                             std::int64_t k, bool accumulate) {
  const std::int64_t lanes = float_lanes();
  std::int64_t column = 0;
  for (; column + kTileVectors * lanes <= n; column += kTileVectors * lanes) {
    for (std::int64_t r = 0; r < m; r += kTileRows) {
      tile<kTileVectors>(a + r * lda, lda, b + column, ldb, c + r * ldc + column, ldc, k,
                         accumulate);
    }
  }
  for (; column < n; column += lanes) {
    for (std::int64_t r = 0; r < m; r += kTileRows) {
      tile<1>(a + r * lda, lda, b + column, ldb, c + r * ldc + column, ldc, k, accumulate);
    }
  }
}

// out[dim] += Σ_j weights[j] · rows[j][dim].
HWY_INLINE void weighted_rows(const float* weights, const float* rows, std::int64_t stride,
                              std::int64_t n, std::int64_t dim, float* out) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  std::int64_t i = 0;
  for (; i + 4 * lanes <= dim; i += 4 * lanes) {
    VF s0 = hn::LoadU(d, out + i);
    VF s1 = hn::LoadU(d, out + i + lanes);
    VF s2 = hn::LoadU(d, out + i + 2 * lanes);
    VF s3 = hn::LoadU(d, out + i + 3 * lanes);
    for (std::int64_t j = 0; j < n; ++j) {
      const VF w = hn::Set(d, weights[j]);
      const float* row = rows + j * stride + i;
      s0 = hn::MulAdd(w, hn::LoadU(d, row), s0);
      s1 = hn::MulAdd(w, hn::LoadU(d, row + lanes), s1);
      s2 = hn::MulAdd(w, hn::LoadU(d, row + 2 * lanes), s2);
      s3 = hn::MulAdd(w, hn::LoadU(d, row + 3 * lanes), s3);
    }
    hn::StoreU(s0, d, out + i);
    hn::StoreU(s1, d, out + i + lanes);
    hn::StoreU(s2, d, out + i + 2 * lanes);
    hn::StoreU(s3, d, out + i + 3 * lanes);
  }
  for (; i + lanes <= dim; i += lanes) {
    VF s = hn::LoadU(d, out + i);
    for (std::int64_t j = 0; j < n; ++j) {
      s = hn::MulAdd(hn::Set(d, weights[j]), hn::LoadU(d, rows + j * stride + i), s);
    }
    hn::StoreU(s, d, out + i);
  }
  for (; i < dim; ++i) {
    for (std::int64_t j = 0; j < n; ++j) out[i] += weights[j] * rows[j * stride + i];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#endif
