#pragma once
// Which features to show a person first.

#include <string>
#include <vector>

#include "drrik/activations/store.h"
#include "drrik/text/tokenizer.h"
#include "drrik/viz/feature_stats.h"

namespace drrik::cli {

struct InterestingFeature {
  std::int64_t feature = 0;
  /// The token most of its strongest examples stand on, trimmed and in lower case.
  std::string token;
  /// Share of the strongest examples that stand on `token`.
  double clarity = 0.0;
};

/// Features whose strongest examples agree on one word, clearest first, one feature a word, at most
/// `n`; then, to fill up, the ones with the largest activations. Needs one row a token (positions
/// all); with other stores only the filling up is left.
std::vector<InterestingFeature> interesting_features(const FeatureStats& stats,
                                                     const ActivationMetadata& metadata,
                                                     const Tokenizer& tokenizer, std::int64_t n);

}  // namespace drrik::cli
