#include "train/geometric_median.h"

#include <algorithm>
#include <cmath>

#include "drrik/base/threads.h"

namespace drrik {

std::vector<float> geometric_median(MatView<const float> rows) {
  constexpr int kIterations = 100;
  constexpr double kEnough = 1e-5;
  constexpr std::int64_t kBlock = 64;  // rows; fixed, so that threads do not matter
  const auto d = static_cast<std::size_t>(rows.cols());
  const std::int64_t blocks = (rows.rows() + kBlock - 1) / kBlock;
  std::vector<double> point(d, 0.0);
  std::vector<double> sums(static_cast<std::size_t>(blocks) * (d + 1));
  // point = Σ w x / Σ w, w = 1 at first, then 1 / distance.
  for (int i = 0; i <= kIterations; ++i) {
    std::ranges::fill(sums, 0.0);
    parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t b = begin; b < end; ++b) {
        double* sum = sums.data() + static_cast<std::size_t>(b) * (d + 1);
        for (std::int64_t r = b * kBlock; r < std::min(rows.rows(), (b + 1) * kBlock); ++r) {
          const float* row = rows.row_ptr(r);
          double weight = 1.0;
          if (i > 0) {
            double square = 0.0;
            for (std::size_t c = 0; c < d; ++c) {
              const double e = static_cast<double>(row[c]) - point[c];
              square += e * e;
            }
            weight = 1.0 / std::max(std::sqrt(square), 1e-12);
          }
          for (std::size_t c = 0; c < d; ++c) sum[c] += weight * static_cast<double>(row[c]);
          sum[d] += weight;
        }
      }
    });
    double total = 0.0;
    std::vector<double> next(d, 0.0);
    for (std::int64_t b = 0; b < blocks; ++b) {
      const double* sum = sums.data() + static_cast<std::size_t>(b) * (d + 1);
      for (std::size_t c = 0; c < d; ++c) next[c] += sum[c];
      total += sum[d];
    }
    double moved = 0.0;
    for (std::size_t c = 0; c < d; ++c) {
      next[c] /= total;
      moved += (next[c] - point[c]) * (next[c] - point[c]);
    }
    point = std::move(next);
    if (i > 0 && std::sqrt(moved) < kEnough) break;
  }
  return {point.begin(), point.end()};
}

}  // namespace drrik
