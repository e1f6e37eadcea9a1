#include "drrik/sae/relu_sae.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <set>

#include "drrik/base/error.h"
#include "drrik/ops/convert.h"
#include "sae/made.h"

namespace drrik {
namespace {

using testing::make_sae;
using testing::normal_rows;
using testing::relative_error;

double norm(std::span<const float> row) { return std::sqrt(sum_squares(row)); }

// f by the formula, in double.
std::vector<double> features_of(const ReluSae& sae, std::span<const float> x) {
  std::vector<double> out;
  for (std::int64_t j = 0; j < sae.d_sae(); ++j) {
    double f = static_cast<double>(sae.encoder_bias()[static_cast<std::size_t>(j)]);
    for (std::size_t c = 0; c < x.size(); ++c) {
      f += (static_cast<double>(x[c]) - static_cast<double>(sae.bias()[c])) *
           static_cast<double>(sae.encoder().row(j)[c]);
    }
    out.push_back(std::max(f, 0.0));
  }
  return out;
}

TEST(ReluSae, InitialisesAsDescribed) {
  ReluSaeConfig config;
  config.activation_dim = 64;
  config.hidden_dim = 400;
  config.normalize_decoder = false;
  Rng rng(1);
  const ReluSae sae = ReluSae::random(config, rng);
  float largest = 0.0F;
  double sum = 0.0;
  for (std::int64_t j = 0; j < 400; ++j) {
    for (const float v : sae.encoder().row(j)) {
      largest = std::max(largest, std::abs(v));
      sum += static_cast<double>(v);
    }
  }
  EXPECT_LE(largest, 1.0F / 8.0F);  // 1/√64
  EXPECT_GT(largest, 0.999F / 8.0F);
  EXPECT_NEAR(sum / (400 * 64), 0.0, 0.125 / std::sqrt(3.0 * 400 * 64) * 5);
  float decoder_largest = 0.0F;
  for (std::int64_t j = 0; j < 400; ++j) {
    for (const float v : sae.decoder().row(j)) {
      decoder_largest = std::max(decoder_largest, std::abs(v));
    }
  }
  EXPECT_LE(decoder_largest, 1.0F / 20.0F);  // fan_in of D is hidden_dim
  EXPECT_GT(decoder_largest, 0.999F / 20.0F);
  for (const float v : sae.encoder_bias()) EXPECT_EQ(v, 0.0F);
  for (const float v : sae.bias()) EXPECT_EQ(v, 0.0F);

  config.normalize_decoder = true;
  Rng again(1);
  const ReluSae unit = ReluSae::random(config, again);
  for (std::int64_t j = 0; j < 400; ++j) EXPECT_NEAR(norm(unit.decoder().row(j)), 1.0, 1e-6);
  EXPECT_EQ(unit.encoder()(3, 5), sae.encoder()(3, 5));
}

TEST(ReluSae, EncodesAndDecodesByTheFormula) {
  for (const auto& [d, h, n] :
       std::vector<std::tuple<int, int, int>>{{1, 1, 1}, {3, 7, 5}, {17, 33, 20}, {64, 96, 130}}) {
    const ReluSae sae = make_sae(d, h);
    const Tensor x = normal_rows(n, d);
    Tensor f = Tensor::zeros<float>({n, h});
    Tensor xhat = Tensor::zeros<float>({n, d});
    sae.forward(x.mat<float>(), xhat.mutable_mat<float>(), f.mutable_mat<float>());
    std::vector<float> wanted_f;
    std::vector<float> wanted_x;
    for (std::int64_t r = 0; r < n; ++r) {
      const std::vector<double> fr = features_of(sae, x.mat<float>().row(r));
      wanted_f.insert(wanted_f.end(), fr.begin(), fr.end());
      for (std::int64_t c = 0; c < d; ++c) {
        double v = static_cast<double>(sae.bias()[static_cast<std::size_t>(c)]);
        for (std::int64_t j = 0; j < h; ++j) {
          v += fr[static_cast<std::size_t>(j)] * static_cast<double>(sae.decoder()(j, c));
        }
        wanted_x.push_back(static_cast<float>(v));
      }
    }
    EXPECT_LT(relative_error(f.data<float>(), wanted_f), 1e-6) << d << " " << h;
    EXPECT_LT(relative_error(xhat.data<float>(), wanted_x), 1e-6) << d << " " << h;

    // The compressed rows are the same features, ascending, and decode to the same.
    SparseRows rows;
    sae.encode(x.mat<float>(), rows);
    ASSERT_EQ(static_cast<std::int64_t>(rows.row_start.size()), n + 1);
    Tensor dense = Tensor::zeros<float>({n, h});
    for (std::int64_t r = 0; r < n; ++r) {
      for (std::int64_t e = rows.row_start[static_cast<std::size_t>(r)];
           e < rows.row_start[static_cast<std::size_t>(r) + 1]; ++e) {
        const auto i = static_cast<std::size_t>(e);
        EXPECT_GT(rows.value[i], 0.0F);
        if (e > rows.row_start[static_cast<std::size_t>(r)]) {
          EXPECT_LT(rows.latent[i - 1], rows.latent[i]);
        }
        dense.mutable_mat<float>()(r, rows.latent[i]) = rows.value[i];
      }
    }
    EXPECT_TRUE(std::ranges::equal(dense.data<float>(), f.data<float>()));
    Tensor sparse_xhat = Tensor::zeros<float>({n, d});
    sae.decode(rows, sparse_xhat.mutable_mat<float>());
    EXPECT_LT(relative_error(sparse_xhat.data<float>(), wanted_x), 1e-6);
  }
}

TEST(ReluSae, LossIsTheDefinition) {
  // Many active features, few, and none.
  for (const float bias : {0.5F, -1.5F, -100.0F}) {
    const ReluSae sae = make_sae(20, 90, 3, bias);
    const Tensor x = normal_rows(50, 20);
    std::vector<std::int64_t> active(90, 0);
    const SaeLoss loss = sae.loss(x.mat<float>(), &active);
    Tensor f = Tensor::zeros<float>({50, 90});
    Tensor xhat = Tensor::zeros<float>({50, 20});
    sae.forward(x.mat<float>(), xhat.mutable_mat<float>(), f.mutable_mat<float>());
    double mse = 0.0;
    double l1 = 0.0;
    double l0 = 0.0;
    for (std::size_t i = 0; i < 1000; ++i) {
      const double e = static_cast<double>(xhat.data<float>()[i] - x.data<float>()[i]);
      mse += e * e / 1000.0;
    }
    for (const float v : f.data<float>()) {
      l1 += static_cast<double>(v) / 50.0;
      l0 += v > 0.0F ? 1.0 / 50.0 : 0.0;
    }
    EXPECT_NEAR(loss.mse / mse, 1.0, 1e-6);
    EXPECT_NEAR(loss.l1, l1, 1e-6 * l1 + 1e-12);
    EXPECT_NEAR(loss.l0, l0, 1e-9);
    EXPECT_NEAR(loss.loss, loss.mse + 0.01 * loss.l1, 1e-12);
    std::int64_t total = 0;
    for (const std::int64_t n : active) total += n;
    EXPECT_NEAR(static_cast<double>(total) / 50.0, l0, 1e-9);
  }
}

TEST(ReluSae, NormalisesColumnsAndSurvivesZeroOnes) {
  ReluSae sae = make_sae(5, 4);
  for (float& v : sae.decoder().row(2)) v = 0.0F;
  for (float& v : sae.decoder().row(1)) v *= 7.0F;
  sae.normalize_decoder_weights();
  EXPECT_NEAR(norm(sae.decoder().row(1)), 1.0, 1e-6);
  for (const float v : sae.decoder().row(2)) EXPECT_EQ(v, 0.0F);
}

TEST(Resample, GivesDeadNeuronsTheBadlyReconstructedRows) {
  ReluSae sae = make_sae(8, 20);
  for (const std::size_t j : {2U, 9U}) sae.encoder_bias()[j] = -1e4F;
  Tensor x = normal_rows(40, 8);
  // One row whose squared loss dwarfs the others'.
  for (float& v : x.mutable_mat<float>().row(13)) v *= 1000.0F;
  double alive = 0.0;
  for (std::int64_t j = 0; j < 20; ++j) {
    if (j != 2 && j != 9) alive += norm(sae.encoder().row(j)) / 18.0;
  }
  const ReluSae before = sae.clone();
  Rng rng(5);
  const auto dead = sae.resample_dead_neurons(x.mat<float>(), rng);
  EXPECT_EQ(dead, (std::vector<std::int64_t>{2, 9}));
  const auto row = x.mat<float>().row(13);
  for (const std::int64_t j : dead) {
    EXPECT_NEAR(norm(sae.decoder().row(j)), 1.0, 1e-6);
    EXPECT_NEAR(norm(sae.encoder().row(j)), 0.2 * alive, 1e-6);
    EXPECT_NEAR(dot(sae.decoder().row(j), row), norm(row), 1e-3);
    EXPECT_NEAR(dot(sae.encoder().row(j), row) / norm(row), 0.2 * alive, 1e-6);
    EXPECT_EQ(sae.encoder_bias()[static_cast<std::size_t>(j)], 0.0F);
  }
  EXPECT_TRUE(std::ranges::equal(sae.encoder().row(3), before.encoder().row(3)));
  EXPECT_EQ(sae.encoder_bias()[3], before.encoder_bias()[3]);
}

TEST(Resample, DrawsByTheSquareOfTheLoss) {
  // With nothing active x̂ = bias = 0 and the loss of a row is ‖x‖²; two directions, errors 1 and 2:
  // probabilities 1/5 and 4/5.
  ReluSaeConfig config;
  config.activation_dim = 2;
  config.hidden_dim = 5000;
  ReluSae sae(config);
  Tensor x = Tensor::zeros<float>({2, 2});
  x.mutable_mat<float>()(0, 0) = 1.0F;
  x.mutable_mat<float>()(1, 1) = std::sqrt(2.0F);
  Rng rng(1);
  ASSERT_EQ(sae.resample_dead_neurons(x.mat<float>(), rng).size(), 5000U);
  int second = 0;
  for (std::int64_t j = 0; j < 5000; ++j) second += sae.decoder()(j, 1) > 0.5F ? 1 : 0;
  EXPECT_NEAR(second, 4000, 5 * std::sqrt(5000 * 0.16));
  // None alive: their mean norm counts as 0.1.
  EXPECT_NEAR(norm(sae.encoder().row(0)), 0.2 * 0.1, 1e-7);
}

TEST(Resample, TakesAMask) {
  ReluSae sae = make_sae(4, 6);
  const Tensor x = normal_rows(10, 4);
  const std::vector<std::uint8_t> mask = {0, 1, 0, 0, 0, 1};
  Rng rng(1);
  EXPECT_EQ(sae.resample_dead_neurons(x.mat<float>(), rng, {.dead_mask = mask}),
            (std::vector<std::int64_t>{1, 5}));
  EXPECT_THROW(
      sae.resample_dead_neurons(x.mat<float>(), rng, {.dead_mask = std::span(mask).first(3)}),
      Error);
  EXPECT_TRUE(
      sae.resample_dead_neurons(x.mat<float>(), rng, {.dead_mask = std::vector<std::uint8_t>(6, 0)})
          .empty());
}

TEST(ReluSae, RefusesWhatDoesNotFit) {
  const ReluSae sae = make_sae(4, 6);
  const Tensor x = normal_rows(3, 5);
  Tensor f = Tensor::zeros<float>({3, 6});
  SparseRows rows;
  EXPECT_THROW(sae.encode(x.mat<float>(), f.mutable_mat<float>()), Error);
  EXPECT_THROW(sae.encode(x.mat<float>(), rows), Error);
  EXPECT_THROW(sae.loss(x.mat<float>()), Error);
  EXPECT_THROW(sae.loss(MatView<const float>(nullptr, 0, 4)), Error);
  EXPECT_THROW(sae.decoder_direction(6), Error);
  EXPECT_THROW(sae.decoder_direction(-1), Error);
  rows.row_start = {0, 1};
  rows.latent = {6};
  rows.value = {1.0F};
  Tensor out = Tensor::zeros<float>({1, 4});
  EXPECT_THROW(sae.decode(rows, out.mutable_mat<float>()), Error);
  rows.row_start = {0, 2};
  EXPECT_THROW(sae.decode(rows, out.mutable_mat<float>()), Error);
  for (const auto& change : std::vector<std::function<void(ReluSaeConfig&)>>{
           [](ReluSaeConfig& c) { c.activation_dim = 0; },
           [](ReluSaeConfig& c) { c.hidden_dim = -1; },
           [](ReluSaeConfig& c) { c.l1_coefficient = -0.1; },
           [](ReluSaeConfig& c) { c.l1_coefficient = NAN; },
           [](ReluSaeConfig& c) { c.hidden_dim = std::int64_t{1} << 62; }}) {
    ReluSaeConfig config;
    config.activation_dim = 4;
    config.hidden_dim = 4;
    change(config);
    EXPECT_THROW(ReluSae{config}, Error);
  }
}

TEST(ReluSae, EncodesNoRows) {
  const ReluSae sae = make_sae(4, 6);
  SparseRows rows;
  sae.encode(MatView<const float>(nullptr, 0, 4), rows);
  EXPECT_EQ(rows.row_start, (std::vector<std::int64_t>{0}));
}

TEST(RelativeError, SeesWrongValues) {
  const std::vector<float> a = {1, -2, 3};
  EXPECT_EQ(relative_error(a, a), 0.0);
  EXPECT_GT(relative_error(std::vector<float>{1, 2, 3}, a), 0.5);
  EXPECT_GT(relative_error(std::vector<float>{1, -2.001F, 3}, a), 1e-4);
  EXPECT_GT(relative_error(std::vector<float>{1, NAN, 3}, a), 1e9);
  EXPECT_GT(relative_error(std::vector<float>{1, -2}, a), 1e9);
}

}  // namespace
}  // namespace drrik
