#include "drrik/sae/reconstruction.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "drrik/base/error.h"
#include "drrik/base/threads.h"

namespace drrik {
namespace {

// Quantities of a cluster.
enum : std::size_t { kRows, kError, kSpread, kCosine, kActive, kQuantities };

double quotient(double a, double b) {
  return b != 0.0 ? a / b : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

std::vector<std::int64_t> ReconstructionMetrics::density_histogram() const {
  std::vector<std::int64_t> bins(32);
  for (const double value : density) {
    if (value <= 0.0) continue;
    const double position = (std::log10(value) + 8.0) * 4.0;
    bins[static_cast<std::size_t>(std::clamp(position, 0.0, 31.0))] += 1;
  }
  return bins;
}

ReconstructionSums::ReconstructionSums(std::int64_t d_out, std::int64_t d_sae)
    : d_out_(d_out),
      d_sae_(d_sae),
      origin_(static_cast<std::size_t>(d_out)),
      shift_(static_cast<std::size_t>(d_out)),
      block_mean_(static_cast<std::size_t>(d_out)),
      counts_(static_cast<std::size_t>(d_sae)),
      clusters_(kQuantities) {}

void ReconstructionSums::set_origin(std::span<const double> origin) {
  std::ranges::copy(origin, origin_.begin());
  has_origin_ = true;
}

ReconstructionSums::Row ReconstructionSums::measure(std::span<const float> x,
                                                    std::span<const float> r) const {
  Row row;
  for (std::size_t c = 0; c < x.size(); ++c) {
    const auto xc = static_cast<double>(x[c]);
    const auto rc = static_cast<double>(r[c]);
    const double from_block = xc - block_mean_[c];
    const double from_origin = xc - origin_[c];
    row.error += (rc - xc) * (rc - xc);
    row.x2 += xc * xc;
    row.r2 += rc * rc;
    row.xr += xc * rc;
    row.deviation += from_block * from_block;
    row.spread += from_origin * from_origin;
  }
  return row;
}

void ReconstructionSums::add(MatView<const float> x, MatView<const float> reconstruction,
                             const SparseRows& features, std::span<const std::int64_t> cluster,
                             std::int64_t first_row) {
  const std::int64_t n = x.rows();
  const auto count = static_cast<std::size_t>(n);
  if (x.cols() != d_out_ || reconstruction.cols() != d_out_ || reconstruction.rows() != n ||
      features.row_start.size() != count + 1 || (!cluster.empty() && cluster.size() != count)) {
    throw_data("metrics: ", n, " rows ", x.cols(), " wide and ", reconstruction.rows(),
               " reconstructions ", reconstruction.cols(), " wide with ",
               features.row_start.size() - 1, " rows of features; wanted as many of each, ", d_out_,
               " wide");
  }
  if (n == 0) return;

  std::ranges::fill(block_mean_, 0.0);
  for (std::int64_t i = 0; i < n; ++i) {
    const auto row = x.row(i);
    for (std::size_t c = 0; c < block_mean_.size(); ++c) {
      block_mean_[c] += static_cast<double>(row[c]);
    }
  }
  for (double& value : block_mean_) value /= static_cast<double>(n);
  if (!has_origin_) set_origin(block_mean_);

  block_.resize(std::max(block_.size(), count));
  parallel_for(n, 16, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      block_[static_cast<std::size_t>(i)] = measure(x.row(i), reconstruction.row(i));
    }
  });
  for (std::int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(block_[static_cast<std::size_t>(i)].error)) {
      throw_numeric("evaluate: the reconstruction of row ", first_row + i, " is NaN or infinite");
    }
  }

  if (cluster.empty()) clusters_.close();
  for (std::size_t i = 0; i < count; ++i) {
    const Row& row = block_[i];
    const std::int64_t active = features.row_start[i + 1] - features.row_start[i];
    error_ += row.error;
    r2_ += row.r2;
    xr_ += row.xr;
    squares_ += row.spread;
    if (row.deviation > 0) {
      legacy_ += 1.0 - row.error / row.deviation;
      ++legacy_rows_;
    }
    const double cosine =
        row.x2 > 0 && row.r2 > 0 ? row.xr / std::sqrt(row.x2) / std::sqrt(row.r2) : 0.0;
    cosine_ += cosine;
    if (row.x2 > 0) {
      ratio_ += std::sqrt(row.r2 / row.x2);
      ++ratio_rows_;
    }
    if (!cluster.empty() && cluster[i] != open_cluster_) {
      clusters_.close();
      open_cluster_ = cluster[i];
    }
    clusters_.add(std::array<double, kQuantities>{1.0, row.error, row.spread, cosine,
                                                  static_cast<double>(active)});
  }
  if (cluster.empty()) clusters_.close();
  for (std::size_t c = 0; c < shift_.size(); ++c) {
    shift_[c] += static_cast<double>(n) * (block_mean_[c] - origin_[c]);
  }
  const std::size_t begin = static_cast<std::size_t>(features.row_start.front());
  const std::size_t end = static_cast<std::size_t>(features.row_start.back());
  active_ += static_cast<std::int64_t>(end - begin);
  for (std::size_t e = begin; e < end; ++e) {
    ++counts_[static_cast<std::size_t>(features.latent[e])];
    l1_ += static_cast<double>(features.value[e]);
  }
  rows_ += n;
}

ReconstructionMetrics ReconstructionSums::metrics() const {
  ReconstructionMetrics out;
  out.rows = rows_;
  out.d_out = d_out_;
  out.d_sae = d_sae_;
  const auto n = static_cast<double>(rows_);
  double variance = squares_;  // Σ‖x − x̄‖²
  for (const double sum : shift_) variance -= rows_ > 0 ? sum * sum / n : 0.0;
  out.squared_error = quotient(error_, n);
  out.mse = out.squared_error / static_cast<double>(d_out_);
  out.fvu = quotient(error_, variance);
  out.explained_variance = 1.0 - out.fvu;
  out.explained_variance_legacy = quotient(legacy_, static_cast<double>(legacy_rows_));
  out.cosine = quotient(cosine_, n);
  out.l2_ratio = quotient(ratio_, static_cast<double>(ratio_rows_));
  out.relative_reconstruction_bias = quotient(r2_, xr_);
  out.l0 = quotient(static_cast<double>(active_), n);
  out.l1 = quotient(l1_, n);
  out.density.reserve(counts_.size());
  for (const std::int64_t count : counts_) {
    const double density = rows_ > 0 ? static_cast<double>(count) / n : 0.0;
    out.density.push_back(density);
    out.dead_latents += count == 0 ? 1 : 0;
    out.dense_1_percent += density > 0.01 ? 1 : 0;
    out.dense_10_percent += density > 0.1 ? 1 : 0;
  }

  ClusterSums clusters = clusters_;
  clusters.close();
  out.clusters = clusters.clusters();
  out.mse_interval = linear(clusters.ratio(kError, kRows), 1.0 / static_cast<double>(d_out_), 0.0);
  out.cosine_interval = clusters.ratio(kCosine, kRows);
  out.l0_interval = clusters.ratio(kActive, kRows);
  // About the origin the spread is too large by n ‖x̄ − origin‖²: the interval is moved to the FVU
  // about the mean and stretched in proportion.
  const Interval about_origin = clusters.ratio(kError, kSpread);
  out.fvu_interval = linear(about_origin, quotient(squares_, variance), 0.0);
  return out;
}

}  // namespace drrik
