#pragma once
// Tensor: an owning (or file-borrowing), contiguous, row-major array of one dtype.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "drrik/base/file.h"
#include "drrik/tensor/dtype.h"
#include "drrik/tensor/mat_view.h"

namespace drrik {

enum class Device : std::uint8_t { kCpu };

/// "[3, 4]".
std::string shape_string(std::span<const std::int64_t> shape);
/// Product of the sizes; throws Error(data) on a negative size or overflow.
std::int64_t shape_elements(std::span<const std::int64_t> shape);

/// 64-byte aligned, zero-initialised or uninitialised memory. Throws Error(data) naming the size
/// when the allocation fails.
class AlignedBuffer {
 public:
  enum class Init { kZero, kNone };
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t bytes, Init init = Init::kZero);
  ~AlignedBuffer();
  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Move-only; copies are explicit (clone()). Const access from several threads is safe.
class Tensor {
 public:
  Tensor() = default;
  /// Zero-filled. Throws Error(data) when the shape overflows or memory is short.
  Tensor(DType dtype, std::vector<std::int64_t> shape);
  static Tensor uninitialized(DType dtype, std::vector<std::int64_t> shape);
  template <typename T>
  static Tensor zeros(std::vector<std::int64_t> shape) {
    return Tensor(dtype_of<T>(), std::move(shape));
  }
  template <typename T>
  static Tensor from(std::span<const T> values, std::vector<std::int64_t> shape);
  /// Borrows bytes of a mapped file, which stays open as long as the tensor. Data may be
  /// unaligned for its dtype when `offset` is; callers of typed access should check aligned().
  static Tensor borrow(std::shared_ptr<const MappedFile> file, std::size_t offset, DType dtype,
                       std::vector<std::int64_t> shape);

  /// Another view of the same bytes, which live as long as either: read-only.
  static Tensor share(std::shared_ptr<const Tensor> tensor);

  DType dtype() const { return dtype_; }
  Device device() const { return Device::kCpu; }
  const std::vector<std::int64_t>& shape() const { return shape_; }
  std::int64_t rank() const { return static_cast<std::int64_t>(shape_.size()); }
  std::int64_t dim(std::int64_t axis) const { return shape_[static_cast<std::size_t>(axis)]; }
  std::int64_t elements() const { return elements_; }
  std::size_t bytes() const { return static_cast<std::size_t>(elements_) * dtype_size(dtype_); }
  bool defined() const { return data_ != nullptr || !shape_.empty(); }
  bool borrowed() const { return file_ != nullptr || owner_ != nullptr; }
  bool aligned() const { return reinterpret_cast<std::uintptr_t>(data_) % dtype_size(dtype_) == 0; }

  const std::byte* raw() const { return data_; }
  /// Null for a borrowed tensor.
  std::byte* mutable_raw() { return borrowed() ? nullptr : const_cast<std::byte*>(data_); }

  /// Typed elements. Throws Error(data) when T is not the dtype, or when writing to a borrowed
  /// tensor.
  template <typename T>
  std::span<const T> data() const {
    expect(dtype_of<T>());
    return {reinterpret_cast<const T*>(data_), static_cast<std::size_t>(elements_)};
  }
  template <typename T>
  std::span<T> mutable_data() {
    expect(dtype_of<T>());
    expect_writable();
    return {reinterpret_cast<T*>(const_cast<std::byte*>(data_)),
            static_cast<std::size_t>(elements_)};
  }
  /// A rank-2 tensor as a matrix (rank 1 as a single row).
  template <typename T>
  MatView<const T> mat() const {
    expect_matrix();
    return {data<T>().data(), matrix_rows(), matrix_cols()};
  }
  template <typename T>
  MatView<T> mutable_mat() {
    expect_matrix();
    return {mutable_data<T>().data(), matrix_rows(), matrix_cols()};
  }

  Tensor clone() const;
  /// Converted copy (floating types and integers to floating). Throws Error(data) for other pairs.
  Tensor to(DType dtype) const;
  /// For a borrowed tensor: lets the kernel take its pages back (MappedFile::drop).
  void drop_pages() const;
  /// For a borrowed tensor: has the kernel read its pages from the disk (MappedFile::prefetch).
  void prefetch() const;

 private:
  void expect(DType dtype) const;
  void expect_writable() const;
  void expect_matrix() const;
  std::int64_t matrix_rows() const { return rank() == 1 ? 1 : dim(0); }
  std::int64_t matrix_cols() const { return rank() == 1 ? dim(0) : dim(1); }

  DType dtype_ = DType::kF32;
  std::vector<std::int64_t> shape_;
  std::int64_t elements_ = 0;
  const std::byte* data_ = nullptr;
  AlignedBuffer buffer_;
  std::shared_ptr<const MappedFile> file_;
  std::size_t file_offset_ = 0;
  std::shared_ptr<const Tensor> owner_;
};

template <typename T>
Tensor Tensor::from(std::span<const T> values, std::vector<std::int64_t> shape) {
  const DType dtype = dtype_of<T>();
  Tensor out = uninitialized(dtype, std::move(shape));
  auto to = out.mutable_data<T>();
  if (to.size() != values.size()) {
    throw_data("tensor of shape ", shape_string(out.shape()), ": got ", values.size(), " values");
  }
  for (std::size_t i = 0; i < values.size(); ++i) to[i] = values[i];
  return out;
}

/// Converts `count` elements at `from` (any floating or integer dtype, any alignment) to float32.
void convert_to_float(const std::byte* from, DType dtype, std::int64_t count, float* out);
/// Rounds `count` floats to kF32, kBF16 or kF16 at `out`.
void convert_from_float(const float* from, DType dtype, std::int64_t count, std::byte* out);

}  // namespace drrik
