#pragma once
// What a prepared weight is made of.
//
// One layout serves everything: panels of 64 outputs, panel p holding [in_padded][64] elements, the
// columns of W's rows 64p..64p+63 (zero beyond `out` and `in`). In bfloat16 two consecutive inputs
// are interleaved, [in_padded / 2][64][2], as the processors' bf16 dot products take them. This is
// oneDNN's BA16a64b and BA16a64b2a, so its packed kernels take the memory as it is; a float32 panel
// is also a plain row-major [in, 64] matrix, which serves machines without those kernels; and our
// own kernels for few rows stream it once from start to end.

#include <cstdint>

#include "drrik/ops/gemm.h"

namespace drrik {

constexpr std::int64_t kPanel = 64;

constexpr std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

struct Weight::Impl {
  std::int64_t in = 0;
  std::int64_t out = 0;
  std::int64_t in_padded = 0;  ///< To a multiple of 16, in bfloat16 of 32, as oneDNN pads.
  std::int64_t panels = 0;
  Compute compute = Compute::kF32;
  DType dtype = DType::kF32;  ///< kF32, kBF16 or kF16 (the last laid out like float32).
  AlignedBuffer buffer;

  std::int64_t panel_elements() const { return in_padded * kPanel; }
  /// Of a panel widened to float32.
  std::int64_t wide_panel_elements() const { return round_up(in, 16) * kPanel; }
  template <typename T>
  const T* panel(std::int64_t p) const {
    return reinterpret_cast<const T*>(buffer.data()) + p * panel_elements();
  }
};

namespace detail {

/// Most rows that linear_few_rows takes.
constexpr std::int64_t kFewRows = 8;

/// y = (+)= x Wᵀ + bias for 1 to kFewRows rows, streaming W once with all threads. bias may be
/// null.
void linear_few_rows(MatView<const float> x, const Weight::Impl& w, const float* bias,
                     bool accumulate, MatView<float> y);

/// Widens panels [first, first + count) to float32 panels [count][in to 16][64] at `to`.
void widen_panels(const Weight::Impl& w, std::int64_t first, std::int64_t count, float* to);

}  // namespace detail
}  // namespace drrik
