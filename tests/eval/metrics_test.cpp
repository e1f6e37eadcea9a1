#include "drrik/eval/metrics.h"

#include <gtest/gtest.h>

#include <limits>

#include "drrik/base/error.h"
#include "drrik/base/rng.h"
#include "drrik/base/threads.h"
#include "eval/fake_sae.h"

namespace drrik {
namespace {

std::vector<float> random_rows(std::int64_t n, std::int64_t d, float offset) {
  Rng rng(7);
  std::vector<float> x(static_cast<std::size_t>(n * d));
  for (float& value : x) value = offset + rng.normal();
  return x;
}

// Rows (3, 4) and (−1, 0) by hand. Halving reconstructs (1.5, 2) and (−0.5, 0).
TEST(Evaluate, MatchesNumbersWorkedOutByHand) {
  const std::vector<float> x = {3, 4, -1, 0};
  const auto rows = make_row_source(MatView<const float>(x.data(), 2, 2));
  const EvalReport report = evaluate(identity_sae(2, 0.5F), *rows);
  EXPECT_DOUBLE_EQ(report.squared_error, (6.25 + 0.25) / 2);
  EXPECT_DOUBLE_EQ(report.mse, 6.5 / 4);
  // x̄ = (1, 2): deviations (2, 2) and (−2, −2), Σ = 16.
  EXPECT_DOUBLE_EQ(report.fvu, 6.5 / 16);
  EXPECT_DOUBLE_EQ(report.explained_variance_legacy, ((1 - 6.25 / 8) + (1 - 0.25 / 8)) / 2);
  EXPECT_DOUBLE_EQ(report.cosine, 1.0);
  EXPECT_DOUBLE_EQ(report.l2_ratio, 0.5);
  EXPECT_DOUBLE_EQ(report.relative_reconstruction_bias, 0.5);
  EXPECT_DOUBLE_EQ(report.l0, 1.5);  // (3, 4): two active; (−1, 0): one
  EXPECT_DOUBLE_EQ(report.l1, (7.0 + 1.0) / 2);
  EXPECT_EQ(report.dead_latents, 1);  // −e₁ never fires
  EXPECT_EQ(report.dense_10_percent, 3);
  EXPECT_DOUBLE_EQ(report.density[1], 0.5);
}

TEST(Evaluate, PerfectReconstructionHasNoUnexplainedVariance) {
  const std::vector<float> x = random_rows(100, 3, 0.0F);
  const auto rows = make_row_source(MatView<const float>(x.data(), 100, 3));
  const EvalReport report = evaluate(identity_sae(3), *rows);
  EXPECT_EQ(report.fvu, 0.0);
  EXPECT_EQ(report.explained_variance_legacy, 1.0);
}

// Several blocks, a mean a thousand times the spread: against the two-pass formula in double.
TEST(Evaluate, VarianceSurvivesALargeMean) {
  constexpr std::int64_t kRows = 10000;
  const std::vector<float> x = random_rows(kRows, 2, 1000.0F);
  const auto rows = make_row_source(MatView<const float>(x.data(), kRows, 2));
  const EvalReport report = evaluate(identity_sae(2, 0.999F), *rows);
  double mean[2] = {};
  for (std::size_t i = 0; i < x.size(); ++i) mean[i % 2] += static_cast<double>(x[i]) / kRows;
  double variance = 0;
  double error = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto value = static_cast<double>(x[i]);
    variance += (value - mean[i % 2]) * (value - mean[i % 2]);
    const double r = static_cast<double>(0.999F * x[i]) - value;
    error += r * r;
  }
  // Sums of 2·10⁴ doubles, relative error 2·10⁴ ε each.
  EXPECT_NEAR(report.fvu / (error / variance), 1.0, 4e4 * std::numeric_limits<double>::epsilon());
}

TEST(Evaluate, DoesNotDependOnThreads) {
  const std::vector<float> x = random_rows(9000, 4, 0.1F);
  const auto rows = make_row_source(MatView<const float>(x.data(), 9000, 4));
  const FakeSae sae = identity_sae(4, 0.7F);
  set_num_threads(1);
  const EvalReport one = evaluate(sae, *rows);
  set_num_threads(2);
  const EvalReport two = evaluate(sae, *rows);
  EXPECT_EQ(one.fvu, two.fvu);
  EXPECT_EQ(one.cosine, two.cosine);
  EXPECT_EQ(one.density, two.density);
}

TEST(Evaluate, DensityHistogramPutsLatentsInTheirDecade) {
  EvalReport report;
  report.density = {0.0, 1.0, 0.1, 1e-8, 1e-12, 0.05};
  const auto bins = report.density_histogram();
  EXPECT_EQ(bins[31], 1);  // 1.0
  EXPECT_EQ(bins[28], 1);  // 0.1
  EXPECT_EQ(bins[26], 1);  // 0.05
  EXPECT_EQ(bins[0], 2);   // 1e-8 and what is below the first bin
}

TEST(Evaluate, RefusesWhatCannotBeMeasured) {
  std::vector<float> x = random_rows(4, 2, 0.0F);
  const auto rows = make_row_source(MatView<const float>(x.data(), 4, 2));
  EXPECT_THROW(evaluate(identity_sae(3), *rows), Error);
  const auto none = make_row_source(MatView<const float>(x.data(), 0, 2));
  EXPECT_THROW(evaluate(identity_sae(2), *none), Error);
  try {
    evaluate(identity_sae(2, std::numeric_limits<float>::infinity()), *rows);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNumeric);
    EXPECT_NE(std::string(error.what()).find("row 0"), std::string::npos) << error.what();
  }
  x[3] = std::numeric_limits<float>::quiet_NaN();
  try {
    evaluate(identity_sae(2), *rows);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    EXPECT_NE(std::string(error.what()).find("row 1, column 1 is NaN"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace drrik
