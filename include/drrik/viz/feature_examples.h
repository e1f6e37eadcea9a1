#pragma once
// What every feature does on a text, with the tokens it does it on: one pass, in memory that does
// not depend on the text's length.
//
// Of each feature the pass keeps exact counts (density, mean, maximum, a histogram) and two kinds
// of examples, each a window of tokens with the feature's value on every one of them:
//
//   top    the k sequences that hold its highest values, one example a sequence, so that a list is
//          not ten neighbours of one token
//   bands  of each of some parts of the range from 0 to the maximum a uniform sample of the tokens
//          on which it fires there
//
// A band's sample must be uniform though its bounds move with a maximum that grows. So every firing
// token has a random key, a hash of (seed, feature, number of the token), and the range is cut into
// 16 bins as wide as a power of two, each of which keeps the tokens with the lowest keys. Where a
// value exceeds the last bin, pairs of bins are joined, and the lowest keys of both are those that
// the joined bin would have kept from the start. At the end the 8 to 16 bins in use are shared out
// among the bands; the lowest keys of a band's bins are a uniform sample of it, exactly, and the
// same whatever the batches and threads. (Bottom-k sampling: Cohen and Kaplan, PODC 2007.)

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "drrik/sae/sae.h"
#include "drrik/viz/feature_stats.h"

namespace drrik {

struct FeatureExamplesOptions {
  std::int64_t before = 20;  ///< Tokens of a window in front of the one it is about, 0 to 4096.
  std::int64_t after = 12;   ///< And behind it.
  std::int64_t top = 16;     ///< Sequences of the highest values kept of each feature.
  std::int64_t bands = 4;    ///< 1 to 8.
  std::int64_t band_examples = 4;  ///< Tokens sampled of each band, 0 to 64.
  std::uint64_t seed = 42;         ///< Of the samples.
  /// Co-activation is counted on a uniform sample of tokens, as large as these two bounds allow:
  /// active entries in all, and pairs of them.
  std::int64_t pair_entries = std::int64_t{1} << 24;
  std::int64_t pair_count = std::int64_t{1} << 31;

  /// Throws Error(usage) naming the field.
  void validate() const;
};

/// A token on which a feature fires, in its window.
struct FeatureWindow {
  float value = 0.0F;
  std::int64_t sequence = 0;         ///< Counted from 0 over the whole pass.
  std::int64_t position = 0;         ///< Of the token in its sequence.
  std::int64_t peak = 0;             ///< Its index in `tokens`.
  std::vector<std::int32_t> tokens;  ///< Ids.
  std::vector<float> values;         ///< The feature's, 0 where it is silent or was not asked.
};

/// A part of the range of activations.
struct FeatureBand {
  double low = 0.0;        ///< Values in [low, high); the strongest band holds the maximum too.
  double high = 0.0;       ///<
  std::int64_t count = 0;  ///< Tokens in it.
  std::vector<FeatureWindow> examples;  ///< Strongest first; a uniform sample.
};

/// Another feature that fires on the same tokens.
struct Coactivation {
  std::int32_t feature = 0;
  double jaccard = 0.0;       ///< |both| / |either|, over the sampled tokens.
  std::int64_t together = 0;  ///< Sampled tokens on which both fire.
};

/// Not thread-safe, but that features may be asked for from several threads once nothing is added.
class FeatureExamples {
 public:
  /// Throws Error(usage) for impossible options.
  FeatureExamples(std::int64_t d_sae, const FeatureExamplesOptions& options);
  ~FeatureExamples();
  FeatureExamples(FeatureExamples&&) noexcept;
  FeatureExamples& operator=(FeatureExamples&&) noexcept;

  /// Whole sequences, laid end to end: `ids` [t], their `boundaries` [sequences + 1], and the
  /// features of some of the tokens, features' row r being those of token `rows[r]` (ascending).
  /// Throws Error(data) when sizes disagree, Error(numeric) naming feature, sequence and position
  /// of an activation that is not finite.
  void add(std::span<const std::int32_t> ids, std::span<const std::int64_t> boundaries,
           std::span<const std::int64_t> rows, const SparseRows& features);

  const FeatureExamplesOptions& options() const;
  std::int64_t d_sae() const;
  std::int64_t rows() const;       ///< Tokens whose features were added.
  std::int64_t sequences() const;  ///< Added so far.
  /// Bytes that the counts and examples of all features take. Grows to a bound that depends on
  /// d_sae and the options alone: memory_bound().
  std::int64_t memory() const;
  static std::int64_t memory_bound(std::int64_t d_sae, const FeatureExamplesOptions& options);

  // Of one feature; Error(usage) for an index out of range.
  std::int64_t active(std::int64_t feature) const;  ///< Tokens on which it is > 0.
  double density(std::int64_t feature) const;       ///< active / rows.
  float max(std::int64_t feature) const;            ///< 0 when it never fires.
  double mean(std::int64_t feature) const;          ///< Over all tokens.
  double mean_active(std::int64_t feature) const;   ///< Over those on which it fires.
  /// As FeatureStats::histogram().
  ActivationHistogram histogram(std::int64_t feature, std::int64_t bins) const;
  /// Value descending; of equal ones the earlier token.
  std::vector<FeatureWindow> top(std::int64_t feature) const;
  /// Strongest first; those without a token are left out.
  std::vector<FeatureBand> bands(std::int64_t feature) const;

  std::int64_t dead() const;
  double l0() const;

  /// Tokens on which co-activation is counted: every one when the bounds are wide enough.
  std::int64_t pair_rows() const;
  /// For each feature its k most co-active, by Jaccard index, of those seen together at least
  /// twice; ties to the lower feature.
  std::vector<std::vector<Coactivation>> coactive(std::int64_t k) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace drrik
