#include "drrik/eval/metrics.h"

#include <gtest/gtest.h>

#include <limits>

#include "drrik/base/error.h"
#include "drrik/base/rng.h"
#include "drrik/base/threads.h"
#include "eval/fixture.h"

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

// Features of float32 with sums of a few hundred of them: some 1e-6, relative.
constexpr double kRounding = 5e-6;

TEST(Evaluate, IsThatOfNumpy) {
  const testing::Fixture fixture("metrics");
  const Tensor x = fixture.floats("x");
  const auto rows = make_row_source(x.mat<float>());
  const auto starts = fixture.integers("starts");
  const EvalReport report = evaluate(fixture.sae(static_cast<float>(fixture.number("scale"))),
                                     *rows, {.cluster_starts = starts});
  const auto expect = [&](double got, const char* name) {
    EXPECT_NEAR(got / fixture.number(name), 1.0, kRounding) << name;
  };
  expect(report.mse, "mse");
  expect(report.squared_error, "squared_error");
  expect(report.fvu, "fvu");
  expect(report.explained_variance_legacy, "legacy");
  expect(report.cosine, "cosine");
  expect(report.l2_ratio, "l2_ratio");
  expect(report.relative_reconstruction_bias, "bias");
  expect(report.l0, "l0");
  expect(report.l1, "l1");
  const auto density = fixture.doubles("density");
  for (std::size_t j = 0; j < density.size(); ++j) {
    EXPECT_DOUBLE_EQ(report.density[j], density[j]);
  }
  EXPECT_EQ(report.clusters, 7);
  EXPECT_EQ(report.clustering, "texts");
  const auto expect_interval = [&](const Interval& got, const char* name) {
    const auto wanted = fixture.doubles(name);
    EXPECT_NEAR(got.value / wanted[0], 1.0, kRounding) << name;
    EXPECT_NEAR(got.low / wanted[1], 1.0, kRounding) << name;
    EXPECT_NEAR(got.high / wanted[2], 1.0, kRounding) << name;
  };
  expect_interval(report.mse_interval, "mse_interval");
  expect_interval(report.l0_interval, "l0_interval");
  // All 230 rows are in the sample that the spread is summed about, so that it is about their mean.
  expect_interval(report.fvu_interval, "fvu_interval");
}

TEST(Evaluate, RowsLeftOutMakeNoDifference) {
  const std::vector<float> x = random_rows(9000, 3, 0.5F);
  std::vector<std::uint8_t> keep(9000, 1);
  std::vector<float> kept;
  for (std::size_t i = 0; i < keep.size(); ++i) {
    keep[i] = i % 5 == 2 || (i >= 4096 && i < 8192) ? 0 : 1;  // one block as a whole
    if (keep[i] != 0)
      kept.insert(kept.end(), x.begin() + static_cast<std::ptrdiff_t>(3 * i),
                  x.begin() + static_cast<std::ptrdiff_t>(3 * i + 3));
  }
  const auto n = static_cast<std::int64_t>(kept.size() / 3);
  const auto all = make_row_source(MatView<const float>(x.data(), 9000, 3));
  const auto some = make_row_source(MatView<const float>(kept.data(), n, 3));
  const EvalReport with = evaluate(identity_sae(3, 0.8F), *all, {.keep = keep});
  const EvalReport without = evaluate(identity_sae(3, 0.8F), *some);
  EXPECT_EQ(with.rows, n);
  EXPECT_EQ(with.excluded_rows, 9000 - n);
  // Sums over other blocks.
  EXPECT_NEAR(with.fvu / without.fvu, 1.0, 1e-12);
  EXPECT_NEAR(with.cosine, without.cosine, 1e-12);
  EXPECT_EQ(with.density, without.density);
  EXPECT_THROW(evaluate(identity_sae(3), *all, {.keep = std::vector<std::uint8_t>(9000)}), Error);
  EXPECT_THROW(evaluate(identity_sae(3), *all, {.keep = std::vector<std::uint8_t>(10, 1)}), Error);
}

/// Takes 3 numbers and gives their first 2, doubled.
class Doubler : public FakeSae {
 public:
  Doubler() : FakeSae(identity_sae(3)) {}
  std::int64_t d_out() const override { return 2; }
  using FakeSae::decode;
  void decode(const SparseRows& f, MatView<float> out) const override {
    std::vector<float> wide(static_cast<std::size_t>(3 * out.rows()));
    FakeSae::decode(f, {wide.data(), out.rows(), 3});
    for (std::int64_t r = 0; r < out.rows(); ++r) {
      for (std::int64_t c = 0; c < 2; ++c)
        out(r, c) = 2 * wide[static_cast<std::size_t>(3 * r + c)];
    }
  }
};

TEST(Evaluate, ATranscoderIsHeldAgainstItsTargets) {
  const std::vector<float> x = random_rows(50, 3, 0.0F);
  std::vector<float> y;
  for (std::size_t i = 0; i < 50; ++i) {
    y.push_back(2 * x[3 * i]);
    y.push_back(2 * x[3 * i + 1] + (i == 7 ? 1.0F : 0.0F));
  }
  const auto inputs = make_row_source(MatView<const float>(x.data(), 50, 3));
  const auto targets = make_row_source(MatView<const float>(y.data(), 50, 2));
  const EvalReport report = evaluate(Doubler(), *inputs, {.target = targets.get()});
  EXPECT_EQ(report.d_in, 3);
  EXPECT_EQ(report.d_out, 2);
  EXPECT_NEAR(report.squared_error, 1.0 / 50, 1e-6);
  EXPECT_THROW(evaluate(Doubler(), *inputs), Error);  // its inputs are no targets
  const auto fewer = make_row_source(MatView<const float>(y.data(), 49, 2));
  EXPECT_THROW(evaluate(Doubler(), *inputs, {.target = fewer.get()}), Error);
}

// The trainer adds batch after batch; evaluation the same rows in blocks.
TEST(Evaluate, BatchesSumToTheSameMetrics) {
  const std::vector<float> x = random_rows(5000, 3, 2.0F);
  const MatView<const float> rows(x.data(), 5000, 3);
  const FakeSae sae = identity_sae(3, 0.9F);
  const EvalReport whole = evaluate(sae, *make_row_source(rows));
  ReconstructionSums sums(3, 6);
  std::vector<float> made(300);
  SparseRows features;
  for (std::int64_t begin = 0; begin < 5000; begin += 100) {
    const MatView<float> r(made.data(), 100, 3);
    sae.encode_and_reconstruct(rows.rows_range(begin, 100), features, r);
    sums.add(rows.rows_range(begin, 100), r, features);
  }
  const ReconstructionMetrics metrics = sums.metrics();
  EXPECT_EQ(metrics.rows, 5000);
  EXPECT_EQ(metrics.clusters, 50);
  EXPECT_NEAR(metrics.fvu / whole.fvu, 1.0, 1e-12);
  EXPECT_NEAR(metrics.mse / whole.mse, 1.0, 1e-12);
  EXPECT_NEAR(metrics.l0, whole.l0, 1e-12);
  EXPECT_EQ(metrics.density, whole.density);
  EXPECT_THROW(sums.add(rows.rows_range(0, 99), MatView<float>(made.data(), 100, 3), features),
               Error);
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
