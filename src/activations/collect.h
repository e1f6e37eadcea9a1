#pragma once
// From the activations of every token at a hook to the rows that are kept.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "drrik/activations/options.h"
#include "drrik/activations/store.h"
#include "drrik/model/hook.h"
#include "drrik/tensor/mat_view.h"

namespace drrik::detail {

/// Rows that one sequence of `tokens` tokens gives.
std::int64_t rows_of(Positions positions, std::int64_t tokens);

/// Copies what `positions` keeps of `activations` [n, dim] to `out` [rows, dim] (a column range of
/// the batch's matrix, so with a stride). boundaries: as in TokenBatch.
void collect_positions(MatView<const float> activations, std::span<const std::int64_t> boundaries,
                       Positions positions, MatView<float> out);

/// Throws Error(numeric) naming layer, sample and position when a value is NaN or Inf. `samples`
/// have their rows set, counted from the batch's first row.
void check_finite(MatView<const float> rows, std::int64_t dim,
                  const std::vector<std::string>& layer_paths,
                  const std::vector<SampleRecord>& samples, Positions positions);

}  // namespace drrik::detail
