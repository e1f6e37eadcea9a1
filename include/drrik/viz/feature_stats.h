#pragma once
// What every feature of an autoencoder does on a set of activations, from one streaming pass.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "drrik/activations/row_source.h"
#include "drrik/sae/sae.h"

namespace drrik {

/// A row on which a feature fires, and how strongly.
struct FeatureExample {
  float value = 0.0F;
  std::int64_t row = 0;
};

/// Bins of equal width from 0: bin i counts values in [i * width, (i + 1) * width).
struct ActivationHistogram {
  double width = 0.0;
  std::vector<std::int64_t> counts;  ///< Empty when the feature never fires.
};

struct FeatureStatsOptions {
  /// Examples kept for each feature.
  std::int64_t top_k = 10;
  /// Rows encoded together; 0: as many as keeps the features under 64 MiB. Results do not depend
  /// on it (beyond the rounding of the encoder's own product).
  std::int64_t block_rows = 0;
  /// Memory for the histograms of all features, bytes; it sets their resolution.
  std::int64_t histogram_bytes = std::int64_t{256} << 20;
};

/// Statistics per feature. Memory: O(d_sae * (bins + top_k)), whatever the number of rows.
class FeatureStats {
 public:
  std::int64_t rows() const { return rows_; }
  std::int64_t d_sae() const { return static_cast<std::int64_t>(active_.size()); }
  std::int64_t top_k() const { return top_k_; }

  /// Rows on which the feature is > 0. All below throw Error(usage) for an index out of range.
  std::int64_t active_rows(std::int64_t feature) const;
  /// active_rows / rows.
  double density(std::int64_t feature) const;
  /// Largest activation; 0 when it never fires.
  float max(std::int64_t feature) const;
  /// Mean over the rows on which it fires; 0 when there is none.
  double mean_active(std::int64_t feature) const;
  /// Mean over all rows.
  double mean(std::int64_t feature) const;
  /// Up to top_k rows, strongest first; of equal ones the earlier row first.
  std::vector<FeatureExample> examples(std::int64_t feature) const;
  /// Counts of the activations > 0 in at most `bins` bins that reach just past the largest. Exact:
  /// the pass counts in fine bins whose width is a power of two, and display bins are whole numbers
  /// of those, which is why there may be fewer than asked for.
  ActivationHistogram histogram(std::int64_t feature, std::int64_t bins) const;

  /// Densities of all features, [d_sae].
  std::vector<double> densities() const;
  std::int64_t dead_features() const;
  /// Mean number of active features a row.
  double l0() const;
  /// Features that fire, by `key` descending, ties to the lower index, at most n.
  enum class Key { kDensity, kMaxActivation, kMeanActivation };
  std::vector<std::int64_t> top_features(std::int64_t n, Key key) const;

 private:
  friend class FeatureStatsCollector;
  void check(std::int64_t feature) const;

  std::int64_t rows_ = 0;
  std::int64_t top_k_ = 0;
  std::int64_t bins_ = 0;
  std::vector<std::int64_t> active_;    // [d_sae]
  std::vector<double> sum_;             // [d_sae]
  std::vector<float> max_;              // [d_sae]
  std::vector<FeatureExample> heaps_;   // [d_sae, top_k], the first min(active, top_k) filled
  std::vector<std::int16_t> exponent_;  // [d_sae], fine bins are 2^exponent wide
  std::vector<std::uint32_t> fine_;     // [d_sae, bins], saturating
};

/// "density", "max_activation", "mean_activation"; throws Error(usage) naming these otherwise.
FeatureStats::Key parse_feature_key(const std::string& name);
std::string feature_key_name(FeatureStats::Key key);

/// Encodes all rows once. Every feature's numbers are accumulated in the order of rows by one
/// thread, so they do not depend on the number of threads. Throws Error(usage) for impossible
/// options, Error(data) when widths differ or a row holds NaN or Inf (naming row and column),
/// Error(numeric) naming row and feature where an encoder's product overflows, Error(interrupted).
/// No rows is fine: every feature is dead.
FeatureStats collect_feature_stats(const Sae& sae, const RowSource& rows,
                                   const FeatureStatsOptions& options = {});

}  // namespace drrik
