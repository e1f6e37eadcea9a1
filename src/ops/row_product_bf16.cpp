// row_product.cpp with bfloat16 dot products (vdpbf16ps), which Highway 1.0.3 does not reach.

#include <algorithm>
#include <cstring>

#include "ops/row_product.h"
#include "ops/unroll.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 warns of the undefined vectors in its own intrinsics (its bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace drrik::detail {

#if defined(__x86_64__)

#define DRRIK_TARGET_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define DRRIK_INLINE_BF16 DRRIK_TARGET_BF16 inline __attribute__((always_inline))

namespace {

constexpr std::int64_t kGroup = 16;
constexpr std::int64_t kLine = 64;

inline std::int32_t pair_at(const BF16* p) {
  std::int32_t bits = 0;
  std::memcpy(&bits, p, sizeof(bits));
  return bits;
}

DRRIK_INLINE_BF16 __m128i quarter(const std::byte* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}

// columns[i] = pair i of each of 16 rows (transpose-inl.h).
template <int Q>
DRRIK_INLINE_BF16 void transpose_pairs(const std::byte* from, std::int64_t step,
                                       __m512i (&columns)[4 * Q]) {
  __m512i rows[4 * Q];
  DRRIK_UNROLL
  for (int i = 0; i < 4; ++i) {
    DRRIK_UNROLL
    for (int q = 0; q < Q; ++q) {
      const std::byte* p = from + i * step + q * 16;
      __m512i v = _mm512_castsi128_si512(quarter(p));
      v = _mm512_inserti32x4(v, quarter(p + 4 * step), 1);
      v = _mm512_inserti32x4(v, quarter(p + 8 * step), 2);
      rows[4 * q + i] = _mm512_inserti32x4(v, quarter(p + 12 * step), 3);
    }
  }
  DRRIK_UNROLL
  for (int q = 0; q < 4 * Q; q += 4) {
    const __m512i low02 = _mm512_unpacklo_epi32(rows[q], rows[q + 2]);
    const __m512i low13 = _mm512_unpacklo_epi32(rows[q + 1], rows[q + 3]);
    const __m512i high02 = _mm512_unpackhi_epi32(rows[q], rows[q + 2]);
    const __m512i high13 = _mm512_unpackhi_epi32(rows[q + 1], rows[q + 3]);
    columns[q] = _mm512_unpacklo_epi32(low02, low13);
    columns[q + 1] = _mm512_unpackhi_epi32(low02, low13);
    columns[q + 2] = _mm512_unpacklo_epi32(high02, high13);
    columns[q + 3] = _mm512_unpackhi_epi32(high02, high13);
  }
}

template <int R>
DRRIK_INLINE_BF16 void step(const BF16* x, std::int64_t stride, __m512i w, __m512 (&sums)[R]) {
  DRRIK_UNROLL
  for (int r = 0; r < R; ++r) {
    const __m512i a = _mm512_set1_epi32(pair_at(x + r * stride));
    sums[r] = _mm512_dpbf16_ps(sums[r], __m512bh(a), __m512bh(w));
  }
}

template <int R, int Q>
DRRIK_INLINE_BF16 void step_pairs(const BF16* x, std::int64_t stride, const std::byte* rows,
                                  std::int64_t row_step, __m512 (&sums)[R]) {
  __m512i columns[4 * Q];
  transpose_pairs<Q>(rows, row_step, columns);
  DRRIK_UNROLL
  for (int i = 0; i < 4 * Q; ++i) step<R>(x + 2 * i, stride, columns[i], sums);
}

template <int R>
DRRIK_TARGET_BF16 __attribute__((noinline)) void group(const BF16* x, std::int64_t stride,
                                                       const std::byte* rows, std::int64_t row_step,
                                                       std::int64_t in, SumsIn from, SumsOut to) {
  constexpr std::int64_t kAhead = 8 * kLine;
  __m512 sums[R];
  DRRIK_UNROLL
  for (int r = 0; r < R; ++r) sums[r] = _mm512_loadu_ps(from.data + r * from.stride);
  const std::int64_t row_bytes = 2 * in;
  const std::int64_t next = kGroup * row_step;
  std::int64_t b = 0;
  for (; b + kLine <= row_bytes; b += kLine) {
    const std::byte* ahead =
        rows + b + (b + kAhead < row_bytes ? kAhead : kAhead - row_bytes + next);
    for (std::int64_t r = 0; r < kGroup; ++r) __builtin_prefetch(ahead + r * row_step, 0, 3);
    step_pairs<R, 4>(x + b / 2, stride, rows + b, row_step, sums);
  }
  for (; b + 16 <= row_bytes; b += 16) {
    step_pairs<R, 1>(x + b / 2, stride, rows + b, row_step, sums);
  }
  if (b < row_bytes) {
    // Through a copy, since nothing may be read behind the last row.
    alignas(64) std::byte copy[kGroup][16] = {};
    for (std::int64_t r = 0; r < kGroup; ++r) {
      std::memcpy(copy[r], rows + r * row_step + b, static_cast<std::size_t>(row_bytes - b));
    }
    __m512i columns[4];
    transpose_pairs<1>(&copy[0][0], sizeof(copy[0]), columns);
    alignas(64) __m512i stored[4];
    for (int i = 0; i < 4; ++i) _mm512_store_si512(&stored[i], columns[i]);
    for (std::int64_t i = 0; b + 4 * i < row_bytes; ++i) {
      step<R>(x + b / 2 + 2 * i, stride, _mm512_load_si512(&stored[i]), sums);
    }
  }
  DRRIK_UNROLL
  for (int r = 0; r < R; ++r) _mm512_storeu_ps(to.data + r * to.stride, sums[r]);
}

template <int R>
void groups(MatView<const BF16> x, const RowsInPlace& w, SumsIn from, SumsOut to) {
  for (std::int64_t j = 0; j < kPanel; j += kGroup) {
    group<R>(x.data(), x.stride(), w.data + j * w.row_step, w.row_step, w.in,
             {from.data + j, from.stride}, {to.data + j, to.stride});
  }
}

}  // namespace

void row_product_bf16(MatView<const BF16> x, const RowsInPlace& w, SumsIn from, SumsOut to) {
  switch (x.rows()) {
    case 1:
      return groups<1>(x, w, from, to);
    case 2:
      return groups<2>(x, w, from, to);
    case 3:
      return groups<3>(x, w, from, to);
    case 4:
      return groups<4>(x, w, from, to);
    case 5:
      return groups<5>(x, w, from, to);
    case 6:
      return groups<6>(x, w, from, to);
    case 7:
      return groups<7>(x, w, from, to);
    default:
      return groups<8>(x, w, from, to);
  }
}

#else

void row_product_bf16(MatView<const BF16>, const RowsInPlace&, SumsIn, SumsOut) {
  DRRIK_ASSERT(false);
}

#endif

}  // namespace drrik::detail
