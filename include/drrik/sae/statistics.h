#pragma once
// Two questions about features over any number of rows, in one pass that never holds the features
// of all rows.

#include <cstdint>
#include <functional>
#include <vector>

#include "drrik/sae/sae.h"
#include "drrik/tensor/mat_view.h"

namespace drrik {

/// Gives the next block of rows [t, d], any t, and an empty view at the end.
using RowBlocks = std::function<MatView<const float>()>;

/// The rows of one matrix as blocks.
RowBlocks blocks_of(MatView<const float> rows, std::int64_t block_rows = 4096);

/// [h]: fraction of rows on which each feature is > 0 (zeros without rows).
std::vector<double> get_feature_density(const Sae& sae, const RowBlocks& next);
std::vector<double> get_feature_density(const Sae& sae, MatView<const float> rows);

struct TopExample {
  std::int64_t row = 0;
  float value = 0.0F;
};

/// The k rows on which a feature is highest, value descending, ties: the earlier row first. Rows
/// on which the feature is 0 count too, as the last ones. Throws Error(usage) when the feature is
/// outside [0, h) or k < 0.
std::vector<TopExample> get_top_activating_examples(const Sae& sae, const RowBlocks& next,
                                                    std::int64_t feature, std::int64_t k = 10);
std::vector<TopExample> get_top_activating_examples(const Sae& sae, MatView<const float> rows,
                                                    std::int64_t feature, std::int64_t k = 10);

}  // namespace drrik
