#pragma once
// Where a model's tensors come from.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "drrik/tensor/tensor.h"

namespace drrik::detail {

/// Hands out tensors by the name they have with the base model's prefix.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  /// Throws Error(data) naming tensor and place when it is absent, of another shape, or not of a
  /// floating type.
  virtual Tensor get(const std::string& name, std::span<const std::int64_t> shape) const = 0;
};

/// A folder's safetensors. `prefix` may be absent from all its names.
std::unique_ptr<TensorSource> open_checkpoint(const std::filesystem::path& folder,
                                              std::string_view prefix);

}  // namespace drrik::detail
