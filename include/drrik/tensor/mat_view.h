#pragma once
// Non-owning two-dimensional views. Matrices in drrik are row-major and the last axis is
// contiguous; `stride` is elements between the starts of consecutive rows.

#include <cstdint>
#include <span>
#include <type_traits>

#include "drrik/base/error.h"

namespace drrik {

template <typename T>
class MatView {
 public:
  MatView() = default;
  MatView(T* data, std::int64_t rows, std::int64_t cols, std::int64_t stride)
      : data_(data), rows_(rows), cols_(cols), stride_(stride) {}
  MatView(T* data, std::int64_t rows, std::int64_t cols) : MatView(data, rows, cols, cols) {}
  /// MatView<T> converts to MatView<const T>.
  template <typename U>
  requires(std::is_same_v<const U, T>)
      MatView(const MatView<U>& other)  // NOLINT(google-explicit-constructor)
      : MatView(other.data(), other.rows(), other.cols(), other.stride()) {}

  T* data() const { return data_; }
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  std::int64_t stride() const { return stride_; }
  bool contiguous() const { return stride_ == cols_ || rows_ <= 1; }
  bool empty() const { return rows_ == 0 || cols_ == 0; }

  T* row_ptr(std::int64_t r) const {
    DRRIK_ASSERT(r >= 0 && r < rows_);
    return data_ + r * stride_;
  }
  std::span<T> row(std::int64_t r) const { return {row_ptr(r), static_cast<std::size_t>(cols_)}; }
  T& operator()(std::int64_t r, std::int64_t c) const { return row_ptr(r)[c]; }

  /// Rows [begin, begin + count).
  MatView rows_range(std::int64_t begin, std::int64_t count) const {
    DRRIK_ASSERT(begin >= 0 && count >= 0 && begin + count <= rows_);
    return {data_ + begin * stride_, count, cols_, stride_};
  }
  /// Columns [begin, begin + count).
  MatView cols_range(std::int64_t begin, std::int64_t count) const {
    DRRIK_ASSERT(begin >= 0 && count >= 0 && begin + count <= cols_);
    return {data_ + begin, rows_, count, stride_};
  }

 private:
  T* data_ = nullptr;
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  std::int64_t stride_ = 0;
};

}  // namespace drrik
