#pragma once
// Sparse probing after SAEBench: how well a few latents tell the classes of labelled texts apart.
// Method and where it differs: docs/evaluation.md.

#include <cstdint>
#include <string>
#include <vector>

#include "drrik/eval/labelled.h"
#include "drrik/sae/confidence.h"

namespace drrik {

struct SparseProbingOptions {
  SplitOptions split = {};
  std::vector<std::int64_t> k = {1, 2, 5};  ///< Latents a probe may use; all of them besides.
  std::uint64_t seed = 42;
};

struct SparseProbingReport {
  struct Accuracies {
    std::int64_t k = 0;  ///< 0: all.
    /// Mean over classes of the accuracy on test texts, half of which are the class's; 95 %
    /// interval over texts.
    Interval latents;
    Interval activations;                        ///< The same with raw dimensions for latents.
    std::vector<Interval> latents_by_class;      ///< Wilson's intervals.
    std::vector<Interval> activations_by_class;  ///< As above.
    /// Those that were chosen, by class; empty for all.
    std::vector<std::vector<std::int64_t>> chosen;
  };
  std::vector<std::string> classes;
  std::int64_t classes_left_out = 0;
  std::int64_t train_texts = 0;  ///< Different texts in all classes' training shares.
  std::int64_t test_texts = 0;
  std::vector<Accuracies> accuracies;  ///< By k, all of them last.
  std::vector<std::string> remarks;    ///< What makes the numbers doubtful, in words.
};

/// `labels` are those of `texts`. Throws as split_classes() and pool_texts(), Error(usage) for k
/// < 1.
SparseProbingReport sparse_probing(const ProbeModel& probe, const std::vector<std::string>& texts,
                                   const std::vector<std::string>& labels,
                                   const SparseProbingOptions& options = {});

}  // namespace drrik
