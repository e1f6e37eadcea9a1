#pragma once
// Encoding by tiles of rows, so that [n, h] never exists for all rows.

#include <algorithm>
#include <cstdint>

#include "drrik/ops/gemm.h"
#include "drrik/sae/sae.h"
#include "drrik/tensor/mat_view.h"
#include "drrik/tensor/tensor.h"

namespace drrik {

/// Rows of a tile: at most 16 MiB of pre-activations, but enough rows to feed the product.
inline std::int64_t tile_rows(std::int64_t n, std::int64_t h) {
  const std::int64_t fit = (std::int64_t{1} << 22) / std::max<std::int64_t>(h, 1);
  return std::min(n, std::clamp<std::int64_t>(fit, 16, 4096));
}

/// Calls f(first, x − centre, pre) with pre [t, h] = (x − centre) Eᵀ, over tiles of x.
template <typename F>
void each_encoded_tile(MatView<const float> x, std::span<const float> centre,
                       MatView<const float> encoder, F&& f) {
  const std::int64_t n = x.rows();
  if (n == 0) return;
  const std::int64_t t = tile_rows(n, encoder.rows());
  Tensor centred = Tensor::uninitialized(DType::kF32, {t, x.cols()});
  Tensor pre = Tensor::uninitialized(DType::kF32, {t, encoder.rows()});
  for (std::int64_t first = 0; first < n; first += t) {
    const std::int64_t rows = std::min(t, n - first);
    const auto xc = centred.mutable_mat<float>().rows_range(0, rows);
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* from = x.row_ptr(first + r);
      float* to = xc.row_ptr(r);
      for (std::int64_t c = 0; c < x.cols(); ++c) {
        to[c] = from[c] - centre[static_cast<std::size_t>(c)];
      }
    }
    const auto out = pre.mutable_mat<float>().rows_range(0, rows);
    matmul(xc, Trans::kNo, encoder, Trans::kYes, out);
    f(first, MatView<const float>(xc), out);
  }
}

/// Appends the rows of ReLU(pre + bias) to `out` as compressed rows.
void append_active(MatView<const float> pre, std::span<const float> bias, SparseRows& out);

/// In place ReLU(pre + bias) over [t, h]; NaN stays.
void relu_rows(MatView<float> pre, std::span<const float> bias);

}  // namespace drrik
