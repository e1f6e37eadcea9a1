#include "ops/row_product.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/row_product.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "ops/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {
namespace {

using detail::RowsInPlace;

template <typename T>
constexpr std::int64_t kPerWord = kWordBytes / static_cast<std::int64_t>(sizeof(T));

// sums[r] += x[r][0] · w.
template <int R>
HWY_INLINE void step(const float* x, std::int64_t stride, VF w, VF (&sums)[R]) {
  DRRIK_UNROLL
  for (int r = 0; r < R; ++r) sums[r] = hn::MulAdd(hn::Set(DF(), x[r * stride]), w, sums[r]);
}

// The inputs of one word of each output: the even one is its lower half, the odd one its upper.
template <int R, typename T>
HWY_INLINE void step_word(const float* x, std::int64_t stride, VU word, bool whole, VF (&sums)[R]) {
  const DF d;
  if constexpr (std::is_same_v<T, float>) {
    step<R>(x, stride, hn::BitCast(d, word), sums);
  } else {
    step<R>(x, stride, hn::BitCast(d, hn::ShiftLeft<16>(word)), sums);
    if (!whole) return;
    const VU upper = hn::And(word, hn::Set(DU(), 0xFFFF0000U));
    step<R>(x + 1, stride, hn::BitCast(d, upper), sums);
  }
}

// Words [0, 4 Q) of kGroup outputs.
template <int R, typename T, int Q>
HWY_INLINE void step_words(const float* x, std::int64_t stride, const std::byte* rows,
                           std::int64_t row_step, VF (&sums)[R]) {
  VU columns[4 * Q];
  transpose_words<Q>(rows, row_step, columns);
  DRRIK_UNROLL
  for (int i = 0; i < 4 * Q; ++i) {
    step_word<R, T>(x + i * kPerWord<T>, stride, columns[i], true, sums);
  }
}

// One group of outputs. `next`: bytes from its rows to those of the group that follows.
template <int R, typename T>
HWY_NOINLINE void group(const float* x, std::int64_t stride, const std::byte* rows,
                        std::int64_t row_step, std::int64_t in, std::int64_t next,
                        detail::SumsIn from, detail::SumsOut to) {
  const DF d;
  // What memory is asked for before it is needed: some 100 ns at a core's share of its bandwidth.
  constexpr std::int64_t kAhead = 8 * 64;
  VF sums[R];
  DRRIK_UNROLL
  for (int r = 0; r < R; ++r) sums[r] = hn::LoadU(d, from.data + r * from.stride);
  const std::int64_t words = in / kPerWord<T>;
  const std::int64_t row_bytes = in * static_cast<std::int64_t>(sizeof(T));
  std::int64_t w = 0;
  for (; w + kLineWords <= words; w += kLineWords) {
    const std::byte* at = rows + w * kWordBytes;
    const bool within = w * kWordBytes + kAhead < row_bytes;
    const std::byte* ahead = at + (within ? kAhead : kAhead - row_bytes + next);
    for (std::int64_t r = 0; r < kGroup; ++r) __builtin_prefetch(ahead + r * row_step, 0, 3);
    for (std::int64_t i = 0; i < kLineWords; i += 4 * kQuarters) {
      step_words<R, T, kQuarters>(x + (w + i) * kPerWord<T>, stride, at + i * kWordBytes, row_step,
                                  sums);
    }
  }
  for (; w + 4 <= words; w += 4) {
    step_words<R, T, 1>(x + w * kPerWord<T>, stride, rows + w * kWordBytes, row_step, sums);
  }
  const std::int64_t left = in - w * kPerWord<T>;
  if (left > 0) {
    // Through a copy, since nothing may be read behind the last row.
    alignas(64) Word copy[kGroup][4] = {};
    for (std::int64_t r = 0; r < kGroup; ++r) {
      std::memcpy(copy[r], rows + r * row_step + w * kWordBytes,
                  static_cast<std::size_t>(left) * sizeof(T));
    }
    VU columns[4];
    transpose_words<1>(reinterpret_cast<const std::byte*>(copy), sizeof(copy[0]), columns);
    alignas(64) Word stored[4][kGroup];
    for (int i = 0; i < 4; ++i) hn::Store(columns[i], DU(), stored[i]);
    for (std::int64_t k = 0; k < left; k += kPerWord<T>) {
      step_word<R, T>(x + w * kPerWord<T> + k, stride, hn::Load(DU(), stored[k / kPerWord<T>]),
                      k + 1 < left, sums);
    }
  }
  DRRIK_UNROLL
  for (int r = 0; r < R; ++r) hn::StoreU(sums[r], d, to.data + r * to.stride);
}

template <int R, typename T>
void groups(MatView<const float> x, const RowsInPlace& w, detail::SumsIn from, detail::SumsOut to) {
  const std::int64_t next = kGroup * w.row_step;
  for (std::int64_t j = 0; j < kPanel; j += kGroup) {
    group<R, T>(x.data(), x.stride(), w.data + j * w.row_step, w.row_step, w.in, next,
                {from.data + j, from.stride}, {to.data + j, to.stride});
  }
}

template <typename T>
HWY_INLINE void any_rows(MatView<const float> x, const RowsInPlace& w, detail::SumsIn from,
                         detail::SumsOut to) {
  switch (x.rows()) {
    case 1:
      return groups<1, T>(x, w, from, to);
    case 2:
      return groups<2, T>(x, w, from, to);
    case 3:
      return groups<3, T>(x, w, from, to);
    case 4:
      return groups<4, T>(x, w, from, to);
    case 5:
      return groups<5, T>(x, w, from, to);
    case 6:
      return groups<6, T>(x, w, from, to);
    case 7:
      return groups<7, T>(x, w, from, to);
    default:
      return groups<8, T>(x, w, from, to);
  }
}

void RowProduct(MatView<const float> x, const RowsInPlace& w, DType dtype, detail::SumsIn from,
                detail::SumsOut to) {
  if (dtype == DType::kBF16) {
    any_rows<BF16>(x, w, from, to);
  } else {
    any_rows<float>(x, w, from, to);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace drrik::detail {
namespace {

HWY_EXPORT(RowProduct);

}  // namespace

void row_product(MatView<const float> x, const RowsInPlace& w, DType dtype, SumsIn from,
                 SumsOut to) {
  HWY_DYNAMIC_DISPATCH(RowProduct)(x, w, dtype, from, to);
}

}  // namespace drrik::detail
#endif  // HWY_ONCE
