// FeatureStats against a dense computation that is slow and plain.

#include "drrik/viz/feature_stats.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "drrik/base/interrupt.h"
#include "drrik/base/threads.h"
#include "drrik/sae/relu_sae.h"
#include "viz/fixtures.h"

namespace drrik {
namespace {

using testing::random_rows;
using testing::ReluIdentity;
using testing::Rows;

// All activations > 0 of one feature with their rows.
std::vector<FeatureExample> activations(Rows& rows, std::int64_t feature) {
  std::vector<FeatureExample> out;
  for (std::int64_t r = 0; r < rows.rows(); ++r) {
    if (rows.at(r, feature) > 0.0F) out.push_back({rows.at(r, feature), r});
  }
  return out;
}

// Empty when the statistics of a feature are those of the plain computation, else what is not.
std::string difference(const FeatureStats& stats, std::int64_t feature,
                       std::vector<FeatureExample> all) {
  if (stats.active_rows(feature) != static_cast<std::int64_t>(all.size())) return "active rows";
  double sum = 0.0;
  float largest = 0.0F;
  for (const FeatureExample& a : all) {
    sum += static_cast<double>(a.value);
    largest = std::max(largest, a.value);
  }
  if (stats.max(feature) != largest) return "max";
  // Both add in the order of rows in double precision, so they agree to the bit.
  const double mean = all.empty() ? 0.0 : sum / static_cast<double>(all.size());
  if (stats.mean_active(feature) != mean) return "mean";
  std::stable_sort(all.begin(), all.end(), [](const FeatureExample& a, const FeatureExample& b) {
    return a.value > b.value;
  });
  const std::vector<FeatureExample> top = stats.examples(feature);
  if (top.size() != std::min<std::size_t>(all.size(), static_cast<std::size_t>(stats.top_k()))) {
    return "number of examples";
  }
  for (std::size_t i = 0; i < top.size(); ++i) {
    if (top[i].row != all[i].row || top[i].value != all[i].value) return str("example ", i);
  }
  for (const std::int64_t bins : {1, 7, 100, 100000}) {
    const ActivationHistogram histogram = stats.histogram(feature, bins);
    if (static_cast<std::int64_t>(histogram.counts.size()) > bins) return "number of bins";
    std::vector<std::int64_t> counts(histogram.counts.size(), 0);
    for (const FeatureExample& a : all) {
      // Widths are powers of two times whole numbers: the division is exact enough to floor.
      const auto bin = static_cast<std::size_t>(static_cast<double>(a.value) / histogram.width);
      if (bin >= counts.size()) return "a value beyond the bins";
      ++counts[bin];
    }
    if (counts != histogram.counts) return str("histogram of ", bins);
  }
  return "";
}

TEST(FeatureStats, AgreesWithThePlainComputation) {
  Rows rows = random_rows(3000, 40);
  const ReluIdentity sae(40);
  const FeatureStats stats = collect_feature_stats(sae, rows, {.top_k = 7, .block_rows = 129});
  EXPECT_EQ(stats.rows(), 3000);
  EXPECT_EQ(stats.d_sae(), 40);
  double total = 0.0;
  for (std::int64_t f = 0; f < 40; ++f) {
    const auto all = activations(rows, f);
    EXPECT_EQ(difference(stats, f, all), "") << f;
    total += static_cast<double>(all.size());
    EXPECT_EQ(stats.density(f), static_cast<double>(all.size()) / 3000);
  }
  EXPECT_EQ(stats.l0(), total / 3000);
  EXPECT_EQ(stats.dead_features(), 4);
}

TEST(FeatureStats, TheComparisonSeesDifferences) {
  Rows rows = random_rows(500, 10);
  const ReluIdentity sae(10);
  const FeatureStats stats = collect_feature_stats(sae, rows, {.top_k = 3});
  auto all = activations(rows, 0);
  ASSERT_EQ(difference(stats, 0, all), "");
  auto fewer = all;
  fewer.pop_back();
  EXPECT_EQ(difference(stats, 0, fewer), "active rows");
  auto larger = all;
  larger[5].value = 1e6F;
  EXPECT_EQ(difference(stats, 0, larger), "max");
  auto other = all;
  std::nth_element(
      other.begin(), other.begin(), other.end(),
      [](const FeatureExample& a, const FeatureExample& b) { return a.value < b.value; });
  other[0].value *= 0.5F;
  EXPECT_EQ(difference(stats, 0, other), "mean");
}

TEST(FeatureStats, DoesNotDependOnThreadsOrBlocks) {
  Rows rows = random_rows(2000, 300);
  const ReluIdentity sae(300);
  const int threads = num_threads();
  set_num_threads(1);
  const FeatureStats one = collect_feature_stats(sae, rows, {.block_rows = 2000});
  set_num_threads(5);
  const FeatureStats five = collect_feature_stats(sae, rows, {.block_rows = 37});
  set_num_threads(threads);
  for (std::int64_t f = 0; f < 300; ++f) {
    EXPECT_EQ(one.active_rows(f), five.active_rows(f));
    EXPECT_EQ(one.mean_active(f), five.mean_active(f));
    EXPECT_EQ(one.max(f), five.max(f));
    EXPECT_EQ(one.histogram(f, 100).counts, five.histogram(f, 100).counts);
    EXPECT_EQ(one.histogram(f, 100).width, five.histogram(f, 100).width);
    const auto a = one.examples(f);
    const auto b = five.examples(f);
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i].row, b[i].row);
  }
}

TEST(FeatureStats, TiesGoToTheEarlierRowAndTheLowerFeature) {
  Rows rows(50, 3);
  for (std::int64_t r = 0; r < 50; ++r) {
    for (std::int64_t c = 0; c < 3; ++c) rows.at(r, c) = 1.5F;
  }
  rows.at(40, 1) = 2.0F;
  const FeatureStats stats = collect_feature_stats(ReluIdentity(3), rows, {.top_k = 3});
  const auto first = stats.examples(0);
  ASSERT_EQ(first.size(), 3U);
  EXPECT_EQ(first[0].row, 0);
  EXPECT_EQ(first[2].row, 2);
  const auto second = stats.examples(1);
  EXPECT_EQ(second[0].row, 40);
  EXPECT_EQ(second[1].row, 0);
  EXPECT_EQ(stats.top_features(2, FeatureStats::Key::kDensity), (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(stats.top_features(9, FeatureStats::Key::kMaxActivation),
            (std::vector<std::int64_t>{1, 0, 2}));
}

TEST(FeatureStats, HistogramsHoldTinyAndHugeValues) {
  // Rising over the whole range of float, so that bins are joined again and again.
  std::vector<float> values = {std::numeric_limits<float>::denorm_min()};
  for (int e = -140; e < 128; e += 3) values.push_back(std::ldexp(1.1F, e));
  values.push_back(std::numeric_limits<float>::max());
  Rows rows(static_cast<std::int64_t>(values.size()), 2);
  for (std::size_t i = 0; i < values.size(); ++i) {
    rows.at(static_cast<std::int64_t>(i), 0) = values[i];
    rows.at(static_cast<std::int64_t>(i), 1) = values[values.size() - 1 - i];
  }
  const FeatureStats stats = collect_feature_stats(ReluIdentity(2), rows, {.top_k = 4});
  EXPECT_EQ(difference(stats, 0, activations(rows, 0)), "");
  EXPECT_EQ(difference(stats, 1, activations(rows, 1)), "");
  // The order of rows does not matter.
  EXPECT_EQ(stats.histogram(0, 50).counts, stats.histogram(1, 50).counts);
  // Powers of two sit on the edge of a bin.
  Rows edge(2, 1);
  edge.at(0, 0) = 1.0F;
  edge.at(1, 0) = 512.0F;
  EXPECT_EQ(difference(collect_feature_stats(ReluIdentity(1), edge), 0, activations(edge, 0)), "");
}

TEST(FeatureStats, FewerBinsWhenMemoryIsShort) {
  Rows rows = random_rows(800, 20);
  const FeatureStats stats =
      collect_feature_stats(ReluIdentity(20), rows, {.top_k = 2, .histogram_bytes = 0});
  EXPECT_EQ(difference(stats, 3, activations(rows, 3)), "");
  EXPECT_LE(stats.histogram(3, 100).counts.size(), 16U);
}

TEST(FeatureStats, NothingIsFine) {
  const FeatureStats none = collect_feature_stats(ReluIdentity(4), Rows(0, 4));
  EXPECT_EQ(none.dead_features(), 4);
  EXPECT_EQ(none.l0(), 0.0);
  EXPECT_EQ(none.density(0), 0.0);
  EXPECT_TRUE(none.examples(0).empty());
  EXPECT_TRUE(none.histogram(0, 10).counts.empty());
  EXPECT_TRUE(none.top_features(3, FeatureStats::Key::kDensity).empty());
  Rows one(1, 4);
  one.at(0, 2) = 1.0F;
  const FeatureStats single = collect_feature_stats(ReluIdentity(4), one, {.top_k = 0});
  EXPECT_EQ(single.density(2), 1.0);
  EXPECT_TRUE(single.examples(2).empty());
}

TEST(FeatureStats, Refuses) {
  Rows rows = random_rows(100, 5);
  EXPECT_THROW(collect_feature_stats(ReluIdentity(6), rows), Error);
  EXPECT_THROW(collect_feature_stats(ReluIdentity(5), rows, {.top_k = -1}), Error);
  EXPECT_THROW(collect_feature_stats(ReluIdentity(5), rows, {.top_k = std::int64_t{1} << 60}),
               Error);
  const FeatureStats stats = collect_feature_stats(ReluIdentity(5), rows);
  for (const std::int64_t bad : {std::int64_t{-1}, std::int64_t{5}}) {
    EXPECT_THROW((void)stats.density(bad), Error);
    EXPECT_THROW((void)stats.examples(bad), Error);
    EXPECT_THROW((void)stats.histogram(bad, 10), Error);
  }
  EXPECT_THROW((void)stats.histogram(0, 0), Error);
  EXPECT_THROW(parse_feature_key("densety"), Error);
  EXPECT_EQ(feature_key_name(parse_feature_key("max_activation")), "max_activation");
}

// A real encoder drops NaN where it keeps what is > 0, so the rows themselves must be looked at.
TEST(FeatureStats, NamesTheRowOfANumberThatIsNone) {
  Rng rng(3);
  const ReluSae real = ReluSae::random({.activation_dim = 5, .hidden_dim = 9}, rng);
  const ReluIdentity identity(5);
  for (const Sae* sae : {static_cast<const Sae*>(&real), static_cast<const Sae*>(&identity)}) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
      Rows rows = random_rows(300, 5);
      rows.at(217, 2) = bad;
      try {
        collect_feature_stats(*sae, rows, {.block_rows = 50});
        ADD_FAILURE() << "accepted";
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kData);
        EXPECT_NE(std::string(error.what()).find("row 217, column 2"), std::string::npos)
            << error.what();
      }
    }
  }
}

TEST(FeatureStats, NamesTheFeatureWhoseSumOverflows) {
  Rng rng(3);
  ReluSae sae = ReluSae::random({.activation_dim = 5, .hidden_dim = 9}, rng);
  for (float& weight : sae.encoder().row(4)) weight = 3e38F;
  Rows rows(3, 5);
  for (std::int64_t c = 0; c < 5; ++c) rows.at(2, c) = 2.0F;
  try {
    collect_feature_stats(sae, rows);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNumeric);
    EXPECT_NE(std::string(error.what()).find("feature 4 on row 2"), std::string::npos)
        << error.what();
  }
}

TEST(FeatureStats, CanBeInterrupted) {
  Rows rows = random_rows(300, 5);
  set_interrupted(true);
  EXPECT_THROW(collect_feature_stats(ReluIdentity(5), rows), Error);
  set_interrupted(false);
}

}  // namespace
}  // namespace drrik
