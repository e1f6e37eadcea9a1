#pragma once
// What a reconstruction is worth, summed batch by batch: the one place where training and
// evaluation compute MSE, FVU, cosine, bias, L0 and densities. Formulas: docs/evaluation.md.

#include <cstdint>
#include <span>
#include <vector>

#include "drrik/sae/confidence.h"
#include "drrik/sae/sae.h"
#include "drrik/tensor/mat_view.h"

namespace drrik {

/// Numbers of all rows that were added. x is what was to be reconstructed, x̂ the reconstruction.
struct ReconstructionMetrics {
  std::int64_t rows = 0;
  std::int64_t d_out = 0;
  std::int64_t d_sae = 0;

  double mse = 0.0;            ///< Mean over all elements of (x̂ − x)².
  double squared_error = 0.0;  ///< Mean over rows of ‖x̂ − x‖².
  /// Σ‖x − x̂‖² / Σ‖x − x̄‖², x̄ the mean of all rows; NaN when the rows do not vary.
  double fvu = 0.0;
  double explained_variance = 0.0;  ///< 1 − FVU.
  /// The older published variant: mean over rows of 1 − ‖x − x̂‖² / ‖x − x̄‖², x̄ the mean of the
  /// row's block (SAELens's explained_variance_legacy, per batch).
  double explained_variance_legacy = 0.0;
  double cosine = 0.0;    ///< Mean over rows of cos(x, x̂); rows of norm 0 count 0.
  double l2_ratio = 0.0;  ///< Mean over rows of ‖x̂‖ / ‖x‖; rows of norm 0 are left out.
  /// E‖x̂‖² / E[x·x̂]: 1 is unbiased, below 1 is the shrinkage that L1 causes.
  double relative_reconstruction_bias = 0.0;

  double l0 = 0.0;                    ///< Mean number of active latents a row.
  double l1 = 0.0;                    ///< Mean over rows of Σ f.
  std::int64_t dead_latents = 0;      ///< Active on no row.
  std::int64_t dense_1_percent = 0;   ///< Active on more than 1 % of rows.
  std::int64_t dense_10_percent = 0;  ///< Active on more than 10 % of rows.
  std::vector<double> density;        ///< [d_sae], fraction of rows on which a latent is active.

  // 95 % intervals over clusters of rows; of explained variance: 1 − fvu_interval.
  std::int64_t clusters = 0;
  Interval mse_interval;
  Interval fvu_interval;
  Interval cosine_interval;
  Interval l0_interval;

  /// Counts of alive latents by log10 density: bin i is [10^(−8 + i/4), 10^(−8 + (i+1)/4)), 32 bins
  /// up to 1 (density 1 falls in the last).
  std::vector<std::int64_t> density_histogram() const;
};

/// Sums in double precision over blocks as they are added, which do not depend on the number of
/// threads. Memory: O(d_out + d_sae). Not thread-safe.
class ReconstructionSums {
 public:
  ReconstructionSums(std::int64_t d_out, std::int64_t d_sae);

  /// Squares are summed about this row ([d_out]), which keeps the variance free of cancellation,
  /// and the interval of the FVU takes it for the mean row (to first order that makes no
  /// difference). Without it, the first block's mean is taken. Only before the first block.
  void set_origin(std::span<const double> origin);

  /// Adds a block of rows: x and x̂ [n, d_out], features of the same n rows. `cluster` ([n], or
  /// empty) says which cluster a row belongs to: a change from one row to the next ends one, also
  /// from block to block; empty: the block is one cluster. Throws Error(numeric) naming the first
  /// row (counted from `first_row`) whose error is not finite and Error(data) when shapes differ,
  /// both before anything is added.
  void add(MatView<const float> x, MatView<const float> reconstruction, const SparseRows& features,
           std::span<const std::int64_t> cluster = {}, std::int64_t first_row = 0);

  std::int64_t rows() const { return rows_; }
  /// Of all rows so far. O(d_out + d_sae).
  ReconstructionMetrics metrics() const;

 private:
  struct Row {
    double error = 0.0;      // ‖x̂ − x‖²
    double x2 = 0.0;         // ‖x‖²
    double r2 = 0.0;         // ‖x̂‖²
    double xr = 0.0;         // x·x̂
    double deviation = 0.0;  // ‖x − block mean‖²
    double spread = 0.0;     // ‖x − origin‖²
  };
  Row measure(std::span<const float> x, std::span<const float> r) const;

  std::int64_t d_out_;
  std::int64_t d_sae_;
  std::int64_t rows_ = 0;
  std::vector<double> origin_;
  bool has_origin_ = false;
  std::vector<double> shift_;  ///< Σ (x − origin), [d_out].
  double squares_ = 0.0;       ///< Σ ‖x − origin‖².
  std::vector<double> block_mean_;
  std::vector<Row> block_;  ///< Scratch.
  std::vector<std::int64_t> counts_;

  double error_ = 0.0;
  double r2_ = 0.0;
  double xr_ = 0.0;
  double legacy_ = 0.0;
  std::int64_t legacy_rows_ = 0;
  double cosine_ = 0.0;
  double ratio_ = 0.0;
  std::int64_t ratio_rows_ = 0;
  double l1_ = 0.0;
  std::int64_t active_ = 0;
  ClusterSums clusters_;
  std::int64_t open_cluster_ = -1;
};

}  // namespace drrik
