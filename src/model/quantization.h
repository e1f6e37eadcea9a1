#pragma once
// Checkpoints whose matrices are stored in fewer bits: 8-bit floats with scales are read, what
// others there are is refused by name.

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>

#include "drrik/tensor/tensor.h"

namespace drrik::detail {

struct Quantization {
  bool fp8 = false;
  /// Rows and columns that share a scale; absent: one scale for the matrix, or one a row.
  std::optional<std::array<std::int64_t, 2>> block;
};

/// What quantization_config of the folder's config.json says (nothing without such a file). Read
/// are transformers' fine-grained "fp8", "fbgemm_fp8", and "compressed-tensors" in its
/// float-quantized format with scales a matrix, a row (its channel) or a block; throws Error(data)
/// naming the method, or the key, for all others. Source: the packages' own configurations.
Quantization read_quantization(const std::filesystem::path& folder);

/// weight [out, in] of an 8-bit float times its scales, as float32: `scale` has one element, one a
/// row, or [ceil(out / block), ceil(in / block)]. This is what the packages' own widening gives;
/// activations stay as they are, whatever activation_scheme says. Throws Error(data) for a scale
/// of another shape.
Tensor scaled(const Tensor& weight, const Tensor& scale,
              const std::optional<std::array<std::int64_t, 2>>& block);

}  // namespace drrik::detail
