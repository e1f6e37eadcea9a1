#pragma once
// A view of per-head vectors inside rows, as attention and rotary embedding take them.

#include <cstdint>
#include <type_traits>

#include "drrik/tensor/mat_view.h"

namespace drrik {

/// rows × heads vectors of `dim` contiguous elements. Element (r, h, i) lies at
/// data[r · row_stride + h · head_stride + i], so that parts of a fused QKV buffer (side by side as
/// in Llama and GPT-2, or interleaved by head as in GPT-NeoX) and of a KV cache need no copy.
template <typename T>
struct Heads {
  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t heads = 0;
  std::int64_t dim = 0;
  std::int64_t row_stride = 0;
  std::int64_t head_stride = 0;

  Heads() = default;
  Heads(T* data_in, std::int64_t rows_in, std::int64_t heads_in, std::int64_t dim_in,
        std::int64_t row_stride_in, std::int64_t head_stride_in)
      : data(data_in),
        rows(rows_in),
        heads(heads_in),
        dim(dim_in),
        row_stride(row_stride_in),
        head_stride(head_stride_in) {}
  /// Heads side by side: columns [h · dim, (h + 1) · dim) of `m` are head h. Throws Error(data)
  /// when the columns do not divide.
  Heads(MatView<T> m, std::int64_t heads_in)
      : Heads(m.data(), m.rows(), heads_in, heads_in > 0 ? m.cols() / heads_in : 0, m.stride(),
              heads_in > 0 ? m.cols() / heads_in : 0) {
    if (heads_in < 1 || m.cols() % heads_in != 0) {
      throw_data("heads: ", m.cols(), " columns do not divide into ", heads_in, " heads");
    }
  }
  /// Heads<T> converts to Heads<const T>.
  template <typename U>
  requires(std::is_same_v<const U, T>)
      Heads(const Heads<U>& other)  // NOLINT(google-explicit-constructor)
      : Heads(other.data, other.rows, other.heads, other.dim, other.row_stride, other.head_stride) {
  }

  T* at(std::int64_t r, std::int64_t h) const { return data + r * row_stride + h * head_stride; }
  /// Rows [begin, begin + count).
  Heads rows_range(std::int64_t begin, std::int64_t count) const {
    return {data + begin * row_stride, count, heads, dim, row_stride, head_stride};
  }
};

}  // namespace drrik
