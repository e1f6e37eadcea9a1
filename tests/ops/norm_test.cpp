#include "drrik/ops/norm.h"

#include "ops/ops_testing.h"

namespace drrik {
namespace {

using testing::Matrix;

// Normalised row in double precision.
std::vector<double> naive(std::span<const float> x, std::span<const float> gamma,
                          std::span<const float> beta, double eps, double offset, bool centred) {
  const auto n = static_cast<double>(x.size());
  double mean = 0.0;
  if (centred) {
    for (const float v : x) mean += static_cast<double>(v) / n;
  }
  double square = 0.0;
  for (const float v : x) square += std::pow(static_cast<double>(v) - mean, 2) / n;
  std::vector<double> out;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double g = (gamma.empty() ? 1.0 : static_cast<double>(gamma[i])) + offset;
    const double b = beta.empty() ? 0.0 : static_cast<double>(beta[i]);
    out.push_back((static_cast<double>(x[i]) - mean) / std::sqrt(square + eps) * g + b);
  }
  return out;
}

// mean carries n eps mean|x|, the scale about n/8 eps relative (four vectors of partial sums), and
// each element some eps more; with |x| of order `size` that is (n + 8) eps (size / deviation + 1)
// relative to |gamma| plus eps |beta|. Elements here have |gamma| < 2.
std::int64_t wrong_elements(const std::vector<double>& wanted, std::span<const float> got,
                            double size_over_deviation) {
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const double n = static_cast<double>(wanted.size());
    const double tolerance =
        testing::kEps * ((n + 8.0) * 2.0 * size_over_deviation + 8.0 * std::fabs(wanted[i]));
    wrong += testing::near(static_cast<double>(got[i]), wanted[i], tolerance) ? 0 : 1;
  }
  return wrong;
}

std::vector<float> row_of(const Matrix& m) {
  std::vector<float> values;
  for (std::int64_t c = 0; c < m.cols(); ++c) values.push_back(m(0, c));
  return values;
}

void check(std::int64_t rows, std::int64_t cols, float shift) {
  SCOPED_TRACE(str(rows, " x ", cols, " around ", shift));
  Matrix x = Matrix::random(rows, cols, 3, 1);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) x(r, c) += shift;
  }
  std::vector<float> gamma;
  std::vector<float> beta;
  for (std::int64_t c = 0; c < cols; ++c) {
    gamma.push_back(0.5F + 0.1F * static_cast<float>(c % 11));
    beta.push_back(0.3F - 0.1F * static_cast<float>(c % 5));
  }
  const double ratio = 1.0 + std::fabs(static_cast<double>(shift));
  for (const bool affine : {true, false}) {
    const std::span<const float> g =
        affine ? std::span<const float>(gamma) : std::span<const float>();
    const std::span<const float> b =
        affine ? std::span<const float>(beta) : std::span<const float>();
    Matrix out(rows, cols, 2);
    layer_norm(x.view(), g, b, 1e-5F, out.view());
    EXPECT_TRUE(out.guards_intact());
    for (std::int64_t r = 0; r < rows; ++r) {
      EXPECT_EQ(
          wrong_elements(naive(x.view().row(r), g, b, 1e-5, 0.0, true), out.view().row(r), ratio),
          0);
    }
    rms_norm(x.view(), g, {1e-6F, 1.0F}, out.view());
    for (std::int64_t r = 0; r < rows; ++r) {
      EXPECT_EQ(
          wrong_elements(naive(x.view().row(r), g, {}, 1e-6, 1.0, false), out.view().row(r), ratio),
          0);
    }
    // bfloat16 output is the float32 one rounded.
    std::vector<BF16> narrow(static_cast<std::size_t>(rows * cols));
    const MatView<BF16> view(narrow.data(), rows, cols);
    rms_norm(x.view(), g, {1e-6F, 1.0F}, view);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c) ASSERT_EQ(view(r, c).bits, BF16(out(r, c)).bits);
    }
    layer_norm(x.view(), g, b, 1e-5F, out.view());
    layer_norm(x.view(), g, b, 1e-5F, view);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c) ASSERT_EQ(view(r, c).bits, BF16(out(r, c)).bits);
    }
  }
  Matrix alias = x;
  Matrix out(rows, cols);
  layer_norm(x.view(), gamma, beta, 1e-5F, out.view());
  layer_norm(alias.view(), gamma, beta, 1e-5F, alias.view());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) ASSERT_EQ(alias(r, c), out(r, c));
  }
}

TEST(Norm, MatchesDoublePrecision) {
  testing::for_each_target([] {
    for (const std::int64_t cols : {1, 2, 15, 16, 17, 63, 64, 65, 768, 1000}) check(3, cols, 0.0F);
    check(0, 64, 0.0F);
    check(40, 700, 0.0F);
    // A mean far from zero must not cancel: the variance is formed from differences.
    check(2, 256, 100.0F);
  });
}

TEST(Norm, ComparatorSeesAWrongEpsilonAndNan) {
  const Matrix x = Matrix::random(1, 64, 0, 1);
  Matrix out(1, 64);
  rms_norm(x.view(), {}, {1e-3F, 0.0F}, out.view());
  const auto row = row_of(x);
  EXPECT_EQ(wrong_elements(naive(row, {}, {}, 1e-3, 0.0, false), out.view().row(0), 1.0), 0);
  EXPECT_GT(wrong_elements(naive(row, {}, {}, 2e-3, 0.0, false), out.view().row(0), 1.0), 50);
  out(0, 5) = std::numeric_limits<float>::quiet_NaN();
  out(0, 6) = -out(0, 6);
  EXPECT_EQ(wrong_elements(naive(row, {}, {}, 1e-3, 0.0, false), out.view().row(0), 1.0), 2);
}

TEST(Norm, ConstantAndZeroRowsAreFinite) {
  Matrix x(1, 20);
  for (std::int64_t c = 0; c < 20; ++c) x(0, c) = 0.0F;
  Matrix out(1, 20);
  rms_norm(x.view(), {}, {}, out.view());
  EXPECT_EQ(out(0, 3), 0.0F);
  for (std::int64_t c = 0; c < 20; ++c) x(0, c) = 4.0F;
  layer_norm(x.view(), {}, {}, 1e-5F, out.view());
  EXPECT_EQ(out(0, 19), 0.0F);
}

// Heads inside a wider buffer equal the same vectors as rows of their own.
TEST(Norm, NormalisesEveryHeadByItself) {
  constexpr std::int64_t kHeads = 3;
  for (const std::int64_t dim : {1, 6, 64, 67}) {
    Matrix whole = Matrix::random(5, kHeads * dim, 4, 7);
    Matrix centred = whole;
    std::vector<float> gamma;
    std::vector<float> beta;
    for (std::int64_t i = 0; i < dim; ++i) {
      gamma.push_back(0.5F + 0.1F * static_cast<float>(i % 7));
      beta.push_back(0.2F * static_cast<float>(i % 3));
    }
    const Matrix before = whole;
    rms_norm(Heads<float>(whole.view(), kHeads), gamma, {1e-6F, 0.0F});
    layer_norm(Heads<float>(centred.view(), kHeads), gamma, beta, 1e-5F);
    EXPECT_TRUE(whole.guards_intact() && centred.guards_intact());
    for (std::int64_t h = 0; h < kHeads; ++h) {
      Matrix rms(5, dim);
      Matrix layer(5, dim);
      rms_norm(before.view().cols_range(h * dim, dim), gamma, {1e-6F, 0.0F}, rms.view());
      layer_norm(before.view().cols_range(h * dim, dim), gamma, beta, 1e-5F, layer.view());
      for (std::int64_t r = 0; r < 5; ++r) {
        for (std::int64_t i = 0; i < dim; ++i) {
          ASSERT_EQ(whole(r, h * dim + i), rms(r, i));
          ASSERT_EQ(centred(r, h * dim + i), layer(r, i));
        }
      }
    }
  }
  Matrix x(2, 6);
  EXPECT_THROW(rms_norm(Heads<float>(x.view(), 2), std::vector<float>(6), {}), Error);
  EXPECT_THROW(layer_norm(Heads<float>(x.view(), 2), {}, std::vector<float>(2), 1e-5F), Error);
}

TEST(Norm, RefusesWhatDoesNotFit) {
  Matrix x(2, 4);
  Matrix out(2, 4);
  const std::vector<float> five(5);
  EXPECT_THROW(rms_norm(x.view(), five, {}, out.view()), Error);
  EXPECT_THROW(layer_norm(x.view(), {}, five, 1e-5F, out.view()), Error);
  EXPECT_THROW(layer_norm(x.view(), {}, {}, 1e-5F, Matrix(2, 5).view()), Error);
  EXPECT_THROW(layer_norm(x.view(), {}, {}, 1e-5F, Matrix(3, 4).view()), Error);
}

}  // namespace
}  // namespace drrik
