#pragma once
// Which rows are attention sinks: those far longer than the median row.

#include <cstdint>
#include <span>
#include <vector>

#include "drrik/tensor/tensor.h"

namespace drrik::detail {

/// Norms are counted by bins over their squares' float bits, 64 an octave (0.8 % of a norm), so
/// that a running median costs no memory that grows. Not thread-safe.
class SinkFilter {
 public:
  static constexpr std::int64_t kBins = std::int64_t{1} << 14;

  SinkFilter(double multiple, std::int64_t sites);

  /// Counts the rows, then answers which of them are within `multiple` times the median of all
  /// rows counted, at every site, in order. Where the median is 0 no row is beyond it.
  /// squared_norms [rows, sites].
  std::vector<std::int64_t> keep(std::span<const float> squared_norms);

  void clear();
  const Tensor& counts() const { return counts_; }  ///< int64 [sites, kBins]
  /// Takes counts() of another filter; throws Error(data) for a tensor that is none.
  void set_counts(const Tensor& counts);

 private:
  double multiple_;
  std::int64_t sites_;
  Tensor counts_;
};

}  // namespace drrik::detail
