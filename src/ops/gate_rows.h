#pragma once
// gate_mul on the calling thread, for tiles of a product.

#include "drrik/ops/activation.h"

namespace drrik::detail {

void gate_rows(Activation activation, MatView<const float> gate, MatView<const float> up,
               MatView<float> out);
void gate_rows(Activation activation, MatView<const float> gate, MatView<const float> up,
               MatView<BF16> out);

}  // namespace drrik::detail
