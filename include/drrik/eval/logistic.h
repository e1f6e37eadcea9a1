#pragma once
// Binary logistic regression in double precision, for probes.
//
// With labels y in {0, 1}, margins m_i = w·x_i + b and weights s_i of the samples,
//   ℓ_i = log(1 + exp(m_i)) − y_i m_i.
// The intercept b is not penalised.

#include <cstdint>
#include <span>
#include <vector>

#include "drrik/sae/sae.h"
#include "drrik/tensor/mat_view.h"

namespace drrik {

/// Samples to learn from, as they lie in memory: a dense matrix or compressed rows, which the
/// caller keeps alive, or some of their rows.
class ProbeRows {
 public:
  explicit ProbeRows(MatView<const float> dense);
  ProbeRows(const SparseRows& sparse, std::int64_t columns);
  /// Row i is row indices[i] of `all`; an index may come more than once.
  ProbeRows(const ProbeRows& all, std::vector<std::int64_t> indices);

  std::int64_t rows() const { return static_cast<std::int64_t>(indices_.size()); }
  std::int64_t columns() const { return columns_; }
  /// w·x of row i.
  double dot(std::int64_t i, std::span<const double> w) const;
  /// out += a · x (or a · x²).
  void add(std::int64_t i, double a, std::span<double> out) const;
  void add_squares(std::int64_t i, double a, std::span<double> out) const;
  /// Calls f(column, value) for the entries of row i that may differ from 0, columns ascending.
  template <typename F>
  void each(std::int64_t i, F&& f) const {
    const auto row = static_cast<std::size_t>(indices_[static_cast<std::size_t>(i)]);
    if (sparse_ == nullptr) {
      const auto values = dense_.row(static_cast<std::int64_t>(row));
      for (std::size_t c = 0; c < values.size(); ++c) f(static_cast<std::int64_t>(c), values[c]);
      return;
    }
    const auto end = static_cast<std::size_t>(sparse_->row_start[row + 1]);
    for (auto e = static_cast<std::size_t>(sparse_->row_start[row]); e < end; ++e) {
      f(std::int64_t{sparse_->latent[e]}, sparse_->value[e]);
    }
  }

 private:
  MatView<const float> dense_;
  const SparseRows* sparse_ = nullptr;
  std::int64_t columns_ = 0;
  std::vector<std::int64_t> indices_;
};

/// Some columns of all rows as a dense matrix, in the order of `columns`: row-major values.
std::vector<float> dense_columns(const ProbeRows& rows, std::span<const std::int64_t> columns);

struct LogisticModel {
  std::vector<double> weights;  ///< [columns]
  double bias = 0.0;
  std::int64_t iterations = 0;
  bool converged = false;

  double margin(const ProbeRows& rows, std::int64_t i) const { return rows.dot(i, weights) + bias; }
};

struct LogisticOptions {
  /// minimises ½‖w‖² + c Σ s_i ℓ_i: scikit-learn's C.
  double c = 1.0;
  double positive_weight = 1.0;  ///< s_i of samples with y = 1,
  double negative_weight = 1.0;  ///< and with y = 0.
  /// Stops when no component of the gradient is larger than this times c Σ s_i.
  double tolerance = 1e-9;
  std::int64_t max_iterations = 200;

  /// n / (2 n_class): scikit-learn's class_weight="balanced".
  static LogisticOptions balanced(std::span<const std::uint8_t> labels);
};

/// With the L2 penalty: Newton's method, its steps by conjugate gradients. Not converged (all
/// labels equal, so that b runs away) is told by the result, not thrown. Throws Error(usage) when
/// rows and labels differ in number or there are none, Error(interrupted). Does not depend on the
/// number of threads.
LogisticModel fit_logistic(const ProbeRows& rows, std::span<const std::uint8_t> labels,
                           const LogisticOptions& options = {});

struct SparseLogisticOptions {
  /// minimises 1/n Σ s_i ℓ_i + l1 Σ|w_j|.
  double l1 = 0.01;
  double positive_weight = 1.0;
  double negative_weight = 1.0;
  /// Stops when a sweep over all columns moves no margin by more than about this.
  double tolerance = 1e-6;
  std::int64_t max_sweeps = 2000;
};

/// With the L1 penalty: cyclic coordinate descent, each step the minimum of the quadratic that
/// bounds the loss from above (its curvature taken as ¼). Throws as fit_logistic().
LogisticModel fit_sparse_logistic(const ProbeRows& rows, std::span<const std::uint8_t> labels,
                                  const SparseLogisticOptions& options = {});

/// The `k` columns with the largest |mean over positives − mean over negatives|, largest first,
/// ties: the lower column; fewer when there are fewer columns.
std::vector<std::int64_t> top_mean_differences(const ProbeRows& rows,
                                               std::span<const std::uint8_t> labels,
                                               std::int64_t k);

/// Mean over positives minus mean over negatives of every column.
std::vector<double> mean_differences(const ProbeRows& rows, std::span<const std::uint8_t> labels);

}  // namespace drrik
