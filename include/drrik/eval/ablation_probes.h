#pragma once
// Spurious correlation removal (SCR) and targeted probe perturbation (TPP) after SAEBench: do the
// latents that matter to one concept's probe carry that concept and no other? Latents are set to 0,
// the reconstruction's error is kept, and probes are asked again. Method and where it differs:
// docs/evaluation.md.

#include <cstdint>
#include <string>
#include <vector>

#include "drrik/eval/labelled.h"
#include "drrik/sae/confidence.h"

namespace drrik {

struct AblationOptions {
  SplitOptions split = {};
  std::vector<std::int64_t> n = {2, 5, 10, 20, 50, 100, 500};  ///< Latents set to 0.
  std::uint64_t seed = 42;
};

struct TppReport {
  struct Row {
    std::int64_t n = 0;
    /// Mean over classes of (accuracy its own probe loses − mean that the others lose) when the
    /// class's latents are set to 0; 95 % interval over texts.
    Interval score;
    Interval intended;                ///< The first part alone,
    Interval unintended;              ///< and the second.
    std::int64_t fewest_latents = 0;  ///< Of all classes: fewer than n had an effect.
  };
  std::vector<std::string> classes;
  std::int64_t classes_left_out = 0;
  std::int64_t train_texts = 0;
  std::int64_t test_texts = 0;
  std::vector<Interval> clean_accuracy;  ///< By class, of the probes on untouched activations.
  std::vector<Row> rows;
  std::vector<std::string> remarks;
};

/// Throws as sparse_probing().
TppReport targeted_probe_perturbation(const ProbeModel& probe,
                                      const std::vector<std::string>& texts,
                                      const std::vector<std::string>& labels,
                                      const AblationOptions& options = {});

/// An attribute with two values; the first is the positive class.
struct Attribute {
  std::string name;
  std::string positive;
  std::string negative;
};

struct ScrReport {
  struct Row {
    std::int64_t n = 0;
    /// (accuracy of the biased probe after − before) / (that of the unbiased probe − before), on
    /// the attribute that the biased probe reads worse; 1: the other one's influence is gone.
    Interval score;
    /// The same with target kept and spurious removed, and the other way round.
    Interval keep_target;
    Interval keep_spurious;
    std::int64_t latents = 0;  ///< Set to 0 for `score`: fewer than n had an effect.
  };
  Attribute target;
  Attribute spurious;
  std::int64_t train_per_quadrant = 0;  ///< Texts of each pair of values, in balanced sets.
  std::int64_t test_per_quadrant = 0;
  Interval target_accuracy;     ///< Probe for the target, balanced data.
  Interval spurious_accuracy;   ///< Probe for the spurious attribute, balanced data.
  Interval biased_on_target;    ///< Probe trained where the two always agree, on the target,
  Interval biased_on_spurious;  ///< and on the spurious attribute.
  bool scores_target = true;    ///< Which direction `score` is.
  std::vector<Row> rows;
  std::vector<std::string> remarks;
};

/// `target_labels` and `spurious_labels` are those of `texts`; texts with other values than the
/// attributes' are left out. Empty values: the two most frequent ones, positive first by frequency.
/// Throws Error(data) with the counts when a pair of values has too few texts, and as pool_texts().
ScrReport spurious_correlation_removal(const ProbeModel& probe,
                                       const std::vector<std::string>& texts,
                                       const std::vector<std::string>& target_labels,
                                       const std::vector<std::string>& spurious_labels,
                                       Attribute target, Attribute spurious,
                                       const AblationOptions& options = {});

}  // namespace drrik
