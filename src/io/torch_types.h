#pragma once
// PyTorch's names for element types, shared by the reader and the writer of its files.

#include <array>
#include <string_view>

#include "drrik/tensor/dtype.h"

namespace drrik {

struct TorchType {
  std::string_view storage;  ///< The typed storage class, "" when torch has none.
  std::string_view name;     ///< torch.<name>
  DType dtype;
};

inline constexpr std::array<TorchType, 18> kTorchTypes = {
    {{"FloatStorage", "float32", DType::kF32},
     {"HalfStorage", "float16", DType::kF16},
     {"BFloat16Storage", "bfloat16", DType::kBF16},
     {"DoubleStorage", "float64", DType::kF64},
     {"CharStorage", "int8", DType::kI8},
     {"ShortStorage", "int16", DType::kI16},
     {"IntStorage", "int32", DType::kI32},
     {"LongStorage", "int64", DType::kI64},
     {"ByteStorage", "uint8", DType::kU8},
     {"", "uint16", DType::kU16},
     {"", "uint32", DType::kU32},
     {"", "uint64", DType::kU64},
     {"BoolStorage", "bool", DType::kBool},
     {"", "float8_e4m3fn", DType::kF8E4M3},
     {"", "float8_e5m2", DType::kF8E5M2},
     {"", "float8_e4m3fnuz", DType::kF8E4M3Fnuz},
     {"", "float8_e5m2fnuz", DType::kF8E5M2Fnuz},
     {"", "float8_e8m0fnu", DType::kF8E8M0}}};

}  // namespace drrik
