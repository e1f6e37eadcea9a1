// Logistic regression against scikit-learn.

#include "drrik/eval/logistic.h"

#include <gtest/gtest.h>

#include <cmath>

#include "drrik/base/error.h"
#include "drrik/base/threads.h"
#include "eval/fixture.h"

namespace drrik {
namespace {

using testing::Fixture;

// Both minimise the same strictly convex function until its gradient is about 1e-9 of Σ s: where
// its curvature is at least 1 (the penalty's) that is 1e-7 of a weight, and the intercept is as
// well determined.
constexpr double kClose = 1e-6;

void expect_same(const LogisticModel& model, const std::vector<double>& wanted, double tolerance) {
  ASSERT_EQ(model.weights.size() + 1, wanted.size());
  EXPECT_TRUE(model.converged);
  for (std::size_t j = 0; j < model.weights.size(); ++j) {
    EXPECT_NEAR(model.weights[j], wanted[j], tolerance) << j;
  }
  EXPECT_NEAR(model.bias, wanted.back(), tolerance);
}

// The rows of a matrix, those that are 0 left out.
SparseRows compressed(MatView<const float> dense) {
  SparseRows out;
  out.row_start = {0};
  for (std::int64_t r = 0; r < dense.rows(); ++r) {
    for (std::int64_t c = 0; c < dense.cols(); ++c) {
      if (dense(r, c) == 0.0F) continue;
      out.latent.push_back(static_cast<std::int32_t>(c));
      out.value.push_back(dense(r, c));
    }
    out.row_start.push_back(static_cast<std::int64_t>(out.latent.size()));
  }
  return out;
}

TEST(Logistic, HasTheCoefficientsOfScikitLearn) {
  const Fixture fixture("logistic");
  const Tensor x = fixture.floats("x");
  const ProbeRows rows(x.mat<float>());
  const auto labels = fixture.labels("y");
  expect_same(fit_logistic(rows, labels), fixture.doubles("plain"), kClose);
  expect_same(fit_logistic(rows, labels, {.c = 20.0}), fixture.doubles("weak"), kClose);
  expect_same(fit_logistic(rows, labels, {.c = 0.01}), fixture.doubles("strong"), kClose);
  expect_same(fit_logistic(rows, labels, LogisticOptions::balanced(labels)),
              fixture.doubles("balanced"), kClose);
}

TEST(Logistic, CompressedRowsGiveWhatDenseOnesDo) {
  const Fixture fixture("logistic");
  const Tensor x = fixture.floats("sparse_x");
  const auto labels = fixture.labels("sparse_y");
  const SparseRows sparse = compressed(x.mat<float>());
  const LogisticModel dense = fit_logistic(ProbeRows(x.mat<float>()), labels);
  std::vector<double> wanted = dense.weights;
  wanted.push_back(dense.bias);
  expect_same(fit_logistic(ProbeRows(sparse, x.dim(1)), labels), wanted, kClose);
}

// Saga stops at 1e-10, coordinate descent where a sweep moves margins by 1e-9.
TEST(Logistic, SparseOneHasTheCoefficientsOfScikitLearn) {
  const Fixture fixture("logistic");
  const Tensor x = fixture.floats("sparse_x");
  const auto labels = fixture.labels("sparse_y");
  const SparseRows sparse = compressed(x.mat<float>());
  const auto penalty = fixture.doubles("l1");
  const LogisticModel model = fit_sparse_logistic(
      ProbeRows(sparse, x.dim(1)), labels,
      {.l1 = penalty[0], .positive_weight = penalty[1], .tolerance = 1e-9, .max_sweeps = 100000});
  expect_same(model, fixture.doubles("sparse"), 1e-5);
  const auto wanted = fixture.doubles("sparse");
  for (std::size_t j = 0; j < model.weights.size(); ++j) {
    EXPECT_EQ(model.weights[j] == 0.0, wanted[j] == 0.0) << j;
  }
}

TEST(Logistic, SubsetsAndColumnsAreWhatTheySay) {
  const std::vector<float> x = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const ProbeRows all(MatView<const float>(x.data(), 3, 3));
  const ProbeRows some(all, {2, 0, 2});
  const ProbeRows fewer(some, {1});
  EXPECT_EQ(some.rows(), 3);
  EXPECT_EQ(fewer.dot(0, std::vector<double>{1, 0, 0}), 1.0);
  const std::vector<std::int64_t> columns = {2, 0};
  EXPECT_EQ(dense_columns(some, columns), (std::vector<float>{9, 7, 3, 1, 9, 7}));
  // Means over {7, 8, 9} and {1, 2, 3; 7, 8, 9}: 3 everywhere, so ties: the lower column first.
  const std::vector<std::uint8_t> labels = {1, 0, 0};
  EXPECT_EQ(mean_differences(some, labels), (std::vector<double>{3, 3, 3}));
  EXPECT_EQ(top_mean_differences(some, labels, 2), (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(top_mean_differences(some, labels, 9).size(), 3U);
}

TEST(Logistic, EndsWhereThereIsNothingToLearn) {
  const std::vector<float> x = {1, -1, 2, -2};
  const ProbeRows rows(MatView<const float>(x.data(), 4, 1));
  const std::vector<std::uint8_t> all = {1, 1, 1, 1};
  const LogisticModel one_class = fit_logistic(rows, all);
  EXPECT_GT(one_class.bias, 5.0);  // runs away until the gradient is small
  EXPECT_NEAR(one_class.weights[0], 0.0, 1e-6);
  // Separable: the penalty keeps the weight finite.
  const LogisticModel apart = fit_logistic(rows, std::vector<std::uint8_t>{1, 0, 1, 0});
  EXPECT_TRUE(apart.converged);
  EXPECT_TRUE(std::isfinite(apart.weights[0]));
  EXPECT_THROW(fit_logistic(rows, std::vector<std::uint8_t>{1}), Error);
  EXPECT_THROW(fit_sparse_logistic(ProbeRows(rows, {}), {}), Error);
}

TEST(Logistic, DoesNotDependOnThreads) {
  const Fixture fixture("logistic");
  const Tensor x = fixture.floats("x");
  const ProbeRows rows(x.mat<float>());
  const auto labels = fixture.labels("y");
  set_num_threads(1);
  const LogisticModel one = fit_logistic(rows, labels);
  set_num_threads(2);
  const LogisticModel two = fit_logistic(rows, labels);
  EXPECT_EQ(one.weights, two.weights);
  EXPECT_EQ(one.bias, two.bias);
}

}  // namespace
}  // namespace drrik
