#pragma once
// PairSample: which features fire together, counted exactly on a uniform sample of tokens.

#include <cstdint>
#include <span>
#include <vector>

#include "drrik/viz/feature_examples.h"

namespace drrik::detail {

/// The finalizer of splitmix64: every bit of the result depends on every bit of x.
constexpr std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31U);
}

/// Rows are kept whose random key lies below a limit, which is halved whenever those kept exceed
/// a bound. What is kept only grows between halvings, so the limit at the end, and with it the
/// sample, is a function of the rows alone.
class PairSample {
 public:
  PairSample(std::int64_t d_sae, const FeatureExamplesOptions& options);

  /// `latents`: those active on token number `row`, ascending.
  void add(std::int64_t row, std::span<const std::int32_t> latents);
  std::int64_t rows() const { return static_cast<std::int64_t>(rows_.size()); }
  std::int64_t memory() const;
  static std::int64_t memory_bound(const FeatureExamplesOptions& options);
  /// O(pairs of active entries in the sample).
  std::vector<std::vector<Coactivation>> coactive(std::int64_t k) const;

 private:
  struct Row {
    std::uint64_t key = 0;
    std::int64_t begin = 0;
    std::int64_t count = 0;
  };
  bool over() const { return entries_ > max_entries_ || pairs_ > max_pairs_; }
  void shrink();

  std::int64_t d_sae_;
  std::uint64_t seed_;
  std::int64_t max_entries_;
  std::int64_t max_pairs_;
  std::uint64_t limit_ = ~std::uint64_t{0};
  std::int64_t entries_ = 0;
  std::int64_t pairs_ = 0;
  std::vector<Row> rows_;
  std::vector<std::int32_t> latents_;
};

}  // namespace drrik::detail
