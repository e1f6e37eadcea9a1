#include "drrik/ops/rope.h"

#include <algorithm>
#include <cmath>

#include "drrik/base/threads.h"
#include "ops/grain.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/rope.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "ops/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {
namespace {

HWY_INLINE void rotate_half_split(float* x, const float* cos, const float* sin,
                                  std::int64_t pairs) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  std::int64_t i = 0;
  for (; i + lanes <= pairs; i += lanes) {
    const VF a = load(d, x + i);
    const VF b = load(d, x + pairs + i);
    const VF c = load(d, cos + i);
    const VF s = load(d, sin + i);
    store(d, hn::NegMulAdd(b, s, hn::Mul(a, c)), x + i);
    store(d, hn::MulAdd(a, s, hn::Mul(b, c)), x + pairs + i);
  }
  for (; i < pairs; ++i) {
    const float a = x[i];
    const float b = x[pairs + i];
    x[i] = a * cos[i] - b * sin[i];
    x[pairs + i] = b * cos[i] + a * sin[i];
  }
}

HWY_INLINE void rotate_interleaved(float* x, const float* cos, const float* sin,
                                   std::int64_t pairs) {
  const DF d;
  std::int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const std::int64_t lanes = float_lanes();
  for (; i + lanes <= pairs; i += lanes) {
    VF a;
    VF b;
    hn::LoadInterleaved2(d, x + 2 * i, a, b);
    const VF c = load(d, cos + i);
    const VF s = load(d, sin + i);
    hn::StoreInterleaved2(hn::NegMulAdd(b, s, hn::Mul(a, c)), hn::MulAdd(a, s, hn::Mul(b, c)), d,
                          x + 2 * i);
  }
#endif
  (void)d;
  for (; i < pairs; ++i) {
    const float a = x[2 * i];
    const float b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i];
    x[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

void RotateRow(float* x, std::int64_t heads, std::int64_t head_stride, const float* cos,
               const float* sin, std::int64_t pairs, RopeStyle style) {
  for (std::int64_t h = 0; h < heads; ++h) {
    if (style == RopeStyle::kHalfSplit) {
      rotate_half_split(x + h * head_stride, cos, sin, pairs);
    } else {
      rotate_interleaved(x + h * head_stride, cos, sin, pairs);
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace drrik {
namespace {

HWY_EXPORT(RotateRow);

void check(Heads<float> x, const RopeTable& table, std::span<const std::int32_t> positions) {
  if (x.rows == 0 || x.heads == 0) return;
  if (2 * table.pairs() > x.dim) {
    throw_data("rope: heads of ", x.dim, " elements, the table rotates ", 2 * table.pairs());
  }
  if (static_cast<std::int64_t>(positions.size()) != x.rows) {
    throw_data("rope: ", positions.size(), " positions for ", x.rows, " rows");
  }
  for (const std::int32_t p : positions) {
    if (p < table.first() || p >= table.positions()) {
      throw_data("rope: position ", p, " is not in the table of ", table.first(), " to ",
                 table.positions());
    }
  }
}

}  // namespace

RopeTable::RopeTable(std::span<const float> inv_freq, std::int64_t positions, float scaling,
                     std::int64_t first)
    : inv_freq_(inv_freq.begin(), inv_freq.end()),
      first_(first),
      positions_(first),
      scaling_(scaling) {
  reserve(positions);
}

void RopeTable::reserve(std::int64_t positions) {
  if (positions <= positions_) return;
  const std::int64_t wanted = std::max(positions, first_ + 2 * (positions_ - first_));
  const auto size = static_cast<std::size_t>((wanted - first_) * pairs());
  cos_.resize(size);
  sin_.resize(size);
  for (std::int64_t p = positions_; p < wanted; ++p) {
    for (std::int64_t i = 0; i < pairs(); ++i) {
      const auto at = static_cast<std::size_t>((p - first_) * pairs() + i);
      // The product is rounded to float32 first: that is the angle transformers takes.
      const float angle = static_cast<float>(p) * inv_freq_[static_cast<std::size_t>(i)];
      cos_[at] = static_cast<float>(std::cos(static_cast<double>(angle))) * scaling_;
      sin_[at] = static_cast<float>(std::sin(static_cast<double>(angle))) * scaling_;
    }
  }
  positions_ = wanted;
}

void apply_rope(Heads<float> x, const RopeTable& table, std::span<const std::int32_t> positions,
                RopeStyle style) {
  apply_rope(x, Heads<float>(nullptr, x.rows, 0, x.dim, 0, 0), table, positions, style);
}

void apply_rope(Heads<float> q, Heads<float> k, const RopeTable& table,
                std::span<const std::int32_t> positions, RopeStyle style) {
  check(q, table, positions);
  check(k, table, positions);
  if (q.rows != k.rows) throw_data("rope: ", q.rows, " query rows and ", k.rows, " key rows");
  const std::int64_t width = (q.heads + k.heads) * 2 * table.pairs();
  parallel_for(q.rows, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t p = positions[static_cast<std::size_t>(r)];
      for (const Heads<float>& x : {q, k}) {
        if (x.heads == 0) continue;
        HWY_DYNAMIC_DISPATCH(RotateRow)
        (x.at(r, 0), x.heads, x.head_stride, table.cos(p), table.sin(p), table.pairs(), style);
      }
    }
  });
}

}  // namespace drrik
#endif  // HWY_ONCE
