#include "activations/collect.h"

#include <algorithm>
#include <cmath>

#include "drrik/base/error.h"
#include "drrik/base/threads.h"
#include "drrik/ops/convert.h"

namespace drrik::detail {

std::int64_t rows_of(Positions positions, std::int64_t tokens) {
  return positions == Positions::kAll ? tokens : 1;
}

void collect_positions(MatView<const float> activations, std::span<const std::int64_t> boundaries,
                       Positions positions, MatView<float> out) {
  if (positions == Positions::kAll) {
    copy(activations, out);
    return;
  }
  const auto sequences = static_cast<std::int64_t>(boundaries.size()) - 1;
  parallel_for(sequences, 4, [&](std::int64_t first, std::int64_t last) {
    std::vector<double> sum;
    for (std::int64_t s = first; s < last; ++s) {
      const std::int64_t begin = boundaries[static_cast<std::size_t>(s)];
      const std::int64_t end = boundaries[static_cast<std::size_t>(s) + 1];
      float* to = out.row_ptr(s);
      if (positions != Positions::kMean) {
        const std::int64_t row = positions == Positions::kFirst ? begin : end - 1;
        std::copy_n(activations.row_ptr(row), activations.cols(), to);
        continue;
      }
      sum.assign(static_cast<std::size_t>(activations.cols()), 0.0);
      for (std::int64_t r = begin; r < end; ++r) {
        const float* row = activations.row_ptr(r);
        for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += static_cast<double>(row[c]);
      }
      for (std::size_t c = 0; c < sum.size(); ++c) {
        to[c] = static_cast<float>(sum[c] / static_cast<double>(end - begin));
      }
    }
  });
}

void check_finite(MatView<const float> rows, std::int64_t dim,
                  const std::vector<std::string>& layer_paths,
                  const std::vector<SampleRecord>& samples, Positions positions) {
  if (!has_nonfinite(rows)) return;
  for (const SampleRecord& sample : samples) {
    for (std::int64_t r = sample.row; r < sample.row + sample.rows; ++r) {
      for (std::int64_t c = 0; c < rows.cols(); ++c) {
        const float value = rows(r, c);
        if (std::isfinite(value)) continue;
        const auto length = static_cast<std::int64_t>(sample.input_ids.size());
        const std::string position =
            positions == Positions::kMean    ? str("in the mean of its ", length, " tokens")
            : positions == Positions::kAll   ? str("at token ", r - sample.row)
            : positions == Positions::kFirst ? str("at token 0")
                                             : str("at token ", length - 1);
        throw_numeric("activation ", c % dim, " of ",
                      layer_paths[static_cast<std::size_t>(c / dim)], " is ",
                      std::isnan(value) ? "NaN" : "infinite", " for sample ", sample.index, " ",
                      position, "; are the model's weights intact?");
      }
    }
  }
}

}  // namespace drrik::detail
