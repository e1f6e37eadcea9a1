#include "drrik/eval/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "activations/nonfinite.h"
#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/threads.h"

namespace drrik {
namespace {

constexpr std::int64_t kBlockRows = 4096;

/// Of one row.
struct RowSums {
  double error = 0.0;      // ‖x̂ − x‖²
  double x2 = 0.0;         // ‖x‖²
  double r2 = 0.0;         // ‖x̂‖²
  double xr = 0.0;         // x·x̂
  double deviation = 0.0;  // ‖x − block mean‖²
};

RowSums row_sums(std::span<const float> x, std::span<const float> r,
                 const std::vector<double>& block_mean) {
  RowSums sums;
  for (std::size_t c = 0; c < x.size(); ++c) {
    const auto xc = static_cast<double>(x[c]);
    const auto rc = static_cast<double>(r[c]);
    const double d = xc - block_mean[c];
    sums.error += (rc - xc) * (rc - xc);
    sums.x2 += xc * xc;
    sums.r2 += rc * rc;
    sums.xr += xc * rc;
    sums.deviation += d * d;
  }
  return sums;
}

struct Totals {
  double error = 0.0;
  double x2 = 0.0;
  double r2 = 0.0;
  double xr = 0.0;
  double legacy = 0.0;
  std::int64_t legacy_rows = 0;
  double cosine = 0.0;
  double ratio = 0.0;
  std::int64_t ratio_rows = 0;
  double l1 = 0.0;
  std::int64_t active = 0;
};

void add(const RowSums& row, Totals& totals) {
  totals.error += row.error;
  totals.x2 += row.x2;
  totals.r2 += row.r2;
  totals.xr += row.xr;
  if (row.deviation > 0) {
    totals.legacy += 1.0 - row.error / row.deviation;
    ++totals.legacy_rows;
  }
  if (row.x2 > 0 && row.r2 > 0) totals.cosine += row.xr / std::sqrt(row.x2 * row.r2);
  if (row.x2 > 0) {
    totals.ratio += std::sqrt(row.r2 / row.x2);
    ++totals.ratio_rows;
  }
}

double quotient(double a, double b) {
  return b != 0.0 ? a / b : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

std::vector<std::int64_t> EvalReport::density_histogram() const {
  std::vector<std::int64_t> bins(32);
  for (const double value : density) {
    if (value <= 0.0) continue;
    const double position = (std::log10(value) + 8.0) * 4.0;
    bins[static_cast<std::size_t>(std::clamp(position, 0.0, 31.0))] += 1;
  }
  return bins;
}

EvalReport evaluate(const Sae& sae, const RowSource& source) {
  EvalReport report;
  report.rows = source.rows();
  report.d_in = sae.d_in();
  report.d_sae = sae.d_sae();
  if (source.dim() != report.d_in) {
    throw_data("evaluate: activations are ", source.dim(), " wide, the autoencoder takes ",
               report.d_in);
  }
  if (report.rows == 0) throw_data("evaluate: there are no activations");

  const auto d = static_cast<std::size_t>(report.d_in);
  const std::int64_t block = std::min(kBlockRows, report.rows);
  Tensor x_buffer(DType::kF32, {block, report.d_in});
  Tensor r_buffer(DType::kF32, {block, report.d_in});
  SparseRows features;
  std::vector<RowSums> rows(static_cast<std::size_t>(block));
  std::vector<double> mean(d);  // of all rows, shifted by `origin`
  std::vector<double> block_mean(d);
  std::vector<double> origin(d);  // the first block's mean: keeps the variance free of cancellation
  double shifted_squares = 0.0;
  std::vector<std::int64_t> counts(static_cast<std::size_t>(report.d_sae));
  Totals totals;

  for (std::int64_t begin = 0; begin < report.rows; begin += block) {
    check_interrupt("evaluating");
    const std::int64_t n = std::min(block, report.rows - begin);
    const MatView<float> x = x_buffer.mutable_mat<float>().rows_range(0, n);
    const MatView<float> r = r_buffer.mutable_mat<float>().rows_range(0, n);
    source.read(begin, x);
    detail::refuse_nonfinite(x, begin);
    sae.encode(x, features);
    sae.decode(features, r);

    std::ranges::fill(block_mean, 0.0);
    for (std::int64_t i = 0; i < n; ++i) {
      const auto row = x.row(i);
      for (std::size_t c = 0; c < d; ++c) block_mean[c] += static_cast<double>(row[c]);
    }
    for (double& value : block_mean) value /= static_cast<double>(n);
    if (begin == 0) origin = block_mean;

    parallel_for(n, 16, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        rows[static_cast<std::size_t>(i)] = row_sums(x.row(i), r.row(i), block_mean);
      }
    });
    for (std::int64_t i = 0; i < n; ++i) {
      const RowSums& row = rows[static_cast<std::size_t>(i)];
      if (!std::isfinite(row.error)) {
        throw_numeric("evaluate: the reconstruction of row ", begin + i, " is NaN or infinite");
      }
      add(row, totals);
      shifted_squares += row.deviation;
    }
    // Σ‖x − origin‖² of the block from its deviation and how far its mean lies from the origin.
    for (std::size_t c = 0; c < d; ++c) {
      const double off = block_mean[c] - origin[c];
      shifted_squares += static_cast<double>(n) * off * off;
      mean[c] += static_cast<double>(n) * off;
    }
    totals.active += static_cast<std::int64_t>(features.value.size());
    for (std::size_t e = 0; e < features.value.size(); ++e) {
      ++counts[static_cast<std::size_t>(features.latent[e])];
      totals.l1 += static_cast<double>(features.value[e]);
    }
  }

  const auto n = static_cast<double>(report.rows);
  double variance = shifted_squares;  // Σ‖x − x̄‖²
  for (const double sum : mean) variance -= sum * sum / n;
  report.squared_error = totals.error / n;
  report.mse = report.squared_error / static_cast<double>(report.d_in);
  report.fvu = quotient(totals.error, variance);
  report.explained_variance = 1.0 - report.fvu;
  report.explained_variance_legacy =
      quotient(totals.legacy, static_cast<double>(totals.legacy_rows));
  report.cosine = totals.cosine / n;
  report.l2_ratio = quotient(totals.ratio, static_cast<double>(totals.ratio_rows));
  report.relative_reconstruction_bias = quotient(totals.r2, totals.xr);
  report.l0 = static_cast<double>(totals.active) / n;
  report.l1 = totals.l1 / n;
  report.density.reserve(counts.size());
  for (const std::int64_t count : counts) {
    const double density = static_cast<double>(count) / n;
    report.density.push_back(density);
    report.dead_latents += count == 0 ? 1 : 0;
    report.dense_1_percent += density > 0.01 ? 1 : 0;
    report.dense_10_percent += density > 0.1 ? 1 : 0;
  }
  return report;
}

}  // namespace drrik
