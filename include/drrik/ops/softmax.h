#pragma once
// Softmax and what is read off logits. Sums are float32 in a fixed order; maxima are subtracted
// first, so no finite logit overflows.

#include <cstdint>
#include <span>

#include "drrik/tensor/mat_view.h"

namespace drrik {

/// out = softmax of each row of scale · x. out may be x itself. Throws Error(data) when shapes
/// differ. Thread-safe.
void softmax(MatView<const float> x, MatView<float> out, float scale = 1.0F);

/// out = log softmax of each row (nats). out may be x itself.
void log_softmax(MatView<const float> x, MatView<float> out);

/// log Σ exp of one row, nats.
float log_sum_exp(std::span<const float> x);

/// out[r] = -log softmax(logits[r])[targets[r]], nats; a negative target gives 0 (not counted).
/// Throws Error(data) when sizes differ or a target is out of range. Thread-safe.
void cross_entropy(MatView<const float> logits, std::span<const std::int32_t> targets,
                   std::span<float> out);

/// Index of the largest element, the lowest one on ties; NaN never wins over a number. -1 for an
/// empty row.
std::int64_t argmax(std::span<const float> x);

}  // namespace drrik
