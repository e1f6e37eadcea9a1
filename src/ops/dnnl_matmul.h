#pragma once
// oneDNN's matmul behind a cache of compiled primitives.

#include <cstdint>
#include <functional>

#include "drrik/tensor/dtype.h"

namespace drrik::detail {

/// c[m, n] = (+=) a[m, k] · b[k, n] (+ bias[n]), c float32. Strides are elements between rows and
/// between columns; one of each pair is 1.
struct MatmulKey {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t a_row = 0;
  std::int64_t a_col = 0;
  std::int64_t b_row = 0;
  std::int64_t b_col = 0;
  std::int64_t c_row = 0;
  DType dtype = DType::kF32;  ///< Of a and b: kF32 or kBF16.
  bool accumulate = false;
  bool bias = false;
  bool operator==(const MatmulKey&) const = default;
};

/// Runs it on all threads. Compiled primitives are cached by key. Thread-safe.
void dnnl_matmul(const MatmulKey& key, const void* a, const void* b, const float* bias, float* c);

}  // namespace drrik::detail
