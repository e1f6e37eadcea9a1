// The sparse kernels against plain loops, over shapes around the vector width.

#include "drrik/ops/sae_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/threads.h"
#include "sae/made.h"

namespace drrik {
namespace {

using testing::normal_rows;
using testing::relative_error;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

struct Batch {
  std::int64_t rows, d, h;
  Tensor pre, x, decoder, encoder;  // pre [h, B]
  std::vector<float> bias;

  Batch(std::int64_t rows_in, std::int64_t d_in, std::int64_t h_in, float shift)
      : rows(rows_in),
        d(d_in),
        h(h_in),
        pre(normal_rows(h_in, rows_in, 11)),
        x(normal_rows(rows_in, d_in, 12)),
        decoder(normal_rows(h_in, d_in, 13)),
        encoder(normal_rows(h_in, d_in, 14)) {
    Rng rng(15);
    for (std::int64_t j = 0; j < h; ++j) bias.push_back(shift + 0.3F * rng.normal());
    if (h > 2) bias[1] = -1e9F;  // a latent without entries
  }
  float f(std::int64_t r, std::int64_t j) const {
    return std::max(pre.mat<float>()(j, r) + bias[at(j)], 0.0F);
  }
};

ActiveEntries collect(const Batch& b, std::int64_t chunk) {
  ActiveEntries e;
  e.begin(b.rows, b.h);
  for (std::int64_t first = 0; first < b.h; first += chunk) {
    const std::int64_t n = std::min(chunk, b.h - first);
    sae_collect_active(b.pre.mat<float>().rows_range(first, n),
                       std::span(b.bias).subspan(at(first), at(n)), first, e);
  }
  sae_group_by_row(e);
  return e;
}

class SaeKernels : public ::testing::TestWithParam<std::tuple<int, int, int, float>> {
 protected:
  Batch batch() const {
    const auto& [rows, d, h, shift] = GetParam();
    return {rows, d, h, shift};
  }
};

TEST_P(SaeKernels, CollectEveryActiveEntryInBothOrders) {
  const Batch b = batch();
  for (const std::int64_t chunk : {b.h, std::int64_t{3}}) {
    const ActiveEntries e = collect(b, chunk);
    std::int64_t k = 0;
    for (std::int64_t j = 0; j < b.h; ++j) {
      EXPECT_EQ(e.start[at(j)], k);
      for (std::int64_t r = 0; r < b.rows; ++r) {
        if (b.f(r, j) <= 0.0F) continue;
        ASSERT_LT(k, e.count);
        EXPECT_EQ(e.row[at(k)], r);
        EXPECT_EQ(e.value[at(k)], b.f(r, j));
        ++k;
      }
    }
    EXPECT_EQ(e.count, k);
    std::int64_t i = 0;
    for (std::int64_t r = 0; r < b.rows; ++r) {
      EXPECT_EQ(e.row_start[at(r)], i);
      for (std::int64_t j = 0; j < b.h; ++j) {
        if (b.f(r, j) <= 0.0F) continue;
        EXPECT_EQ(e.latent[at(i)], j);
        EXPECT_EQ(e.value[at(e.position[at(i)])], b.f(r, j));
        EXPECT_EQ(e.row[at(e.position[at(i)])], r);
        ++i;
      }
    }
    EXPECT_EQ(e.row_start[at(b.rows)], i);
  }
}

TEST_P(SaeKernels, CollectRowIsTheSame) {
  const Batch b = batch();
  std::vector<std::int32_t> latent(at(b.h) + 16);
  std::vector<float> value(at(b.h) + 16);
  for (std::int64_t r = 0; r < b.rows; ++r) {
    std::vector<float> pre;
    for (std::int64_t j = 0; j < b.h; ++j) pre.push_back(b.pre.mat<float>()(j, r));
    const std::int64_t n = sae_collect_row(pre, b.bias, latent.data(), value.data());
    std::int64_t k = 0;
    for (std::int64_t j = 0; j < b.h; ++j) {
      if (b.f(r, j) <= 0.0F) continue;
      ASSERT_LT(k, n);
      EXPECT_EQ(latent[at(k)], j);
      EXPECT_EQ(value[at(k++)], b.f(r, j));
    }
    EXPECT_EQ(k, n);
  }
}

TEST_P(SaeKernels, ReluAndMaskAreTheDefinition) {
  const Batch b = batch();
  Tensor f = b.pre.clone();
  std::vector<std::int64_t> counts(at(b.h));
  std::vector<double> sums(at(b.h));
  sae_relu_dense(f.mutable_mat<float>(), b.bias, counts, sums);
  Tensor grad = normal_rows(b.h, b.rows, 20);
  const Tensor raw = grad.clone();
  std::vector<float> grad_sums(at(b.h));
  sae_mask_dense(f.mat<float>(), 0.25F, grad.mutable_mat<float>(), grad_sums);
  for (std::int64_t j = 0; j < b.h; ++j) {
    std::int64_t count = 0;
    double sum = 0.0;
    double grad_sum = 0.0;
    for (std::int64_t r = 0; r < b.rows; ++r) {
      EXPECT_EQ(f.mat<float>()(j, r), b.f(r, j));
      const bool on = b.f(r, j) > 0.0F;
      const float g = on ? raw.mat<float>()(j, r) + 0.25F : 0.0F;
      EXPECT_EQ(grad.mat<float>()(j, r), g);
      count += on ? 1 : 0;
      sum += static_cast<double>(b.f(r, j));
      grad_sum += static_cast<double>(g);
    }
    EXPECT_EQ(counts[at(j)], count);
    EXPECT_NEAR(sums[at(j)], sum, 1e-5 * (sum + 1));
    EXPECT_NEAR(static_cast<double>(grad_sums[at(j)]), grad_sum,
                1e-5 * static_cast<double>(b.rows));
  }
}

// Sums of at most h products of normals: 1e-5 of the norm is some hundred roundings.
TEST_P(SaeKernels, DecodeGivesResidualErrorAndFeatureGradient) {
  const Batch b = batch();
  ActiveEntries e = collect(b, b.h);
  Tensor residual = Tensor::zeros<float>({b.rows, b.d});
  std::vector<double> error(at(b.rows));
  std::vector<double> l1(at(b.rows));
  sae_decode_active(e, b.decoder.mat<float>(), b.x.mat<float>(), 0.5F, 0.125F,
                    residual.mutable_mat<float>(), error, l1);
  std::vector<float> wanted_residual;
  std::vector<float> wanted_grad(at(e.count));
  std::vector<std::int64_t> next(e.start.begin(), e.start.end());
  for (std::int64_t r = 0; r < b.rows; ++r) {
    double squares = 0.0;
    double sum = 0.0;
    std::vector<double> g;
    for (std::int64_t c = 0; c < b.d; ++c) {
      double v = -static_cast<double>(b.x.mat<float>()(r, c));
      for (std::int64_t j = 0; j < b.h; ++j) {
        v += static_cast<double>(b.f(r, j)) * static_cast<double>(b.decoder.mat<float>()(j, c));
      }
      squares += v * v;
      g.push_back(0.5 * v);
      wanted_residual.push_back(static_cast<float>(0.5 * v));
    }
    for (std::int64_t j = 0; j < b.h; ++j) {
      if (b.f(r, j) <= 0.0F) continue;
      double dot = 0.125;
      for (std::int64_t c = 0; c < b.d; ++c) {
        dot += g[at(c)] * static_cast<double>(b.decoder.mat<float>()(j, c));
      }
      wanted_grad[at(next[at(j)]++)] = static_cast<float>(dot);
      sum += static_cast<double>(b.f(r, j));
    }
    EXPECT_NEAR(error[at(r)] / squares, 1.0, 1e-4);
    EXPECT_NEAR(l1[at(r)], sum, 1e-9 * (sum + 1));
  }
  EXPECT_LT(relative_error(residual.data<float>(), wanted_residual), 1e-5);
  EXPECT_LT(relative_error(std::span(e.grad).first(at(e.count)), wanted_grad), 1e-5);

  // Compressed rows decode the same.
  std::vector<float> values;
  for (std::int64_t i = 0; i < e.count; ++i) values.push_back(e.value[at(e.position[at(i)])]);
  Tensor out = Tensor::zeros<float>({b.rows, b.d});
  const std::vector<float> bias(at(b.d), 2.0F);
  sae_decode_rows(e.row_start, std::span(e.latent).first(at(e.count)), values,
                  b.decoder.mat<float>(), bias, out.mutable_mat<float>());
  for (std::int64_t i = 0; i < b.rows * b.d; ++i) {
    const double wanted = 2.0 * static_cast<double>(wanted_residual[at(i)]) +
                          static_cast<double>(b.x.data<float>()[at(i)]) + 2.0;
    EXPECT_NEAR(static_cast<double>(out.data<float>()[at(i)]), wanted,
                1e-5 * (10.0 + std::abs(wanted) + static_cast<double>(b.h)));
  }
}

// Sweep over active entries, sweep over given gradients and a plain Adam in double agree.
TEST_P(SaeKernels, SweepTakesAdamsStepOnUnitColumns) {
  const Batch b = batch();
  ActiveEntries e = collect(b, b.h);
  Tensor gx = normal_rows(b.rows, b.d, 30);
  e.grad.resize(at(std::max<std::int64_t>(e.count, 1)));
  Rng rng(31);
  for (float& v : e.grad) v = rng.normal();

  struct State {
    Tensor encoder, em, ev, decoder, dm, dv, bias, bm, bv;
    SaeSweepState view() {
      return {encoder.mutable_mat<float>(), em.mutable_mat<float>(),  ev.mutable_mat<float>(),
              decoder.mutable_mat<float>(), dm.mutable_mat<float>(),  dv.mutable_mat<float>(),
              bias.mutable_data<float>(),   bm.mutable_data<float>(), bv.mutable_data<float>()};
    }
  };
  const auto positive = [](Tensor t) {
    for (float& v : t.mutable_data<float>()) v *= v;
    return t;
  };
  const auto make = [&] {
    State s{b.encoder.clone(),       normal_rows(b.h, b.d, 41), positive(normal_rows(b.h, b.d, 42)),
            b.decoder.clone(),       normal_rows(b.h, b.d, 43), positive(normal_rows(b.h, b.d, 44)),
            normal_rows(1, b.h, 45), normal_rows(1, b.h, 46),   positive(normal_rows(1, b.h, 47))};
    return s;
  };
  const std::int64_t blocks = (b.h + kSaeSweepBlock - 1) / kSaeSweepBlock;
  for (const bool unit : {true, false}) {
    const SaeSweepOptions options{adam_scalars({.learning_rate = 0.01}, 7), unit};
    State sparse = make();
    Tensor centring = Tensor::zeros<float>({blocks, b.d});
    SaeDeferred deferred(b.h);
    sae_sweep_active({.entries = &e, .xc = b.x.mat<float>(), .gx = gx.mat<float>()}, options,
                     sparse.view(), deferred, centring.mutable_mat<float>());
    sae_settle(unit, sparse.view(), deferred);

    Tensor ge = Tensor::zeros<float>({b.h, b.d});
    Tensor gd = Tensor::zeros<float>({b.h, b.d});
    std::vector<float> gb(at(b.h));
    sae_gradients_active(e, b.x.mat<float>(), gx.mat<float>(), ge.mutable_mat<float>(),
                         gd.mutable_mat<float>(), gb);
    const State start = make();
    std::vector<float> wanted_e, wanted_d, wanted_b, wanted_centring(at(b.d), 0.0F);
    const auto adam = [&](double p, double g, double m, double v) {
      m = 0.9 * m + 0.1 * g;
      v = 0.999 * v + 0.001 * g * g;
      const double rate = 0.01 / (1.0 - std::pow(0.9, 7));
      return p - rate * m / (std::sqrt(v) / std::sqrt(1.0 - std::pow(0.999, 7)) + 1e-8);
    };
    const auto value = [](const Tensor& t, std::int64_t j, std::int64_t c) {
      return static_cast<double>(t.mat<float>()(j, c));
    };
    for (std::int64_t j = 0; j < b.h; ++j) {
      std::vector<double> ej(at(b.d)), dj(at(b.d));
      double parallel = 0.0;
      double bias_grad = 0.0;
      for (std::int64_t k = e.start[at(j)]; k < e.start[at(j + 1)]; ++k) {
        const auto w = static_cast<double>(e.grad[at(k)]);
        bias_grad += w;
        for (std::int64_t c = 0; c < b.d; ++c) {
          ej[at(c)] += w * value(b.x, e.row[at(k)], c);
          dj[at(c)] += static_cast<double>(e.value[at(k)]) * value(gx, e.row[at(k)], c);
        }
      }
      for (std::int64_t c = 0; c < b.d; ++c) {
        parallel += dj[at(c)] * value(start.decoder, j, c);
        wanted_centring[at(c)] += static_cast<float>(bias_grad * value(start.encoder, j, c));
      }
      double norm = 0.0;
      std::vector<double> column;
      for (std::int64_t c = 0; c < b.d; ++c) {
        wanted_e.push_back(static_cast<float>(adam(value(start.encoder, j, c), ej[at(c)],
                                                   value(start.em, j, c), value(start.ev, j, c))));
        const double w = value(start.decoder, j, c);
        const double g = unit ? dj[at(c)] - parallel * w : dj[at(c)];
        column.push_back(adam(w, g, value(start.dm, j, c), value(start.dv, j, c)));
        norm += column.back() * column.back();
      }
      for (const double v : column) {
        wanted_d.push_back(static_cast<float>(unit ? v / std::sqrt(norm) : v));
      }
      wanted_b.push_back(static_cast<float>(
          adam(value(start.bias, 0, j), bias_grad, value(start.bm, 0, j), value(start.bv, 0, j))));
    }
    EXPECT_LT(relative_error(sparse.encoder.data<float>(), wanted_e), 1e-6);
    EXPECT_LT(relative_error(sparse.decoder.data<float>(), wanted_d), 1e-6);
    EXPECT_LT(relative_error(sparse.bias.data<float>(), wanted_b), 1e-6);
    std::vector<float> centred(at(b.d), 0.0F);
    for (std::int64_t k = 0; k < blocks; ++k) {
      for (std::int64_t c = 0; c < b.d; ++c) centred[at(c)] += centring.mat<float>()(k, c);
    }
    EXPECT_LT(relative_error(centred, wanted_centring), 1e-4);

    // The other way round, nothing changes.
    State turned = make();
    SaeDeferred turned_deferred(b.h);
    SaeSweepOptions turned_options = options;
    turned_options.backwards = true;
    sae_sweep_active({.entries = &e, .xc = b.x.mat<float>(), .gx = gx.mat<float>()}, turned_options,
                     turned.view(), turned_deferred, centring.mutable_mat<float>());
    sae_settle(unit, turned.view(), turned_deferred);
    EXPECT_TRUE(std::ranges::equal(turned.encoder.data<float>(), sparse.encoder.data<float>()));
    EXPECT_TRUE(std::ranges::equal(turned.decoder.data<float>(), sparse.decoder.data<float>()));

    // By given gradients: the very same arithmetic, except where a latent has no entries.
    State dense = make();
    Tensor again = Tensor::zeros<float>({blocks, b.d});
    sae_sweep_dense(ge.mutable_mat<float>(), gd.mutable_mat<float>(), gb, 0, {}, options,
                    dense.view(), again.mutable_mat<float>());
    EXPECT_LT(relative_error(dense.encoder.data<float>(), sparse.encoder.data<float>()), 1e-7);
    EXPECT_LT(relative_error(dense.decoder.data<float>(), sparse.decoder.data<float>()), 1e-7);
    EXPECT_LT(relative_error(dense.ev.data<float>(), sparse.ev.data<float>()), 1e-7);
    EXPECT_LT(relative_error(dense.dm.data<float>(), sparse.dm.data<float>()), 1e-7);
  }
}

// Steps put off for any number of sweeps give the bits of steps taken at once.
TEST(SaeDeferredSteps, AreBitEqualToStepsTakenInTime) {
  const std::int64_t h = 70;
  const std::int64_t d = 21;
  const std::int64_t rows = 12;
  struct Weights {
    Tensor t[6];
    std::vector<float> bias[3];
    SaeSweepState view() {
      return {t[0].mutable_mat<float>(),
              t[1].mutable_mat<float>(),
              t[2].mutable_mat<float>(),
              t[3].mutable_mat<float>(),
              t[4].mutable_mat<float>(),
              t[5].mutable_mat<float>(),
              bias[0],
              bias[1],
              bias[2]};
    }
  };
  const auto make = [&] {
    Weights w;
    for (std::uint64_t i = 0; i < 6; ++i) {
      w.t[i] = normal_rows(h, d, 50 + i);
      if (i % 3 == 2) {
        for (float& v : w.t[i].mutable_data<float>()) v *= v;
      }
    }
    for (auto& b : w.bias) b.assign(at(h), 0.5F);
    return w;
  };
  for (const bool unit : {true, false}) {
    Weights lazy = make();
    Weights eager = make();
    SaeDeferred lazy_deferred(h);
    SaeDeferred eager_deferred(h);
    for (int step = 1; step <= 150; ++step) {
      // A quarter of the latents at a time; some not at all, some after more steps than may wait.
      Tensor pre = normal_rows(h, rows, 60 + static_cast<std::uint64_t>(step));
      std::vector<float> bias;
      for (std::int64_t j = 0; j < h; ++j) {
        const bool on = j % 7 == step % 7 || (j == 3 && step % 70 == 0);
        bias.push_back(on && j % 5 != 4 ? 0.0F : -1e9F);
      }
      ActiveEntries e;
      e.begin(rows, h);
      sae_collect_active(pre.mat<float>(), bias, 0, e);
      sae_group_by_row(e);
      for (std::size_t i = 0; i < e.grad.size(); ++i) e.grad[i] = 0.01F * e.value[i];
      const Tensor x = normal_rows(rows, d, 70 + static_cast<std::uint64_t>(step));
      const SaeSweepOptions options{adam_scalars({.learning_rate = 0.01}, step), unit};
      sae_catch_up(e, {}, unit, lazy.view(), lazy_deferred);
      for (std::int64_t j = 0; j < h; ++j) {
        if (e.start[at(j)] == e.start[at(j + 1)]) continue;
        ASSERT_TRUE(
            std::ranges::equal(lazy.t[3].mat<float>().row(j), eager.t[3].mat<float>().row(j)))
            << "latent " << j << " is behind when it is wanted, step " << step;
      }
      sae_sweep_active({.entries = &e, .xc = x.mat<float>(), .gx = x.mat<float>()}, options,
                       lazy.view(), lazy_deferred, {});
      sae_sweep_active({.entries = &e, .xc = x.mat<float>(), .gx = x.mat<float>()}, options,
                       eager.view(), eager_deferred, {});
      sae_settle(unit, eager.view(), eager_deferred);
      ASSERT_TRUE(std::ranges::equal(lazy.t[0].data<float>(), eager.t[0].data<float>())) << step;
    }
    sae_settle(unit, lazy.view(), lazy_deferred);
    for (int i = 0; i < 6; ++i) {
      EXPECT_TRUE(std::ranges::equal(lazy.t[i].data<float>(), eager.t[i].data<float>())) << i;
    }
    for (int i = 0; i < 3; ++i) EXPECT_EQ(lazy.bias[i], eager.bias[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, SaeKernels,
    ::testing::Values(std::tuple{1, 1, 1, 0.0F}, std::tuple{5, 7, 9, 0.0F},
                      std::tuple{16, 16, 65, -0.5F}, std::tuple{17, 31, 64, 0.5F},
                      std::tuple{33, 129, 130, -1.5F}, std::tuple{64, 263, 20, -3.0F},
                      std::tuple{40, 48, 33, -50.0F}, std::tuple{19, 40, 33, 50.0F}));

TEST(SaeKernelsChecks, RefuseShapesThatDoNotFit) {
  const Batch b(5, 6, 7, 0.0F);
  ActiveEntries e = collect(b, 7);
  Tensor residual = Tensor::zeros<float>({4, 6});
  std::vector<double> sums(5);
  EXPECT_THROW(sae_decode_active(e, b.decoder.mat<float>(), b.x.mat<float>(), 1, 0,
                                 residual.mutable_mat<float>(), sums, sums),
               Error);
  EXPECT_THROW(sae_collect_active(b.pre.mat<float>(), std::span(b.bias).first(3), 0, e), Error);
  EXPECT_THROW(e.begin(std::int64_t{1} << 32, 4), Error);
}

}  // namespace
}  // namespace drrik
