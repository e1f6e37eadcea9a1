#include "drrik/tensor/tensor.h"

#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>

#include "drrik/base/checked.h"

namespace drrik {
namespace {

template <typename T>
void widen(const std::byte* from, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, from + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
    out[i] = static_cast<float>(value);
  }
}

// What tells the 8-bit floats with sign, exponent and mantissa apart.
struct Float8 {
  int mantissa_bits;
  int bias;
  bool infinities;  ///< The highest exponent holds infinity and NaNs, as IEEE's do.
  bool fnuz;        ///< 0x80 is the one NaN.
};

Float8 float8_of(DType dtype) {
  switch (dtype) {
    case DType::kF8E4M3:
      return {3, 7, false, false};
    case DType::kF8E4M3Fnuz:
      return {3, 8, false, true};
    case DType::kF8E5M2Fnuz:
      return {2, 16, false, true};
    default:
      return {2, 15, true, false};
  }
}

float float_from_f8(unsigned bits, DType dtype) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  if (dtype == DType::kF8E8M0) {
    return bits == 0xFF ? kNaN : std::ldexp(1.0F, static_cast<int>(bits) - 127);
  }
  const Float8 type = float8_of(dtype);
  const float sign = (bits & 0x80U) != 0 ? -1.0F : 1.0F;
  const int exponent = static_cast<int>(bits & 0x7FU) >> type.mantissa_bits;
  const int mantissa = static_cast<int>(bits) & ((1 << type.mantissa_bits) - 1);
  if (type.fnuz ? bits == 0x80U : !type.infinities && (bits & 0x7FU) == 0x7FU) return kNaN;
  if (type.infinities && exponent == 31) {
    return mantissa == 0 ? sign * std::numeric_limits<float>::infinity() : kNaN;
  }
  const int lowest = 1 - type.bias - type.mantissa_bits;  // of a subnormal's last bit
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), lowest);
  return sign * std::ldexp(static_cast<float>(mantissa + (1 << type.mantissa_bits)),
                           lowest + exponent - 1);
}

using Float8Table = std::array<float, 256>;

// All values of an 8-bit type: a look-up is what converting one costs.
const Float8Table& float8_table(DType dtype) {
  static const auto tables = [] {
    constexpr auto kFirst = static_cast<std::size_t>(DType::kF8E4M3);
    std::array<Float8Table, 5> out;
    for (std::size_t t = 0; t < out.size(); ++t) {
      for (unsigned bits = 0; bits < 256; ++bits) {
        out[t][bits] = float_from_f8(bits, static_cast<DType>(kFirst + t));
      }
    }
    return out;
  }();
  return tables[static_cast<std::size_t>(dtype) - static_cast<std::size_t>(DType::kF8E4M3)];
}

}  // namespace

std::string shape_string(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

std::int64_t shape_elements(std::span<const std::int64_t> shape) {
  std::int64_t elements = 1;
  for (const std::int64_t size : shape) {
    const auto product = size < 0 ? std::nullopt : checked_mul(elements, size);
    if (!product) throw_data("shape ", shape_string(shape), " is negative or too large");
    elements = *product;
  }
  return elements;
}

AlignedBuffer::AlignedBuffer(std::size_t bytes, Init init) : size_(bytes) {
  if (bytes == 0) return;
  constexpr std::size_t kAlignment = 64;
  if (bytes > std::numeric_limits<std::size_t>::max() - kAlignment) {
    throw_data("cannot allocate ", bytes, " bytes");
  }
  data_ = static_cast<std::byte*>(
      std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment));
  if (data_ == nullptr) throw_data("cannot allocate ", bytes, " bytes; not enough memory");
  if (init == Init::kZero) std::memset(data_, 0, bytes);
}

AlignedBuffer::~AlignedBuffer() { std::free(data_); }

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  if (this != &other) {
    std::free(data_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

Tensor::Tensor(DType dtype, std::vector<std::int64_t> shape)
    : Tensor(uninitialized(dtype, std::move(shape))) {
  if (bytes() > 0) std::memset(buffer_.data(), 0, bytes());
}

Tensor Tensor::uninitialized(DType dtype, std::vector<std::int64_t> shape) {
  Tensor out;
  out.dtype_ = dtype;
  out.shape_ = std::move(shape);
  out.elements_ = shape_elements(out.shape_);
  const auto bytes = checked_mul(static_cast<std::size_t>(out.elements_), dtype_size(dtype));
  if (!bytes) throw_data("tensor of shape ", shape_string(out.shape_), " is too large");
  out.buffer_ = AlignedBuffer(*bytes, AlignedBuffer::Init::kNone);
  out.data_ = out.buffer_.data();
  return out;
}

Tensor Tensor::borrow(std::shared_ptr<const MappedFile> file, std::size_t offset, DType dtype,
                      std::vector<std::int64_t> shape) {
  Tensor out;
  out.dtype_ = dtype;
  out.shape_ = std::move(shape);
  out.elements_ = shape_elements(out.shape_);
  const auto bytes = checked_mul(static_cast<std::size_t>(out.elements_), dtype_size(dtype));
  const std::size_t available = file->bytes().size();
  if (!bytes || offset > available || *bytes > available - offset) {
    throw_data("tensor of shape ", shape_string(out.shape_), " at ", offset, ": file '",
               file->path().string(), "' ends at ", available);
  }
  out.data_ = file->bytes().data() + offset;
  out.file_offset_ = offset;
  out.file_ = std::move(file);
  return out;
}

Tensor Tensor::share(std::shared_ptr<const Tensor> tensor) {
  if (tensor->file_) {
    return borrow(tensor->file_, tensor->file_offset_, tensor->dtype_, tensor->shape_);
  }
  Tensor out;
  out.dtype_ = tensor->dtype_;
  out.shape_ = tensor->shape_;
  out.elements_ = tensor->elements_;
  out.data_ = tensor->data_;
  out.owner_ = std::move(tensor);
  return out;
}

Tensor Tensor::clone() const {
  Tensor out = uninitialized(dtype_, shape_);
  if (bytes() > 0) std::memcpy(out.buffer_.data(), data_, bytes());
  return out;
}

Tensor Tensor::to(DType dtype) const {
  if (dtype == dtype_) return clone();
  Tensor out = uninitialized(dtype, shape_);
  if (dtype == DType::kF32) {
    convert_to_float(data_, dtype_, elements_, out.mutable_data<float>().data());
  } else {
    constexpr std::int64_t kChunk = 4096;
    float chunk[kChunk];
    for (std::int64_t i = 0; i < elements_; i += kChunk) {
      const std::int64_t n = std::min(kChunk, elements_ - i);
      convert_to_float(data_ + static_cast<std::size_t>(i) * dtype_size(dtype_), dtype_, n, chunk);
      convert_from_float(chunk, dtype, n,
                         out.mutable_raw() + static_cast<std::size_t>(i) * dtype_size(dtype));
    }
  }
  return out;
}

void Tensor::drop_pages() const {
  if (file_) file_->drop(file_offset_, bytes());
}

void Tensor::prefetch() const {
  if (file_) file_->prefetch(file_offset_, bytes());
}

void Tensor::expect(DType dtype) const {
  if (dtype != dtype_) {
    throw_data("tensor ", shape_string(shape_), ": dtype ", dtype_name(dtype_), ", wanted ",
               dtype_name(dtype));
  }
}

void Tensor::expect_writable() const {
  if (borrowed()) throw_data("tensor ", shape_string(shape_), " is only borrowed, not to write to");
}

void Tensor::expect_matrix() const {
  if (rank() != 1 && rank() != 2) {
    throw_data("tensor ", shape_string(shape_), ": wanted a matrix");
  }
}

void convert_to_float(const std::byte* from, DType dtype, std::int64_t count, float* out) {
  if (count <= 0) return;
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, from, static_cast<std::size_t>(count) * sizeof(float));
      return;
    case DType::kF16:
      return widen<F16>(from, count, out);
    case DType::kBF16:
      return widen<BF16>(from, count, out);
    case DType::kF64:
      return widen<double>(from, count, out);
    case DType::kI8:
      return widen<std::int8_t>(from, count, out);
    case DType::kI16:
      return widen<std::int16_t>(from, count, out);
    case DType::kI32:
      return widen<std::int32_t>(from, count, out);
    case DType::kI64:
      return widen<std::int64_t>(from, count, out);
    case DType::kU8:
      return widen<std::uint8_t>(from, count, out);
    case DType::kU16:
      return widen<std::uint16_t>(from, count, out);
    case DType::kU32:
      return widen<std::uint32_t>(from, count, out);
    case DType::kU64:
      return widen<std::uint64_t>(from, count, out);
    case DType::kBool:
      return widen<std::uint8_t>(from, count, out);
    case DType::kF8E4M3:
    case DType::kF8E5M2:
    case DType::kF8E4M3Fnuz:
    case DType::kF8E5M2Fnuz:
    case DType::kF8E8M0: {
      const Float8Table& table = float8_table(dtype);
      for (std::int64_t i = 0; i < count; ++i) {
        out[i] = table[std::to_integer<std::size_t>(from[i])];
      }
      return;
    }
  }
}

void convert_from_float(const float* from, DType dtype, std::int64_t count, std::byte* out) {
  const auto narrow = [&]<typename T>(T) {
    for (std::int64_t i = 0; i < count; ++i) {
      const T value(from[i]);
      std::memcpy(out + static_cast<std::size_t>(i) * sizeof(T), &value, sizeof(T));
    }
  };
  if (dtype == DType::kF32) return narrow(float{});
  if (dtype == DType::kBF16) return narrow(BF16{});
  if (dtype == DType::kF16) return narrow(F16{});
  throw_data("cannot store floats as ", dtype_name(dtype), "; wanted float32, bfloat16 or float16");
}

}  // namespace drrik
