// Rows of 32-bit words turned into columns: what panels are made of.

#include <cstddef>
#include <cstring>

#include "ops/simd-inl.h"
#include "ops/unroll.h"
#include "ops/weight.h"

#if defined(DRRIK_OPS_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DRRIK_OPS_TRANSPOSE_INL_H_
#undef DRRIK_OPS_TRANSPOSE_INL_H_
#else
#define DRRIK_OPS_TRANSPOSE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {

using Word = std::uint32_t;  // one float, or two bfloat16
using DU = hn::RebindToUnsigned<DF>;
using VU = hn::Vec<DU>;

constexpr std::int64_t kWordBytes = sizeof(Word);
constexpr std::int64_t kLineWords = 16;  // of a cache line
// Rows that are turned into columns together: a vector of words.
constexpr std::int64_t kGroup = static_cast<std::int64_t>(hn::MaxLanes(DF()));
static_assert(kPanel % kGroup == 0);
// How much of a line, in fours of words, fits the registers: with 32 of them all of it, so that a
// line is touched once and then may go (rows a power of two apart share few places in a cache).
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3) || HWY_ARCH_ARM_A64
constexpr int kQuarters = 4;
#else
constexpr int kQuarters = 1;
#endif

#if HWY_TARGET == HWY_SCALAR

// columns[w] = word w of each of kGroup rows, 4 · Q words.
template <int Q>
HWY_INLINE void transpose_words(const std::byte* from, std::int64_t /*row_step*/,
                                VU (&columns)[4 * Q]) {
  static_assert(kGroup == 1);
  for (int i = 0; i < 4 * Q; ++i) {
    Word word = 0;
    std::memcpy(&word, from + i * kWordBytes, sizeof(word));
    columns[i] = hn::Set(DU(), word);
  }
}

#else

// Four words each of rows 0, 4, 8 … side by side.
template <class D>
HWY_INLINE hn::Vec<D> every_fourth(D d, const std::byte* from, std::int64_t row_step) {
  if constexpr (hn::MaxLanes(D()) == 4) {
    return hn::LoadU(d, reinterpret_cast<const Word*>(from));
  } else {
    const hn::Half<D> half;
    constexpr auto kRows = static_cast<std::int64_t>(hn::MaxLanes(half));
    return hn::Combine(d, every_fourth(half, from + kRows * row_step, row_step),
                       every_fourth(half, from, row_step));
  }
}

// columns[w] = word w of each of kGroup rows, 4 · Q words. Within each block of 128 bits a matrix
// of 4 × 4 is transposed.
template <int Q>
HWY_INLINE void transpose_words(const std::byte* from, std::int64_t row_step,
                                VU (&columns)[4 * Q]) {
  const DU d;
  VU rows[4 * Q];
  DRRIK_UNROLL
  for (int i = 0; i < 4; ++i) {
    DRRIK_UNROLL
    for (int q = 0; q < Q; ++q) {
      rows[4 * q + i] = every_fourth(d, from + i * row_step + q * 4 * kWordBytes, row_step);
    }
  }
  DRRIK_UNROLL
  for (int q = 0; q < 4 * Q; q += 4) {
    const VU low02 = hn::InterleaveLower(d, rows[q], rows[q + 2]);
    const VU low13 = hn::InterleaveLower(d, rows[q + 1], rows[q + 3]);
    const VU high02 = hn::InterleaveUpper(d, rows[q], rows[q + 2]);
    const VU high13 = hn::InterleaveUpper(d, rows[q + 1], rows[q + 3]);
    columns[q] = hn::InterleaveLower(d, low02, low13);
    columns[q + 1] = hn::InterleaveUpper(d, low02, low13);
    columns[q + 2] = hn::InterleaveLower(d, high02, high13);
    columns[q + 3] = hn::InterleaveUpper(d, high02, high13);
  }
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#endif
