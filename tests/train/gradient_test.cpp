// Every gradient, of the plain formulas and of both kinds of training step, against central
// differences of a loss written down in double precision.

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "drrik/base/rng.h"
#include "drrik/sae/relu_sae.h"
#include "train/memory_rows.h"
#include "train/stepper.h"

namespace drrik {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// The parameters as doubles: E [h, d], D [h, d] (a row a latent), encoder bias [h], bias [d].
struct Oracle {
  std::int64_t d = 0, h = 0;
  double l1 = 0.0;
  std::vector<double> encoder, decoder, encoder_bias, bias;

  explicit Oracle(const ReluSae& sae)
      : d(sae.d_in()), h(sae.d_sae()), l1(sae.config().l1_coefficient) {
    for (std::int64_t j = 0; j < h; ++j) {
      encoder.insert(encoder.end(), sae.encoder().row(j).begin(), sae.encoder().row(j).end());
      decoder.insert(decoder.end(), sae.decoder().row(j).begin(), sae.decoder().row(j).end());
    }
    encoder_bias.assign(sae.encoder_bias().begin(), sae.encoder_bias().end());
    bias.assign(sae.bias().begin(), sae.bias().end());
  }

  double loss(MatView<const float> x) const {
    double mse = 0.0;
    double sparsity = 0.0;
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      std::vector<double> out = bias;
      for (std::int64_t j = 0; j < h; ++j) {
        double f = encoder_bias[at(j)];
        for (std::int64_t c = 0; c < d; ++c) {
          f += (static_cast<double>(x(r, c)) - bias[at(c)]) * encoder[at(j * d + c)];
        }
        if (f <= 0) continue;
        sparsity += f;
        for (std::int64_t c = 0; c < d; ++c) out[at(c)] += f * decoder[at(j * d + c)];
      }
      for (std::int64_t c = 0; c < d; ++c) {
        const double e = out[at(c)] - static_cast<double>(x(r, c));
        mse += e * e;
      }
    }
    const auto n = static_cast<double>(x.rows());
    return mse / (n * static_cast<double>(d)) + l1 * sparsity / n;
  }

  std::vector<double> gradient(MatView<const float> x, std::vector<double> Oracle::*which) {
    std::vector<double> out;
    constexpr double kStep = 1e-6;
    for (double& p : this->*which) {
      const double value = p;
      p = value + kStep;
      const double up = loss(x);
      p = value - kStep;
      const double down = loss(x);
      p = value;
      out.push_back((up - down) / (2 * kStep));
    }
    return out;
  }
};

// max |a − b| / max |b|. The central difference of step 1e-6 carries about 1e-9 of the loss's
// scale; float32 sums of some dozens of terms another 1e-6 of the largest gradient.
double worst(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double error = 0.0;
  double scale = 0.0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    error = std::max(error, std::isnan(a[i]) ? HUGE_VAL : std::abs(a[i] - b[i]));
    scale = std::max(scale, std::abs(b[i]));
  }
  return error / scale;
}
constexpr double kTolerance = 2e-5;

ReluSae make_sae(bool tied, double l1, float encoder_bias) {
  ReluSaeConfig config;
  config.activation_dim = 19;
  config.hidden_dim = 70;  // more than one block of the sweep
  config.l1_coefficient = l1;
  config.pre_encoder_bias = tied;
  config.normalize_decoder = false;
  Rng rng(3);
  ReluSae sae = ReluSae::random(config, rng);
  for (float& v : sae.encoder_bias()) v = encoder_bias + 0.1F * rng.normal();
  if (tied) {
    for (float& v : sae.bias()) v = 0.2F * rng.normal();
  }
  return sae;
}

std::vector<double> doubles(std::span<const float> v) { return {v.begin(), v.end()}; }
std::vector<double> doubles(MatView<const float> m) {
  return doubles(std::span(m.data(), at(m.rows() * m.cols())));
}

// Adam with both betas 0 and an eps far above every gradient is plain descent at rate lr / eps.
struct Gradients {
  std::vector<double> encoder, decoder, encoder_bias, bias;
};
Gradients step_gradients(const ReluSae& start, MatView<const float> x, StepPath path) {
  constexpr double kEps = 1e6;
  constexpr double kRate = 100.0;
  ReluSae sae = start.clone();
  StepperOptions options;
  options.adam = {.learning_rate = kRate * kEps, .beta1 = 0.0, .beta2 = 0.0, .eps = kEps};
  options.path = path;
  const auto stepper = make_relu_stepper(sae, options);
  Tensor batch = Tensor::uninitialized(DType::kF32, {x.rows(), x.cols()});
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    std::copy(x.row(r).begin(), x.row(r).end(), batch.mutable_mat<float>().row(r).begin());
  }
  std::vector<std::int64_t> last_active(at(sae.d_sae()), -1);
  const StepOutcome outcome = stepper->step(batch.mutable_mat<float>(), 0, last_active);
  EXPECT_EQ(outcome.sparse, path == StepPath::kSparse);
  EXPECT_NEAR(outcome.loss.loss, Oracle(start).loss(x), 1e-5 * outcome.loss.loss);
  const auto moved = [](const std::vector<double>& from, const std::vector<double>& to) {
    std::vector<double> out;
    for (std::size_t i = 0; i < from.size(); ++i) out.push_back((from[i] - to[i]) / kRate);
    return out;
  };
  const ReluSae& end = sae;
  return {moved(doubles(start.encoder()), doubles(end.encoder())),
          moved(doubles(start.decoder()), doubles(end.decoder())),
          moved(doubles(start.encoder_bias()), doubles(end.encoder_bias())),
          moved(doubles(start.bias()), doubles(end.bias()))};
}

struct Case {
  bool tied;
  double l1;
  float encoder_bias;
};

class Gradient : public ::testing::TestWithParam<Case> {};

TEST_P(Gradient, MatchesCentralDifferences) {
  const Case& c = GetParam();
  const ReluSae sae = make_sae(c.tied, c.l1, c.encoder_bias);
  const Tensor rows = testing::sparse_rows(9, sae.d_in(), 5);
  const auto x = rows.mat<float>();
  Oracle oracle(sae);
  const auto encoder = oracle.gradient(x, &Oracle::encoder);
  const auto decoder = oracle.gradient(x, &Oracle::decoder);
  const auto encoder_bias = oracle.gradient(x, &Oracle::encoder_bias);
  const auto bias = oracle.gradient(x, &Oracle::bias);

  ReluSaeGradients plain;
  sae.gradients(x, plain);
  EXPECT_LT(worst(doubles(plain.encoder.data<float>()), encoder), kTolerance);
  EXPECT_LT(worst(doubles(plain.decoder.data<float>()), decoder), kTolerance);
  EXPECT_LT(worst(doubles(plain.encoder_bias.data<float>()), encoder_bias), kTolerance);
  if (c.tied) {
    EXPECT_LT(worst(doubles(plain.bias.data<float>()), bias), kTolerance);
  }

  for (const StepPath path : {StepPath::kDense, StepPath::kSparse}) {
    const Gradients g = step_gradients(sae, x, path);
    EXPECT_LT(worst(g.encoder, encoder), kTolerance);
    EXPECT_LT(worst(g.decoder, decoder), kTolerance);
    EXPECT_LT(worst(g.encoder_bias, encoder_bias), kTolerance);
    if (c.tied) {
      EXPECT_LT(worst(g.bias, bias), kTolerance);
    } else {
      for (const double v : g.bias) EXPECT_EQ(v, 0.0);
    }
  }
}

// Dense features, sparse ones, some latents that never fire; with and without tied bias and
// penalty.
INSTANTIATE_TEST_SUITE_P(Relu, Gradient,
                         ::testing::Values(Case{true, 0.01, 0.0F}, Case{true, 0.5, -0.8F},
                                           Case{false, 0.01, -0.5F}, Case{true, 0.0, 0.1F}));

TEST(GradientComparator, SeesWrongSignMissingAndNan) {
  EXPECT_LT(worst({1, -2}, {1, -2}), 1e-12);
  EXPECT_GT(worst({1, 2}, {1, -2}), 1.0);
  EXPECT_GT(worst({0, -2}, {1, -2}), 0.4);
  EXPECT_GT(worst({NAN, -2}, {1, -2}), 1.0);
}

}  // namespace
}  // namespace drrik
