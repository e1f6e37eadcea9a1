#include "drrik/ops/softmax.h"

#include "ops/ops_testing.h"

namespace drrik {
namespace {

using testing::Matrix;

double naive_log_sum_exp(std::span<const float> x, double scale) {
  double largest = -1e300;
  for (const float v : x) largest = std::max(largest, scale * static_cast<double>(v));
  double sum = 0.0;
  for (const float v : x) sum += std::exp(scale * static_cast<double>(v) - largest);
  return largest + std::log(sum);
}

TEST(Softmax, MatchesDoublePrecision) {
  testing::for_each_target([] {
    for (const std::int64_t cols : {1, 2, 15, 17, 64, 5000, 9001}) {
      for (const float scale : {1.0F, 0.25F, 3.0F, -1.0F}) {
        const Matrix x = Matrix::random(3, cols, 2, 1, 5.0F);
        Matrix y(3, cols, 1);
        softmax(x.view(), y.view(), scale);
        EXPECT_TRUE(y.guards_intact());
        Matrix logs(3, cols, 1);
        log_softmax(x.view(), logs.view());
        for (std::int64_t r = 0; r < 3; ++r) {
          const double total = naive_log_sum_exp(x.view().row(r), static_cast<double>(scale));
          const double plain = naive_log_sum_exp(x.view().row(r), 1.0);
          EXPECT_NEAR(static_cast<double>(log_sum_exp(x.view().row(r))), plain, 1e-5);
          for (std::int64_t c = 0; c < cols; ++c) {
            // The exponent scale·(x - max), |.| < 150, carries 2 eps relative; exp multiplies it.
            const double wanted =
                std::exp(static_cast<double>(scale) * static_cast<double>(x(r, c)) - total);
            ASSERT_TRUE(testing::near(static_cast<double>(y(r, c)), wanted,
                                      320.0 * testing::kEps * wanted + 1e-37))
                << cols << " " << scale << " " << y(r, c) << " " << wanted;
            ASSERT_NEAR(static_cast<double>(logs(r, c)), static_cast<double>(x(r, c)) - plain,
                        1e-5);
          }
        }
      }
    }
  });
}

TEST(Softmax, HandlesInfinitiesAndEmptyRows) {
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> x = {-inf, 0.0F, -inf, 0.0F};
  softmax(MatView<const float>(x.data(), 1, 4), MatView<float>(x.data(), 1, 4));
  EXPECT_EQ(x, (std::vector<float>{0.0F, 0.5F, 0.0F, 0.5F}));
  EXPECT_EQ(log_sum_exp({}), -inf);
  const std::vector<float> none = {-inf, -inf};
  EXPECT_EQ(log_sum_exp(none), -inf);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  testing::for_each_target([&] {
    std::vector<float> y(40, 1.0F);
    y[17] = nan;
    softmax(MatView<const float>(y.data(), 1, 40), MatView<float>(y.data(), 1, 40));
    EXPECT_TRUE(std::isnan(y[17]) && std::isnan(y[0]));
  });
  std::vector<float> large = {3e38F, 3e38F};
  softmax(MatView<const float>(large.data(), 1, 2), MatView<float>(large.data(), 1, 2));
  EXPECT_EQ(large, (std::vector<float>{0.5F, 0.5F}));
}

TEST(CrossEntropy, MatchesDoublePrecisionAndSkipsNegativeTargets) {
  const Matrix logits = Matrix::random(5, 300, 3, 1, 4.0F);
  const std::vector<std::int32_t> targets = {0, 299, -1, 7, 150};
  std::vector<float> out(5);
  cross_entropy(logits.view(), targets, out);
  for (std::int64_t r = 0; r < 5; ++r) {
    const auto i = static_cast<std::size_t>(r);
    const double wanted = targets[i] < 0 ? 0.0
                                         : naive_log_sum_exp(logits.view().row(r), 1.0) -
                                               static_cast<double>(logits(r, targets[i]));
    EXPECT_NEAR(static_cast<double>(out[i]), wanted, 2e-6);
  }
  const std::vector<std::int32_t> outside = {0, 300, 0, 0, 0};
  EXPECT_THROW(cross_entropy(logits.view(), outside, out), Error);
  EXPECT_THROW(cross_entropy(logits.view(), std::vector<std::int32_t>{1}, out), Error);
}

TEST(Argmax, LowestIndexOfTheLargest) {
  testing::for_each_target([] {
    EXPECT_EQ(argmax({}), -1);
    std::vector<float> x(100, 1.0F);
    EXPECT_EQ(argmax(x), 0);
    x[97] = x[63] = 2.0F;
    EXPECT_EQ(argmax(x), 63);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (const std::size_t at : {0, 31, 63, 64, 99}) {
      std::vector<float> y = x;
      y[at] = nan;
      EXPECT_EQ(argmax(y), at == 63 ? 97 : 63) << at;
    }
    const float inf = std::numeric_limits<float>::infinity();
    EXPECT_EQ(argmax(std::vector<float>{nan, nan}), 0);
    EXPECT_EQ(argmax(std::vector<float>{nan, -inf}), 1);
    EXPECT_EQ(argmax(std::vector<float>{-inf, -inf}), 0);
  });
}

}  // namespace
}  // namespace drrik
