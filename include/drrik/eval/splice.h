#pragma once
// How much of a model's prediction survives when a hook's activations are replaced by an
// autoencoder's reconstruction of them. Formulas and sources: docs/evaluation.md.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "drrik/model/model.h"
#include "drrik/sae/confidence.h"
#include "drrik/sae/sae.h"

namespace drrik {

struct SpliceOptions {
  /// A transcoder's other end: it reads at the hook and its output goes here, at or after it in the
  /// forward pass. Nothing: where it reads.
  std::optional<Hook> output = {};
  /// Positions whose token this holds for are left alone by every edit, and predictions made from
  /// them are not scored. Empty: there are none.
  std::function<bool(std::int32_t id)> leave_alone = {};
};

struct SpliceReport {
  std::int64_t sequences = 0;
  std::int64_t predictions = 0;  ///< Next-token predictions scored (no text's last position).
  std::int64_t left_alone = 0;   ///< Positions that no edit touched.
  // Cross-entropy, nats, mean over predictions:
  double ce_clean = 0.0;
  double ce_spliced = 0.0;  ///< Reconstruction at every position but those left alone.
  double ce_zero = 0.0;     ///< Hook set to zero.
  double ce_mean = 0.0;  ///< Hook set to its mean over all rows of these texts (that are edited).
  /// (ce_zero − ce_spliced) / (ce_zero − ce_clean): 1 is perfect, 0 as bad as zero ablation.
  double ce_recovered = 0.0;
  double ce_recovered_mean = 0.0;  ///< The same against mean ablation, the stricter baseline.
  // KL(clean ‖ edited), nats, mean over predictions:
  double kl_spliced = 0.0;
  double kl_zero = 0.0;
  double kl_mean = 0.0;
  /// (kl_zero − kl_spliced) / kl_zero, and the same against mean ablation.
  double kl_score = 0.0;
  double kl_score_mean = 0.0;

  // 95 % intervals over texts.
  Interval ce_clean_interval;
  Interval ce_spliced_interval;
  Interval ce_recovered_interval;
  Interval ce_recovered_mean_interval;
  Interval kl_spliced_interval;
  Interval kl_score_interval;
  Interval kl_score_mean_interval;

  std::string token_policy;  ///< What was done about special tokens, in words.
};

/// Runs every sequence of ids five times. Error(usage) for an encoder, which predicts no next
/// token. Sequences without a prediction to score (fewer than two tokens) are left out; Error(data)
/// when none is left or the hook's width is not sae.d_in() (the output hook's not sae.d_out()),
/// Error(numeric) naming the first sequence whose logits hold NaN or Inf, and with which edit.
/// Memory: two [longest, vocab] matrices.
SpliceReport evaluate_splice(const Model& model, const Sae& sae, const Hook& hook,
                             const std::vector<std::vector<std::int32_t>>& sequences,
                             const SpliceOptions& options = {});

}  // namespace drrik
