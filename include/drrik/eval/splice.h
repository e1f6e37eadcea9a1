#pragma once
// How much of a model's prediction survives when a hook's activations are replaced by an
// autoencoder's reconstruction of them.

#include <cstdint>
#include <vector>

#include "drrik/model/model.h"
#include "drrik/sae/sae.h"

namespace drrik {

struct SpliceReport {
  std::int64_t sequences = 0;
  std::int64_t predictions = 0;  ///< Next-token predictions scored (every position but the last).
  // Cross-entropy, nats, mean over predictions:
  double ce_clean = 0.0;
  double ce_spliced = 0.0;  ///< Reconstruction at every position, the first included.
  double ce_zero = 0.0;     ///< Hook set to zero.
  double ce_mean = 0.0;     ///< Hook set to its mean over all rows of these texts.
  /// (ce_zero − ce_spliced) / (ce_zero − ce_clean): 1 is perfect, 0 as bad as zero ablation.
  double ce_recovered = 0.0;
  double ce_recovered_mean = 0.0;  ///< The same against mean ablation, the stricter baseline.
  double kl_spliced = 0.0;         ///< KL(clean ‖ spliced), nats, mean over predictions.
  double kl_zero = 0.0;
};

/// Runs every sequence of ids five times. Error(usage) for an encoder, which predicts no next
/// token. Sequences with fewer than two tokens are left out; Error(data) when none is left or the
/// hook's width is not sae.d_in(), Error(numeric) naming the first sequence whose logits hold NaN
/// or Inf, and with which edit. Memory: three [longest, vocab] matrices.
SpliceReport evaluate_splice(const Model& model, const Sae& sae, const Hook& hook,
                             const std::vector<std::vector<std::int32_t>>& sequences);

}  // namespace drrik
