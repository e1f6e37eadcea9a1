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

constexpr int kTileRows = 6;
// Vectors across a tile: rows · vectors sums, one row of b and a broadcast fit the registers (32
// with AVX-512 and NEON, else 16).
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3) || HWY_ARCH_ARM_A64
constexpr int kTileVectors = 4;
#else
constexpr int kTileVectors = 2;
#endif

// Element (r, i) of the left factor lies at data[r · row + i · depth].
struct Left {
  const float* data;
  std::int64_t row;
  std::int64_t depth;
};

// c[R][V vectors] (+)= a[R][k] · b[k][V vectors].
template <int R, int V>
HWY_NOINLINE void tile(Left a, const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
                       std::int64_t k, bool accumulate) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  VF sums[R][V];
  DRRIK_UNROLL
  for (int r = 0; r < R; ++r) {
    DRRIK_UNROLL
    for (int v = 0; v < V; ++v) {
      sums[r][v] = accumulate ? load(d, c + r * ldc + v * lanes) : hn::Zero(d);
    }
  }
  for (std::int64_t i = 0; i < k; ++i) {
    VF row[V];
    DRRIK_UNROLL
    for (int v = 0; v < V; ++v) row[v] = load(d, b + i * ldb + v * lanes);
    DRRIK_UNROLL
    for (int r = 0; r < R; ++r) {
      const VF x = hn::Set(d, a.data[r * a.row + i * a.depth]);
      DRRIK_UNROLL
      for (int v = 0; v < V; ++v) sums[r][v] = hn::MulAdd(x, row[v], sums[r][v]);
    }
  }
  DRRIK_UNROLL
  for (int r = 0; r < R; ++r) {
    DRRIK_UNROLL
    for (int v = 0; v < V; ++v) store(d, sums[r][v], c + r * ldc + v * lanes);
  }
}

template <int V>
HWY_INLINE void any_tile(std::int64_t rows, Left a, const float* b, std::int64_t ldb, float* c,
                         std::int64_t ldc, std::int64_t k, bool accumulate) {
  switch (rows) {
    case 1:
      return tile<1, V>(a, b, ldb, c, ldc, k, accumulate);
    case 2:
      return tile<2, V>(a, b, ldb, c, ldc, k, accumulate);
    case 3:
      return tile<3, V>(a, b, ldb, c, ldc, k, accumulate);
    case 4:
      return tile<4, V>(a, b, ldb, c, ldc, k, accumulate);
    case 5:
      return tile<5, V>(a, b, ldb, c, ldc, k, accumulate);
    default:
      return tile<6, V>(a, b, ldb, c, ldc, k, accumulate);
  }
}

// c[rows][columns] (+)= a[rows][k] · b[k][columns] for up to kTileRows rows; columns a multiple of
// the vector width.
HWY_INLINE void tile_row(std::int64_t rows, Left a, const float* b, std::int64_t ldb, float* c,
                         std::int64_t ldc, std::int64_t columns, std::int64_t k, bool accumulate) {
  const std::int64_t lanes = float_lanes();
  std::int64_t j = 0;
  for (; j + kTileVectors * lanes <= columns; j += kTileVectors * lanes) {
    any_tile<kTileVectors>(rows, a, b + j, ldb, c + j, ldc, k, accumulate);
  }
  if constexpr (kTileVectors > 2) {
    for (; j + 2 * lanes <= columns; j += 2 * lanes) {
      any_tile<2>(rows, a, b + j, ldb, c + j, ldc, k, accumulate);
    }
  }
  for (; j < columns; j += lanes) any_tile<1>(rows, a, b + j, ldb, c + j, ldc, k, accumulate);
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
