#pragma once
// A name beside a tensor that the caller keeps: what the writers of tensor files take.

#include <string>

#include "drrik/tensor/tensor.h"

namespace drrik {

struct NamedTensor {
  std::string name;
  const Tensor* tensor = nullptr;  ///< Not owned; must live until the writer returns.
};

}  // namespace drrik
