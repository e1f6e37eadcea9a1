#include "drrik/tensor/dtype.h"

#include <array>
#include <utility>

namespace drrik {
namespace {

struct Row {
  DType dtype;
  std::string_view name;
  std::size_t size;
};

constexpr std::array<Row, 18> kTable = {{{DType::kF32, "float32", 4},
                                         {DType::kF16, "float16", 2},
                                         {DType::kBF16, "bfloat16", 2},
                                         {DType::kF64, "float64", 8},
                                         {DType::kI8, "int8", 1},
                                         {DType::kI16, "int16", 2},
                                         {DType::kI32, "int32", 4},
                                         {DType::kI64, "int64", 8},
                                         {DType::kU8, "uint8", 1},
                                         {DType::kU16, "uint16", 2},
                                         {DType::kU32, "uint32", 4},
                                         {DType::kU64, "uint64", 8},
                                         {DType::kBool, "bool", 1},
                                         {DType::kF8E4M3, "float8_e4m3fn", 1},
                                         {DType::kF8E5M2, "float8_e5m2", 1},
                                         {DType::kF8E4M3Fnuz, "float8_e4m3fnuz", 1},
                                         {DType::kF8E5M2Fnuz, "float8_e5m2fnuz", 1},
                                         {DType::kF8E8M0, "float8_e8m0fnu", 1}}};

constexpr std::array<std::pair<std::string_view, DType>, 8> kAliases = {{{"fp32", DType::kF32},
                                                                         {"f32", DType::kF32},
                                                                         {"float", DType::kF32},
                                                                         {"bf16", DType::kBF16},
                                                                         {"fp16", DType::kF16},
                                                                         {"f16", DType::kF16},
                                                                         {"half", DType::kF16},
                                                                         {"double", DType::kF64}}};

const Row& row(DType dtype) { return kTable[static_cast<std::size_t>(dtype)]; }

}  // namespace

F16::F16(float value) {
  const auto u = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (u >> 16) & 0x8000U;
  const std::uint32_t magnitude = u & 0x7FFFFFFFU;
  std::uint32_t half = 0;
  if (magnitude > 0x7F800000U) {
    half = 0x7E00U;
  } else if (magnitude >= 0x477FF000U) {  // rounds to 2^16 or more
    half = 0x7C00U;
  } else if (magnitude < 0x38800000U) {
    // Subnormal: adding 0.5 leaves the rounded count of 2^-24 units in the low mantissa bits.
    const float scaled = std::bit_cast<float>(magnitude) + 0.5F;
    half = std::bit_cast<std::uint32_t>(scaled) - 0x3F000000U;
  } else {
    half = (magnitude + 0xFFFU + ((magnitude >> 13) & 1U) - 0x38000000U) >> 13;
  }
  bits = static_cast<std::uint16_t>(sign | half);
}

F16::operator float() const {
  const std::uint32_t sign = (bits & 0x8000U) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1FU;
  const std::uint32_t mantissa = bits & 0x3FFU;
  if (exponent == 0x1FU) return std::bit_cast<float>(sign | 0x7F800000U | (mantissa << 13));
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1.0p-24F;
    return sign != 0 ? -value : value;
  }
  return std::bit_cast<float>(sign | ((exponent + 112U) << 23) | (mantissa << 13));
}

std::size_t dtype_size(DType dtype) { return row(dtype).size; }
std::string_view dtype_name(DType dtype) { return row(dtype).name; }

std::optional<DType> find_dtype(std::string_view name) {
  if (name.starts_with("torch.")) name.remove_prefix(6);
  for (const Row& entry : kTable) {
    if (entry.name == name) return entry.dtype;
  }
  for (const auto& [alias, dtype] : kAliases) {
    if (alias == name) return dtype;
  }
  return std::nullopt;
}

bool is_floating(DType dtype) { return dtype <= DType::kF64 || is_float8(dtype); }

bool is_float8(DType dtype) { return dtype >= DType::kF8E4M3 && dtype <= DType::kF8E8M0; }

}  // namespace drrik
