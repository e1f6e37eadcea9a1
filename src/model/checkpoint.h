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
  /// float32, bfloat16 or float16. Throws Error(data) naming tensor and place when it is absent, of
  /// another shape, or not of a floating type. Thread-safe.
  virtual Tensor get(const std::string& name, std::span<const std::int64_t> shape) const = 0;
  /// Throws as get() does, without reading the tensor.
  virtual void check(const std::string& name, std::span<const std::int64_t> shape) const {
    get(name, shape);
  }
  /// Whether get() is a look-up that cannot fail once check() has passed, and reads nothing.
  virtual bool only_maps() const { return false; }
  /// Has the kernel read the tensors whose names start so; returns when it has. Absence is no
  /// error. Thread-safe.
  virtual void prefetch(const std::string& /*start*/) const {}
};

/// A folder's weights (WeightFiles), by the rules that transformers has for names:
///  - `prefix` ("model.") may be absent from all of them;
///  - LayerNorm.gamma and .beta are weight and bias;
///  - a text model inside a multimodal one lies under "language_model." (both orders known);
///  - what the model does not ask for is ignored (buffers of old versions, vision towers).
///
/// 8-bit floats are widened exactly, or multiplied by the scales beside them where
/// quantization_config says "fp8"; float64 is rounded to float32. Throws Error(data) for other
/// quantised checkpoints.
std::unique_ptr<TensorSource> open_checkpoint(const std::filesystem::path& folder,
                                              std::string_view prefix);

}  // namespace drrik::detail
