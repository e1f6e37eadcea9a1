#pragma once

#include <cstdint>
#include <vector>

#include "drrik/activations/row_source.h"

namespace drrik {

/// Median of every column over rows [0, n) of a source, the lower of the two middle values when
/// their number is even (as torch.median). Exact in three passes of digit counts, with memory for
/// 2048 counts a column however many rows there are; over more than `max_rows` rows, the same of a
/// sample of so many drawn without replacement by `seed`. Throws Error(data) naming row and column
/// of a NaN or Inf.
std::vector<float> column_medians(const RowSource& rows, std::int64_t n, std::int64_t max_rows,
                                  std::uint64_t seed);

}  // namespace drrik
