#include "drrik/ops/adam.h"

#include "ops/ops_testing.h"

namespace drrik {
namespace {

using testing::Matrix;

// Twenty steps by the formulas of the paper as PyTorch arranges them, in double precision.
struct Reference {
  std::vector<double> param, m, v;
  void step(std::span<const float> grad, std::int64_t t, const AdamOptions& o) {
    for (std::size_t i = 0; i < param.size(); ++i) {
      const double g = static_cast<double>(grad[i]) + o.weight_decay * param[i];
      m[i] = o.beta1 * m[i] + (1.0 - o.beta1) * g;
      v[i] = o.beta2 * v[i] + (1.0 - o.beta2) * g * g;
      const double mh = m[i] / (1.0 - std::pow(o.beta1, static_cast<double>(t)));
      const double vh = v[i] / (1.0 - std::pow(o.beta2, static_cast<double>(t)));
      param[i] *= 1.0 - o.learning_rate * o.decoupled_weight_decay;
      param[i] -= o.learning_rate * mh / (std::sqrt(vh) + o.eps);
    }
  }
};

// Largest distance of the parameters after 20 steps; each step of at most about learning_rate adds
// an error of some eps of the step and one rounding of the parameter.
double distance(const AdamOptions& o, double reference_beta2) {
  const std::int64_t n = 77;
  Matrix start = Matrix::random(1, n, 0, 1);
  Matrix param = start;
  Matrix m(1, n);
  Matrix v(1, n);
  Reference reference;
  for (std::int64_t i = 0; i < n; ++i) {
    m(0, i) = v(0, i) = 0.0F;
    reference.param.push_back(static_cast<double>(start(0, i)));
  }
  reference.m.assign(static_cast<std::size_t>(n), 0.0);
  reference.v = reference.m;
  AdamOptions other = o;
  other.beta2 = reference_beta2;
  for (std::int64_t t = 1; t <= 20; ++t) {
    const Matrix grad = Matrix::random(1, n, 0, 10 + static_cast<std::uint64_t>(t), 1e-3F);
    adam_step(param.view().row(0), grad.view().row(0), m.view().row(0), v.view().row(0), t, o);
    reference.step(grad.view().row(0), t, other);
  }
  double largest = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double d =
        std::fabs(static_cast<double>(param(0, i)) - reference.param[static_cast<std::size_t>(i)]);
    largest = std::isnan(d) ? 1e9 : std::max(largest, d);
  }
  return largest;
}

TEST(Adam, FollowsTheFormulas) {
  testing::for_each_target([] {
    AdamOptions o;
    // 20 roundings of parameters up to 4: 20 · 4 eps.
    EXPECT_LT(distance(o, o.beta2), 80.0 * testing::kEps);
    o.weight_decay = 0.1;
    o.beta1 = 0.5;
    o.learning_rate = 0.05;
    EXPECT_LT(distance(o, o.beta2), 160.0 * testing::kEps);
    // AdamW: one rounding a step more.
    o.weight_decay = 0.0;
    o.decoupled_weight_decay = 0.2;
    EXPECT_LT(distance(o, o.beta2), 240.0 * testing::kEps);
  });
}

TEST(Adam, ComparatorSeesAnotherBeta) {
  EXPECT_GT(distance(AdamOptions(), 0.99), 2.0 * 80.0 * testing::kEps);
}

TEST(Adam, StepSizeAndCorrectionAreFormedInDouble) {
  const AdamScalars s = adam_scalars({}, 1);
  EXPECT_FLOAT_EQ(s.step_size, 1e-2F);
  EXPECT_FLOAT_EQ(s.sqrt_bias_correction2, std::sqrt(0.001F));
  EXPECT_EQ(s.one_minus_beta2, static_cast<float>(1.0 - 0.999));
  EXPECT_THROW(adam_scalars({}, 0), Error);
}

TEST(Adam, RefusesSpansOfDifferentSizes) {
  std::vector<float> a(4);
  std::vector<float> b(5);
  EXPECT_THROW(adam_step(a, b, a, a, 1, {}), Error);
  EXPECT_THROW(adam_step(a, a, b, a, 1, {}), Error);
  EXPECT_THROW(adam_step(a, a, a, b, 1, {}), Error);
  adam_step({}, {}, {}, {}, 1, {});
}

}  // namespace
}  // namespace drrik
