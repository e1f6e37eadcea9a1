#include "ops/panel_fill.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/panel_fill.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "ops/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {
namespace {

using detail::StoredRows;

// Inputs that one word of a panel of T holds.
template <typename T>
constexpr std::int64_t kPerWord = kWordBytes / static_cast<std::int64_t>(sizeof(T));

// n inputs of one row as T, from memory of any alignment.
template <typename T>
HWY_INLINE void read_inputs(const std::byte* from, DType dtype, std::int64_t n, T* to) {
  if (dtype == dtype_of<T>()) {
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
    return;
  }
  const auto same = [](DF, VF v) HWY_ATTR { return v; };
  switch (dtype) {
    case DType::kBF16:
      return map1(reinterpret_cast<const BF16*>(from), to, n, same);
    case DType::kF16:
      return map1(reinterpret_cast<const F16*>(from), to, n, same);
    default:
      return map1(reinterpret_cast<const float*>(from), to, n, same);
  }
}

// to[4 Q words][kGroup of kPanel] = from[kGroup][4 Q words].
template <int Q>
HWY_INLINE void transpose_some(const std::byte* from, std::int64_t row_step, Word* to) {
  VU columns[4 * Q];
  transpose_words<Q>(from, row_step, columns);
  DRRIK_UNROLL
  for (int i = 0; i < 4 * Q; ++i) hn::Store(columns[i], DU(), to + i * kPanel);
}

// The same for `words`, a multiple of 4. Fetches what lies `ahead` bytes behind each word.
void transpose(const std::byte* from, std::int64_t row_step, std::int64_t words, std::int64_t ahead,
               Word* to) {
  std::int64_t w = 0;
  for (; w + kLineWords <= words; w += kLineWords) {
    const std::byte* at = from + w * kWordBytes;
    for (std::int64_t r = 0; r < kGroup; ++r) __builtin_prefetch(at + r * row_step + ahead, 0, 2);
    for (std::int64_t i = 0; i < kLineWords; i += 4 * kQuarters) {
      transpose_some<kQuarters>(at + i * kWordBytes, row_step, to + (w + i) * kPanel);
    }
  }
  for (; w < words; w += 4) {
    transpose_some<1>(from + w * kWordBytes, row_step, to + w * kPanel);
  }
}

// Rows [row, row + n) of W, n <= kGroup, into columns of a panel: by way of a copy, which converts
// them, goes from run to run and ends in zeros.
template <typename T>
HWY_INLINE void copy_group(const StoredRows& w, std::int64_t row, std::int64_t n, std::int64_t k,
                           std::int64_t count, std::int64_t words, Word* to) {
  alignas(64) Word copy[kGroup][detail::kPieceWords];
  for (std::int64_t from = 0; from < words; from += detail::kPieceWords) {
    const std::int64_t part = std::min(detail::kPieceWords, words - from);
    const std::int64_t first = from * kPerWord<T>;
    const std::int64_t inputs = std::clamp<std::int64_t>(count - first, 0, part * kPerWord<T>);
    for (std::int64_t r = 0; r < kGroup; ++r) {
      auto* line = reinterpret_cast<T*>(copy[r]);
      std::int64_t filled = 0;
      if (r < n) {
        const StoredRows::Run& run = w.runs[w.run_of(row + r)];
        read_inputs(run.at(row + r, k + first), run.dtype, inputs, line);
        filled = inputs;
      }
      std::fill(line + filled, line + part * kPerWord<T>, T());
    }
    transpose(reinterpret_cast<const std::byte*>(copy), detail::kPieceWords * kWordBytes, part, 0,
              to + from * kPanel);
  }
}

template <typename T>
HWY_INLINE void fill_rows(const StoredRows& w, std::int64_t p, std::int64_t k, std::int64_t count,
                          std::int64_t words, Word* to) {
  const std::int64_t inputs = std::min(count, w.in - k);
  // Whole fours of words, which are read where they lie.
  const std::int64_t whole = inputs / (4 * kPerWord<T>)*4;
  for (std::int64_t j = 0; j < kPanel; j += kGroup) {
    const std::int64_t row = p * kPanel + j;
    const std::int64_t n = std::clamp<std::int64_t>(w.out - row, 0, kGroup);
    std::int64_t done = 0;
    if (n == kGroup) {
      const std::size_t position = w.run_of(row);
      const StoredRows::Run& run = w.runs[position];
      if (run.dtype == dtype_of<T>() && w.end_of(position) >= row + kGroup) {
        // The same rows' next inputs, or the first ones of the next panel.
        const std::int64_t ahead =
            k + count < w.in ? count * run.in_step : kPanel * run.row_step - k * run.in_step;
        transpose(run.at(row, k), run.row_step, whole, ahead, to + j);
        done = whole;
      }
    }
    if (done == words) continue;
    const std::int64_t skipped = done * kPerWord<T>;
    copy_group<T>(w, row, n, k + skipped, inputs - skipped, words - done, to + done * kPanel + j);
  }
}

// W's columns are the rows of the file: a line of a panel is there as it should be.
template <typename T>
HWY_INLINE void fill_columns(const StoredRows& w, std::int64_t p, std::int64_t k,
                             std::int64_t count, std::int64_t words, Word* to) {
  constexpr std::int64_t kRowsAhead = 16;
  const std::int64_t first = p * kPanel;
  const std::int64_t end = std::min(first + kPanel, w.out);
  const std::int64_t inputs = std::min(count, w.in - k);
  const auto read_line = [&](std::int64_t i, T* line) HWY_ATTR {
    if (i >= inputs) {
      std::fill_n(line, kPanel, T());
      return;
    }
    std::size_t position = w.run_of(first);
    for (std::int64_t column = first; column < end; ++position) {
      const StoredRows::Run& run = w.runs[position];
      const std::int64_t to_column = std::min(end, w.end_of(position));
      const std::byte* from = run.at(column, k + i);
      for (std::int64_t b = 0; b < kPanel * static_cast<std::int64_t>(sizeof(T)); b += 64) {
        __builtin_prefetch(from + kRowsAhead * run.in_step + b, 0, 2);
      }
      read_inputs(from, run.dtype, to_column - column, line + (column - first));
      column = to_column;
    }
    std::fill(line + (end - first), line + kPanel, T());
  };
  if constexpr (std::is_same_v<T, float>) {
    for (std::int64_t i = 0; i < words; ++i) {
      read_line(i, reinterpret_cast<float*>(to + i * kPanel));
    }
  } else {
    const hn::RebindToUnsigned<DF> d;
    const hn::Rebind<std::uint16_t, DF> d16;
    alignas(64) T even[kPanel];
    alignas(64) T odd[kPanel];
    for (std::int64_t i = 0; i < words; ++i) {
      read_line(2 * i, even);
      read_line(2 * i + 1, odd);
      for (std::int64_t j = 0; j < kPanel; j += kGroup) {
        const auto low =
            hn::PromoteTo(d, hn::Load(d16, reinterpret_cast<const std::uint16_t*>(even + j)));
        const auto high =
            hn::PromoteTo(d, hn::Load(d16, reinterpret_cast<const std::uint16_t*>(odd + j)));
        hn::Store(hn::Or(low, hn::ShiftLeft<16>(high)), d, to + i * kPanel + j);
      }
    }
  }
}

template <typename T>
HWY_INLINE void fill(const StoredRows& w, std::int64_t p, std::int64_t k, std::int64_t count,
                     T* to) {
  const std::int64_t words = round_up(count, 4 * kPerWord<T>) / kPerWord<T>;
  auto* out = reinterpret_cast<Word*>(to);
  if (w.layout == WeightLayout::kOutIn) {
    fill_rows<T>(w, p, k, count, words, out);
  } else {
    fill_columns<T>(w, p, k, count, words, out);
  }
}

void FillFloat(const StoredRows& w, std::int64_t p, std::int64_t k, std::int64_t count, float* to) {
  fill(w, p, k, count, to);
}

void FillBf16(const StoredRows& w, std::int64_t p, std::int64_t k, std::int64_t count, BF16* to) {
  fill(w, p, k, count, to);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace drrik::detail {
namespace {

HWY_EXPORT(FillFloat);
HWY_EXPORT(FillBf16);

}  // namespace

void fill_panel(const StoredRows& w, std::int64_t p, std::int64_t k, std::int64_t count,
                float* to) {
  HWY_DYNAMIC_DISPATCH(FillFloat)(w, p, k, count, to);
}

void fill_panel(const StoredRows& w, std::int64_t p, std::int64_t k, std::int64_t count, BF16* to) {
  HWY_DYNAMIC_DISPATCH(FillBf16)(w, p, k, count, to);
}

}  // namespace drrik::detail
#endif  // HWY_ONCE
