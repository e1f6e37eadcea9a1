#include "drrik/ops/activation.h"

#include <algorithm>

#include "ops/ops_testing.h"

namespace drrik {
namespace {

using testing::Matrix;

const std::vector<Activation> kAll = [] {
  std::vector<Activation> all;
  for (int i = 0; i <= static_cast<int>(kLastActivation); ++i) {
    all.push_back(static_cast<Activation>(i));
  }
  return all;
}();

double naive(Activation a, double x) {
  const auto sigmoid = [](double z) { return 1.0 / (1.0 + std::exp(-z)); };
  switch (a) {
    case Activation::kIdentity:
      return x;
    case Activation::kRelu:
      return x < 0.0 ? 0.0 : x;
    case Activation::kGelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::kGeluTanh:
      return x * sigmoid(2.0 * std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x));
    case Activation::kGeluQuick:
      return x * sigmoid(1.702 * x);
    case Activation::kSilu:
      return x * sigmoid(x);
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kSigmoid:
      return sigmoid(x);
    case Activation::kReluSquared:
      return x < 0.0 ? 0.0 : x * x;
    case Activation::kRelu6:
      return std::clamp(x, 0.0, 6.0);
    case Activation::kLeakyRelu:
      return x < 0.0 ? 0.01 * x : x;
    case Activation::kGelu10:
      return std::min(10.0, 0.5 * x * std::erfc(-x / std::sqrt(2.0)));
    case Activation::kMish:
      return x * std::tanh(std::log1p(std::exp(x)));
    case Activation::kHardSwish:
      return x * std::clamp(x + 3.0, 0.0, 6.0) / 6.0;
  }
  return 0.0;
}

// The header's promise: 4 ulp (8 eps) plus 1e-7 |x|; the smallest normal number for results that
// underflow.
bool right(Activation a, float x, float got) {
  const double wanted = naive(a, static_cast<double>(x));
  const double tolerance = 8.0 * testing::kEps * std::fabs(wanted) +
                           1e-7 * std::min(std::fabs(static_cast<double>(x)), 1.0) + 1.2e-38;
  return testing::near(static_cast<double>(got), wanted, tolerance);
}

std::vector<float> inputs() {
  std::vector<float> x = {0.0F,   -0.0F,  1e-30F,  -1e-30F, 1e-6F, 88.0F,
                          -88.0F, 104.0F, -104.0F, 1e10F,   -1e10F};
  for (int i = -20000; i <= 20000; ++i) x.push_back(static_cast<float>(i) * 1e-3F);
  return x;
}

TEST(Activation, MatchesDoublePrecision) {
  const std::vector<float> x = inputs();
  const auto n = static_cast<std::int64_t>(x.size());
  testing::for_each_target([&] {
    for (const Activation a : kAll) {
      std::vector<float> y(x.size());
      activate(a, MatView<const float>(x.data(), 1, n), MatView<float>(y.data(), 1, n));
      std::int64_t wrong = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (right(a, x[i], y[i])) continue;
        if (++wrong == 1) {
          ADD_FAILURE() << activation_name(a) << "(" << x[i] << ") = " << y[i] << ", wanted "
                        << naive(a, static_cast<double>(x[i]));
        }
      }
      EXPECT_EQ(wrong, 0) << activation_name(a);
    }
  });
}

TEST(Activation, ComparatorSeesACrudeApproximation) {
  EXPECT_FALSE(
      right(Activation::kGelu, 1.0F, static_cast<float>(naive(Activation::kGeluTanh, 1.0))));
  EXPECT_FALSE(right(Activation::kSilu, 1.0F, -0.7310586F));
  EXPECT_FALSE(right(Activation::kSilu, 1.0F, std::numeric_limits<float>::quiet_NaN()));
  EXPECT_TRUE(right(Activation::kSilu, 1.0F, 0.7310586F));
}

TEST(Activation, NanStaysNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  testing::for_each_target([&] {
    for (const Activation a : kAll) {
      Matrix x = Matrix::random(1, 40);
      x(0, 3) = x(0, 39) = nan;
      Matrix y(1, 40);
      activate(a, x.view(), y.view());
      EXPECT_TRUE(std::isnan(y(0, 3)) && std::isnan(y(0, 39))) << activation_name(a);
      EXPECT_FALSE(std::isnan(y(0, 4))) << activation_name(a);
    }
  });
}

TEST(Activation, HonoursStridesAliasesAndOddWidths) {
  for (const std::int64_t cols : {0, 1, 7, 16, 33, 100}) {
    Matrix x = Matrix::random(5, cols, 3, 2);
    Matrix up = Matrix::random(5, cols, 1, 3);
    Matrix y(5, cols, 2);
    for (const Activation a : kAll) {
      activate(a, x.view(), y.view());
      EXPECT_TRUE(y.guards_intact());
      Matrix gated(5, cols, 4);
      gate_mul(a, x.view(), up.view(), gated.view());
      EXPECT_TRUE(gated.guards_intact());
      Matrix in_place = x;
      gate_mul(a, in_place.view(), up.view(), in_place.view());
      EXPECT_TRUE(in_place.guards_intact());
      std::vector<BF16> narrow(static_cast<std::size_t>(5 * cols));
      gate_mul(a, x.view(), up.view(), MatView<BF16>(narrow.data(), 5, cols));
      std::vector<BF16> plain(static_cast<std::size_t>(5 * cols));
      activate(a, x.view(), MatView<BF16>(plain.data(), 5, cols));
      for (std::int64_t r = 0; r < 5; ++r) {
        for (std::int64_t c = 0; c < cols; ++c) {
          EXPECT_TRUE(right(a, x(r, c), y(r, c)));
          EXPECT_FLOAT_EQ(gated(r, c), y(r, c) * up(r, c));
          EXPECT_EQ(in_place(r, c), gated(r, c));
          const auto at = static_cast<std::size_t>(r * cols + c);
          EXPECT_EQ(narrow[at].bits, BF16(gated(r, c)).bits);
          EXPECT_EQ(plain[at].bits, BF16(y(r, c)).bits);
        }
      }
    }
  }
}

TEST(Activation, NamesOfConfigurations) {
  EXPECT_EQ(find_activation("gelu_new"), Activation::kGeluTanh);
  EXPECT_EQ(find_activation("gelu"), Activation::kGelu);
  EXPECT_EQ(find_activation("silu"), Activation::kSilu);
  EXPECT_EQ(find_activation("swish"), Activation::kSilu);
  EXPECT_EQ(find_activation("quick_gelu"), Activation::kGeluQuick);
  EXPECT_EQ(find_activation("relu6"), Activation::kRelu6);
  EXPECT_EQ(find_activation("leaky_relu"), Activation::kLeakyRelu);
  EXPECT_EQ(find_activation("gelu_10"), Activation::kGelu10);
  EXPECT_EQ(find_activation("mish"), Activation::kMish);
  EXPECT_EQ(find_activation("hardswish"), Activation::kHardSwish);
  EXPECT_EQ(find_activation("gelu "), std::nullopt);
  EXPECT_EQ(find_activation(""), std::nullopt);
  for (const Activation a : kAll) EXPECT_EQ(find_activation(activation_name(a)), a);
}

TEST(Activation, RefusesWhatDoesNotFit) {
  Matrix x(2, 4);
  EXPECT_THROW(activate(Activation::kRelu, x.view(), Matrix(2, 5).view()), Error);
  EXPECT_THROW(gate_mul(Activation::kRelu, x.view(), Matrix(1, 4).view(), x.view()), Error);
  EXPECT_THROW(gate_mul(Activation::kRelu, x.view(), x.view(), Matrix(2, 3).view()), Error);
}

}  // namespace
}  // namespace drrik
