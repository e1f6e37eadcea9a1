#pragma once
// What an autoencoder does on given activations, measured in one streaming pass.
//
// Every row counts; leave out rows (BOS, special tokens) before, and say so beside the numbers: it
// is where published numbers disagree most. Sums are double precision over fixed blocks, so results
// do not depend on the number of threads.

#include <cstdint>
#include <vector>

#include "drrik/activations/row_source.h"
#include "drrik/sae/sae.h"

namespace drrik {

struct EvalReport {
  std::int64_t rows = 0;
  std::int64_t d_in = 0;
  std::int64_t d_sae = 0;

  double mse = 0.0;            ///< Mean over all elements of (x̂ − x)².
  double squared_error = 0.0;  ///< Mean over rows of ‖x̂ − x‖².
  /// Σ‖x − x̂‖² / Σ‖x − x̄‖², x̄ the mean of all rows; NaN when the rows do not vary.
  double fvu = 0.0;
  double explained_variance = 0.0;  ///< 1 − FVU.
  /// The older published variant: mean over rows of 1 − ‖x − x̂‖² / ‖x − x̄‖², x̄ the mean of the
  /// row's block of 4096 (SAELens's explained_variance_legacy, per batch).
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

  /// Counts of alive latents by log10 density: bin i is [10^(−8 + i/4), 10^(−8 + (i+1)/4)), 32 bins
  /// up to 1 (density 1 falls in the last).
  std::vector<std::int64_t> density_histogram() const;
};

/// Throws Error(data) when widths differ, there are no rows or one holds NaN or Inf (naming row and
/// column), Error(numeric) naming the first row whose reconstruction is not finite,
/// Error(interrupted). O(rows · d_in · d_sae) time; memory for one block.
EvalReport evaluate(const Sae& sae, const RowSource& rows);

}  // namespace drrik
