#pragma once
// Element types: the two half-width floats as values, and the names of all types files can hold.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace drrik {

/// bfloat16: the upper half of a float. Conversion from float rounds to nearest even; NaN stays
/// NaN.
struct BF16 {
  std::uint16_t bits = 0;
  BF16() = default;
  explicit BF16(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    if ((u & 0x7FFFFFFFU) > 0x7F800000U) {
      bits = static_cast<std::uint16_t>((u >> 16) | 0x40U);
    } else {
      bits = static_cast<std::uint16_t>((u + 0x7FFFU + ((u >> 16) & 1U)) >> 16);
    }
  }
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
};

/// IEEE binary16.
struct F16 {
  std::uint16_t bits = 0;
  F16() = default;
  explicit F16(float value);
  explicit operator float() const;
};

static_assert(sizeof(BF16) == 2 && sizeof(F16) == 2);

enum class DType : std::uint8_t {
  kF32,
  kF16,
  kBF16,
  kF64,
  kI8,
  kI16,
  kI32,
  kI64,
  kU8,
  kU16,
  kU32,
  kU64,
  kBool,
  kF8E4M3,      ///< OCP E4M3 without infinities (Micikevicius et al., arXiv:2209.05433).
  kF8E5M2,      ///< OCP E5M2.
  kF8E4M3Fnuz,  ///< As E4M3 with one bias more, no negative zero (its place is the one NaN).
  kF8E5M2Fnuz,
  kF8E8M0  ///< A power of two, 2^(bits - 127), 255 is NaN: scales of OCP's MX formats.
};

/// Bytes of one element.
std::size_t dtype_size(DType dtype);
/// "float32", "bfloat16", "int64": PyTorch's names.
std::string_view dtype_name(DType dtype);
/// The inverse of dtype_name, also taking "fp32", "bf16", "fp16", "half", "float".
std::optional<DType> find_dtype(std::string_view name);
bool is_floating(DType dtype);
/// One of the 8-bit floats: storage only, converted with convert_to_float().
bool is_float8(DType dtype);

template <typename T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::kF32;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::kF64;
}
template <>
constexpr DType dtype_of<BF16>() {
  return DType::kBF16;
}
template <>
constexpr DType dtype_of<F16>() {
  return DType::kF16;
}
template <>
constexpr DType dtype_of<std::int8_t>() {
  return DType::kI8;
}
template <>
constexpr DType dtype_of<std::int16_t>() {
  return DType::kI16;
}
template <>
constexpr DType dtype_of<std::int32_t>() {
  return DType::kI32;
}
template <>
constexpr DType dtype_of<std::int64_t>() {
  return DType::kI64;
}
template <>
constexpr DType dtype_of<std::uint8_t>() {
  return DType::kU8;
}
template <>
constexpr DType dtype_of<std::uint16_t>() {
  return DType::kU16;
}

}  // namespace drrik
