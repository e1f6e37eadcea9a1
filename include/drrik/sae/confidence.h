#pragma once
// 95 % confidence intervals of means and ratios over rows that are not independent.
//
// Tokens of one text resemble each other, so that counting each as an independent draw makes every
// interval too narrow. What is drawn independently are clusters: texts, or blocks of neighbouring
// rows. A metric that is a quotient of sums, R = Σ a / Σ b, has the variance
//   G / (G − 1) · Σ_g (a_g − R b_g)² / (Σ b)²
// over the sums a_g, b_g of G clusters (linearisation; Cochran, Sampling Techniques, 1977, ch. 6
// and 9), and the interval is R ± t · its root, t of Student's distribution with G − 1 degrees of
// freedom.

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace drrik {

/// A number and its 95 % confidence interval; low and high are NaN where there is none (fewer than
/// two clusters, nothing to divide by).
struct Interval {
  double value = std::numeric_limits<double>::quiet_NaN();
  double low = std::numeric_limits<double>::quiet_NaN();
  double high = std::numeric_limits<double>::quiet_NaN();
};

/// Sums of some quantities over all rows and the second moments of their sums over clusters. Needs
/// memory for neither rows nor clusters. Not thread-safe.
class ClusterSums {
 public:
  explicit ClusterSums(std::size_t quantities);

  /// Adds a row's quantities to the open cluster.
  void add(std::span<const double> row);
  /// Ends the open cluster; nothing happens when no row was added to it.
  void close();

  std::int64_t clusters() const { return clusters_; }
  /// Over closed clusters, as are all the following.
  double sum(std::size_t quantity) const { return sums_[quantity]; }

  /// Σ a / Σ b of two quantities.
  Interval ratio(std::size_t a, std::size_t b) const;
  /// The same of two linear combinations, each with a weight for every quantity.
  Interval ratio(std::span<const double> a, std::span<const double> b) const;

 private:
  std::vector<double> open_;
  bool has_open_ = false;
  std::vector<double> sums_;
  std::vector<double> products_;  ///< [k, k], Σ over clusters of the sums' products.
  std::int64_t clusters_ = 0;
};

/// `value` with the interval `scale · x + shift` of another one's (1 − FVU from FVU: −1, 1).
Interval linear(const Interval& of, double scale, double shift);

/// Share of successes with Wilson's score interval; all NaN for no trials.
Interval proportion(std::int64_t successes, std::int64_t trials);

/// The 97.5 % point of Student's distribution, exact to four digits; `degrees` >= 1.
double student_t_975(std::int64_t degrees);

}  // namespace drrik
