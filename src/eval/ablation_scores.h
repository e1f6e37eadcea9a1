#pragma once
// SCR and TPP from pooled texts on: what is left once the model has run.

#include <cstdint>
#include <span>
#include <vector>

#include "drrik/eval/ablation_probes.h"
#include "eval/tasks.h"

namespace drrik::detail {

/// Fills clean_accuracy and rows for each of `counts` latents set to 0.
void score_tpp(const Sae& sae, const TaskSet& set, std::span<const std::int64_t> counts,
               TppReport& report);

/// The three sets that SCR's probes are made for; samples are texts, then rows of pooled texts.
struct ScrSets {
  BinaryTask target;    ///< Balanced over the spurious attribute,
  BinaryTask spurious;  ///< and over the target.
  BinaryTask biased;    ///< Only texts where the two agree.
};

/// Fills the accuracies, scores_target and rows.
void score_scr(const Sae& sae, const PooledTexts& pooled, const ScrSets& training,
               const ScrSets& testing, std::span<const std::int64_t> counts, ScrReport& report);

}  // namespace drrik::detail
