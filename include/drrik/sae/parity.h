#pragma once
// Whether two coders do the same on given rows: what a conversion proves itself by.

#include <cstdint>

#include "drrik/sae/sae.h"
#include "drrik/sae/statistics.h"

namespace drrik {

struct SaeParity {
  std::int64_t rows = 0;
  double max_difference = 0.0;          ///< Largest |x̂_a − x̂_b| of any element.
  double relative_difference = 0.0;     ///< ‖x̂_a − x̂_b‖ / ‖x̂_a‖ over all rows.
  double max_feature_difference = 0.0;  ///< Largest |f_a − f_b|.
  /// Entries active in both, over entries active in either; 1 when none is active.
  double feature_agreement = 1.0;
  double l0_before = 0.0;  ///< Mean active latents a row of a.
  double l0_after = 0.0;
  /// Σ‖y − x̂‖² / Σ‖y − ȳ‖² against the targets, or against the rows themselves where there are
  /// none; NaN where the output has another width than those.
  double fvu_before = 0.0;
  double fvu_after = 0.0;
};

/// One pass over blocks of rows; `targets` gives blocks as long of what a transcoder is to
/// reconstruct. Throws Error(data) when widths or the blocks' lengths differ or there are no rows,
/// Error(numeric) when a reconstruction is not finite.
SaeParity compare_saes(const Sae& a, const Sae& b, const RowBlocks& next,
                       const RowBlocks& targets = {});

}  // namespace drrik
