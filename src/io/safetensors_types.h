#pragma once
// The element types of safetensors, in the order the reference library ranks them.

#include <cstdint>
#include <optional>
#include <string_view>

#include "drrik/tensor/dtype.h"

namespace drrik {

struct SafetensorsType {
  std::string_view name;
  unsigned bits;
  std::optional<DType> dtype;  ///< Nothing where Tensor has no such type.
};

/// Null when the name is unknown.
const SafetensorsType* find_safetensors_type(std::string_view name);
/// Position in the reference's order; the writer puts higher ranks first.
int safetensors_rank(DType dtype);
std::string_view safetensors_type_name(DType dtype);

}  // namespace drrik
