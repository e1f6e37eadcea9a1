#include "drrik/sae/confidence.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "drrik/base/rng.h"

namespace drrik {
namespace {

// Student's table, four digits after the point.
TEST(Confidence, StudentQuantilesAreThoseOfTheTable) {
  const std::pair<std::int64_t, double> table[] = {{1, 12.7062}, {2, 4.3027},  {5, 2.5706},
                                                   {6, 2.4469},  {7, 2.3646},  {10, 2.2281},
                                                   {30, 2.0423}, {100, 1.9840}};
  for (const auto& [degrees, value] : table) {
    EXPECT_NEAR(student_t_975(degrees), value, 2e-4) << degrees;
  }
  EXPECT_NEAR(student_t_975(1'000'000'000), 1.959964, 1e-6);
}

// Clusters (sum, rows): (3, 2), (1, 1), (8, 3). R = 12/6 = 2, residuals −1, −1, 2, so the variance
// is 3/2 · 6 / 36 = 1/4, and t of 2 degrees is 4.302653.
TEST(Confidence, RatioMatchesNumbersWorkedOutByHand) {
  ClusterSums sums(2);
  const auto add = [&](double value) { sums.add(std::array<double, 2>{value, 1.0}); };
  add(1);
  add(2);
  sums.close();
  sums.close();  // nothing was added
  add(1);
  sums.close();
  add(5);
  add(2);
  add(1);
  sums.close();
  EXPECT_EQ(sums.clusters(), 3);
  const Interval mean = sums.ratio(0, 1);
  EXPECT_DOUBLE_EQ(mean.value, 2.0);
  EXPECT_NEAR(mean.high - mean.value, 4.302653 * 0.5, 1e-12);
  EXPECT_NEAR(mean.value - mean.low, 4.302653 * 0.5, 1e-12);
  // The reverse of a difference: (Σb − Σa) / Σb = 1 − 2.
  const Interval difference =
      sums.ratio(std::array<double, 2>{-1.0, 1.0}, std::array<double, 2>{0.0, 1.0});
  EXPECT_DOUBLE_EQ(difference.value, -1.0);
  EXPECT_NEAR(difference.high, linear(mean, -1.0, 1.0).high, 1e-12);
}

TEST(Confidence, HasNoIntervalFromOneClusterOrNothing) {
  ClusterSums sums(2);
  EXPECT_TRUE(std::isnan(sums.ratio(0, 1).value));
  sums.add(std::array<double, 2>{4.0, 2.0});
  sums.close();
  EXPECT_DOUBLE_EQ(sums.ratio(0, 1).value, 2.0);
  EXPECT_TRUE(std::isnan(sums.ratio(0, 1).low));
  EXPECT_TRUE(std::isnan(linear(sums.ratio(0, 1), -1.0, 1.0).high));
  EXPECT_TRUE(std::isnan(proportion(0, 0).value));
}

// Rows of a cluster share most of their value. 400 repetitions of 30 clusters of 20 rows: the true
// mean lies in the interval in 95 % of them, within four standard deviations of that share
// (√(0.95·0.05/400) = 0.011). Counting rows as independent would cover some 40 %.
TEST(Confidence, CoversTheTruthWhenRowsOfAClusterAreAlike) {
  Rng rng(11);
  constexpr int kRepetitions = 400;
  int covered = 0;
  int covered_by_rows = 0;
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    ClusterSums clusters(2);
    ClusterSums rows(2);
    for (int c = 0; c < 30; ++c) {
      const double shared = static_cast<double>(rng.normal());
      for (int r = 0; r < 20; ++r) {
        const std::array<double, 2> row = {5.0 + shared + 0.5 * static_cast<double>(rng.normal()),
                                           1.0};
        clusters.add(row);
        rows.add(row);
        rows.close();
      }
      clusters.close();
    }
    const auto covers = [](const Interval& i) { return i.low <= 5.0 && 5.0 <= i.high; };
    covered += covers(clusters.ratio(0, 1)) ? 1 : 0;
    covered_by_rows += covers(rows.ratio(0, 1)) ? 1 : 0;
  }
  EXPECT_NEAR(covered / static_cast<double>(kRepetitions), 0.95, 4 * 0.011);
  EXPECT_LT(covered_by_rows, kRepetitions / 2);
}

// Wilson's interval for 8 of 10 is [0.4902, 0.9433] (Brown, Cai and DasGupta 2001, eq. 4).
TEST(Confidence, ProportionIsWilsons) {
  const Interval share = proportion(8, 10);
  EXPECT_DOUBLE_EQ(share.value, 0.8);
  EXPECT_NEAR(share.low, 0.4902, 5e-5);
  EXPECT_NEAR(share.high, 0.9433, 5e-5);
  EXPECT_GT(proportion(10, 10).high, 0.99);
  EXPECT_LT(proportion(10, 10).low, 0.75);
}

}  // namespace
}  // namespace drrik
