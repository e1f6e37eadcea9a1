#include "drrik/sae/confidence.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace drrik {
namespace {

constexpr double kNormal975 = 1.959963984540054;

}  // namespace

ClusterSums::ClusterSums(std::size_t quantities)
    : open_(quantities), sums_(quantities), products_(quantities * quantities) {}

void ClusterSums::add(std::span<const double> row) {
  for (std::size_t i = 0; i < open_.size(); ++i) open_[i] += row[i];
  has_open_ = true;
}

void ClusterSums::close() {
  if (!has_open_) return;
  const std::size_t k = open_.size();
  for (std::size_t i = 0; i < k; ++i) {
    sums_[i] += open_[i];
    for (std::size_t j = 0; j < k; ++j) products_[i * k + j] += open_[i] * open_[j];
  }
  std::ranges::fill(open_, 0.0);
  has_open_ = false;
  ++clusters_;
}

Interval ClusterSums::ratio(std::size_t a, std::size_t b) const {
  std::vector<double> numerator(sums_.size());
  std::vector<double> denominator(sums_.size());
  numerator[a] = 1.0;
  denominator[b] = 1.0;
  return ratio(numerator, denominator);
}

Interval ClusterSums::ratio(std::span<const double> a, std::span<const double> b) const {
  const std::size_t k = sums_.size();
  double above = 0.0;
  double below = 0.0;
  for (std::size_t i = 0; i < k; ++i) {
    above += a[i] * sums_[i];
    below += b[i] * sums_[i];
  }
  Interval out;
  if (below == 0.0) return out;
  out.value = above / below;
  if (clusters_ < 2) return out;
  // Σ (a_g − R b_g)² is a quadratic form of the moments; their mean is 0 by the choice of R.
  double squares = 0.0;
  for (std::size_t i = 0; i < k; ++i) {
    for (std::size_t j = 0; j < k; ++j) {
      squares += (a[i] - out.value * b[i]) * (a[j] - out.value * b[j]) * products_[i * k + j];
    }
  }
  const auto g = static_cast<double>(clusters_);
  const double variance = g / (g - 1.0) * std::max(squares, 0.0) / (below * below);
  const double half = student_t_975(clusters_ - 1) * std::sqrt(variance);
  out.low = out.value - half;
  out.high = out.value + half;
  return out;
}

Interval linear(const Interval& of, double scale, double shift) {
  const double one = scale * of.low + shift;
  const double other = scale * of.high + shift;
  // std::min would lose a NaN that stands second.
  return {scale * of.value + shift, scale < 0 ? other : one, scale < 0 ? one : other};
}

Interval proportion(std::int64_t successes, std::int64_t trials) {
  if (trials <= 0) return {};
  const auto n = static_cast<double>(trials);
  const double p = static_cast<double>(successes) / n;
  const double z2 = kNormal975 * kNormal975;
  const double centre = (p + z2 / (2 * n)) / (1 + z2 / n);
  const double half = kNormal975 / (1 + z2 / n) * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n));
  return {p, std::max(centre - half, 0.0), std::min(centre + half, 1.0)};
}

double student_t_975(std::int64_t degrees) {
  static constexpr std::array<double, 6> kFew = {12.70620, 4.302653, 3.182446,
                                                 2.776445, 2.570582, 2.446912};
  if (degrees <= static_cast<std::int64_t>(kFew.size())) {
    return kFew[static_cast<std::size_t>(std::max<std::int64_t>(degrees, 1) - 1)];
  }
  // Cornish and Fisher's expansion in 1/ν (Abramowitz and Stegun 26.7.5); the next term is below
  // 2e-4 from ν = 7 on.
  const auto n = static_cast<double>(degrees);
  const double z = kNormal975;
  const double z3 = z * z * z;
  const double z5 = z3 * z * z;
  const double z7 = z5 * z * z;
  const double z9 = z7 * z * z;
  return z + (z3 + z) / (4 * n) + (5 * z5 + 16 * z3 + 3 * z) / (96 * n * n) +
         (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * n * n * n) +
         (79 * z9 + 776 * z7 + 1482 * z5 - 1920 * z3 - 945 * z) / (92160 * n * n * n * n);
}

}  // namespace drrik
