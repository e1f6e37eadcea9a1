#pragma once
// What a prepared weight is made of.
//
// Panels of 64 outputs: panel p holds [in_padded][64] elements, the columns of W's rows
// 64p..64p+63 (zero beyond `out` and `in`). In bfloat16 two consecutive inputs are interleaved,
// [in_padded / 2][64][2], as the processors' bf16 dot products take them. One layout serves
// everything: large products read a panel from cache, single rows stream it once from start to end.
// It is also oneDNN's BA16a64b and BA16a64b2a.

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
  std::int64_t in_padded = 0;  ///< To a multiple of 16, in bfloat16 of 32.
  std::int64_t panels = 0;
  Compute compute = Compute::kF32;
  DType dtype = DType::kF32;  ///< kF32, kBF16 or kF16 (the last laid out like float32).
  AlignedBuffer buffer;

  std::int64_t panel_elements() const { return in_padded * kPanel; }
  template <typename T>
  const T* panel(std::int64_t p) const {
    return reinterpret_cast<const T*>(buffer.data()) + p * panel_elements();
  }
};

}  // namespace drrik
