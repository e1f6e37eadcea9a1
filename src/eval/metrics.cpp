#include "drrik/eval/metrics.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "activations/nonfinite.h"
#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"

namespace drrik {
namespace {

constexpr std::int64_t kBlockRows = 4096;
constexpr std::int64_t kOriginRows = 1024;
constexpr std::int64_t kClusterRows = 256;
constexpr std::int64_t kFewestClusters = 32;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

void check(const Sae& sae, const RowSource& source, const RowSource& target,
           const EvalOptions& options) {
  if (source.dim() != sae.d_in()) {
    throw_data("evaluate: activations are ", source.dim(), " wide, the autoencoder takes ",
               sae.d_in());
  }
  if (target.dim() != sae.d_out()) {
    throw_data(
        "evaluate: the activations to be reconstructed are ", target.dim(),
        " wide, the autoencoder gives ", sae.d_out(),
        options.target == nullptr ? "; a transcoder needs its output hook's (--targets)" : "");
  }
  if (target.rows() != source.rows()) {
    throw_data("evaluate: ", source.rows(), " rows of inputs and ", target.rows(),
               " of targets; were they extracted from the same tokens?");
  }
  if (source.rows() == 0) throw_data("evaluate: there are no activations");
  if (!options.keep.empty() && options.keep.size() != at(source.rows())) {
    throw_data("evaluate: it is said of ", options.keep.size(), " rows whether they count; there ",
               "are ", source.rows());
  }
}

// The mean of some rows from all over the source.
std::vector<double> rough_mean(const RowSource& rows) {
  const std::int64_t n = std::min(kOriginRows, rows.rows());
  std::vector<std::int64_t> indices;
  for (std::int64_t i = 0; i < n; ++i) indices.push_back(i * rows.rows() / n);
  Tensor sample = Tensor::uninitialized(DType::kF32, {n, rows.dim()});
  rows.gather(indices, sample.mutable_mat<float>());
  std::vector<double> mean(at(rows.dim()));
  for (std::int64_t i = 0; i < n; ++i) {
    const auto row = sample.mat<float>().row(i);
    for (std::size_t c = 0; c < mean.size(); ++c) {
      // What is no number is told of when its block comes.
      if (std::isfinite(row[c])) mean[c] += static_cast<double>(row[c]) / static_cast<double>(n);
    }
  }
  return mean;
}

// Moves the rows that count to the front; says how many.
std::int64_t compact(MatView<float> rows, std::span<const std::uint8_t> keep) {
  std::int64_t to = 0;
  for (std::int64_t from = 0; from < rows.rows(); ++from) {
    if (keep[at(from)] == 0) continue;
    if (to != from) std::ranges::copy(rows.row(from), rows.row_ptr(to));
    ++to;
  }
  return to;
}

// Says of rows, in ascending order, which cluster each is in.
class Clusters {
 public:
  Clusters(std::span<const std::int64_t> starts, std::int64_t rows)
      : starts_(starts), size_(std::clamp(rows / kFewestClusters, std::int64_t{1}, kClusterRows)) {}

  std::int64_t of(std::int64_t row) {
    if (starts_.empty()) return row / size_;
    while (next_ < starts_.size() && starts_[next_] <= row) ++next_;
    return static_cast<std::int64_t>(next_);
  }
  std::string words() const {
    if (!starts_.empty()) return "texts";
    return size_ == 1 ? "rows" : str("blocks of ", size_, " rows");
  }

 private:
  std::span<const std::int64_t> starts_;
  std::int64_t size_;
  std::size_t next_ = 0;
};

}  // namespace

EvalReport evaluate(const Sae& sae, const RowSource& source, const EvalOptions& options) {
  const RowSource& target = options.target == nullptr ? source : *options.target;
  check(sae, source, target, options);
  const std::int64_t rows = source.rows();
  const std::int64_t block = std::min(kBlockRows, rows);
  Tensor x_buffer = Tensor::uninitialized(DType::kF32, {block, sae.d_in()});
  Tensor y_buffer;
  if (options.target != nullptr) {
    y_buffer = Tensor::uninitialized(DType::kF32, {block, sae.d_out()});
  }
  Tensor r_buffer = Tensor::uninitialized(DType::kF32, {block, sae.d_out()});
  SparseRows features;
  std::vector<std::int64_t> cluster;
  Clusters clusters(options.cluster_starts, rows);
  ReconstructionSums sums(sae.d_out(), sae.d_sae());
  sums.set_origin(rough_mean(target));

  for (std::int64_t begin = 0; begin < rows; begin += block) {
    check_interrupt("evaluating");
    const std::int64_t read = std::min(block, rows - begin);
    MatView<float> x = x_buffer.mutable_mat<float>().rows_range(0, read);
    source.read(begin, x);
    detail::refuse_nonfinite(x, begin);
    MatView<float> y = x;
    if (options.target != nullptr) {
      y = y_buffer.mutable_mat<float>().rows_range(0, read);
      target.read(begin, y);
      detail::refuse_nonfinite(y, begin);
    }
    cluster.clear();
    const auto counts = [&](std::int64_t row) {
      return options.keep.empty() || options.keep[at(row)] != 0;
    };
    for (std::int64_t row = begin; row < begin + read; ++row) {
      if (counts(row)) cluster.push_back(clusters.of(row));
    }
    const auto n = static_cast<std::int64_t>(cluster.size());
    if (n == 0) continue;
    if (n < read) {
      const auto keep = options.keep.subspan(at(begin), at(read));
      if (options.target != nullptr) compact(y, keep);
      compact(x, keep);
      x = x.rows_range(0, n);
      y = y.rows_range(0, n);
    }
    const MatView<float> r = r_buffer.mutable_mat<float>().rows_range(0, n);
    sae.encode_and_reconstruct(x, features, r);
    sums.add(y, r, features, cluster, begin);
  }

  EvalReport report;
  static_cast<ReconstructionMetrics&>(report) = sums.metrics();
  if (report.rows == 0) throw_data("evaluate: all ", rows, " rows are left out");
  report.d_in = sae.d_in();
  report.excluded_rows = rows - report.rows;
  report.clustering = clusters.words();
  return report;
}

}  // namespace drrik
