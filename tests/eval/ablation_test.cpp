// SCR, TPP and absorption against SAEBench, which works token by token.

#include <gtest/gtest.h>

#include <algorithm>

#include "drrik/base/error.h"
#include "drrik/eval/absorption.h"
#include "drrik/eval/logistic.h"
#include "eval/ablation_scores.h"
#include "eval/fixture.h"

namespace drrik {
namespace {

using testing::Fixture;

// Texts [n, tokens, d] as means over their tokens.
PooledTexts pooled(const Sae& sae, const Tensor& texts) {
  const std::int64_t n = texts.dim(0);
  const std::int64_t tokens = texts.dim(1);
  const std::int64_t d = texts.dim(2);
  PooledTexts out;
  out.activations = Tensor::zeros<float>({n, d});
  out.latents.row_start = {0};
  std::vector<float> dense(static_cast<std::size_t>(tokens * sae.d_sae()));
  for (std::int64_t i = 0; i < n; ++i) {
    out.row_of.push_back(i);
    const MatView<const float> x(texts.data<float>().data() + i * tokens * d, tokens, d);
    const MatView<float> f(dense.data(), tokens, sae.d_sae());
    sae.encode(x, f);
    for (std::int64_t c = 0; c < d; ++c) {
      double sum = 0.0;
      for (std::int64_t t = 0; t < tokens; ++t) sum += static_cast<double>(x(t, c));
      out.activations.mutable_mat<float>()(i, c) =
          static_cast<float>(sum / static_cast<double>(tokens));
    }
    for (std::int64_t j = 0; j < sae.d_sae(); ++j) {
      double sum = 0.0;
      for (std::int64_t t = 0; t < tokens; ++t) sum += static_cast<double>(f(t, j));
      if (sum == 0.0) continue;
      out.latents.latent.push_back(static_cast<std::int32_t>(j));
      out.latents.value.push_back(static_cast<float>(sum / static_cast<double>(tokens)));
    }
    out.latents.row_start.push_back(static_cast<std::int64_t>(out.latents.latent.size()));
  }
  return out;
}

// Accuracies are shares of some ten texts and equal unless a margin lies within rounding of 0;
// SAEBench keeps them in float32.
constexpr double kRounding = 1e-6;

TEST(Tpp, ScoresAreThoseOfSaeBench) {
  const Fixture fixture("ablation");
  const FakeSae sae = fixture.sae();
  detail::TaskSet set;
  set.pooled = pooled(sae, fixture.floats("tpp.texts"));
  // As in the script: 60 texts of each class, the first 40 train; half of the negatives from each
  // other class, the first ones.
  for (std::int64_t c = 0; c < 3; ++c) {
    detail::Task task;
    for (auto [share, begin, size] :
         {std::tuple(&task.train, 0, 40), std::tuple(&task.test, 40, 20)}) {
      for (std::int64_t i = 0; i < size; ++i) share->samples.push_back(60 * c + begin + i);
      for (std::int64_t o = 0; o < 3; ++o) {
        for (std::int64_t i = 0; o != c && i < size / 2; ++i) {
          share->samples.push_back(60 * o + begin + i);
        }
      }
      share->labels.assign(static_cast<std::size_t>(size), 1);
      share->labels.resize(static_cast<std::size_t>(2 * size), 0);
    }
    set.tasks.push_back(std::move(task));
  }
  const auto counts = fixture.integers("counts");
  TppReport report;
  detail::score_tpp(sae, set, counts, report);
  const auto clean = fixture.doubles("tpp.clean");
  for (std::size_t c = 0; c < 3; ++c) {
    EXPECT_NEAR(report.clean_accuracy[c].value, clean[c], kRounding);
  }
  const auto scores = fixture.doubles("tpp.scores");
  ASSERT_EQ(report.rows.size(), counts.size());
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const TppReport::Row& row = report.rows[i];
    EXPECT_NEAR(row.score.value, scores[3 * i], kRounding) << row.n;
    EXPECT_NEAR(row.intended.value, scores[3 * i + 1], kRounding) << row.n;
    EXPECT_NEAR(row.unintended.value, scores[3 * i + 2], kRounding) << row.n;
    EXPECT_LT(row.score.low, row.score.value);
    EXPECT_GT(row.score.high, row.score.value);
  }
  EXPECT_EQ(report.rows.back().fewest_latents, 10);
  // Beyond the latents that speak for a class nothing more is set to 0.
  TppReport all;
  const std::vector<std::int64_t> many = {60};
  detail::score_tpp(sae, set, many, all);
  EXPECT_LT(all.rows[0].fewest_latents, 30);
}

TEST(Scr, ScoresAreThoseOfSaeBench) {
  const Fixture fixture("ablation");
  const FakeSae sae = fixture.sae();
  const PooledTexts texts = pooled(sae, fixture.floats("scr.texts"));
  const auto task = [&](const std::string& name) {
    BinaryTask out{fixture.integers(name), {}};
    out.labels.assign(out.samples.size() / 2, 1);
    out.labels.resize(out.samples.size(), 0);
    return out;
  };
  const auto sets = [&](const std::string& share) {
    return detail::ScrSets{task("scr." + share + ".target"), task("scr." + share + ".spurious"),
                           task("scr." + share + ".biased")};
  };
  const auto counts = fixture.integers("counts");
  ScrReport report;
  detail::score_scr(sae, texts, sets("train"), sets("test"), counts, report);
  const auto accuracies = fixture.doubles("scr.accuracies");
  EXPECT_NEAR(report.target_accuracy.value, accuracies[0], kRounding);
  EXPECT_NEAR(report.spurious_accuracy.value, accuracies[1], kRounding);
  EXPECT_NEAR(report.biased_on_target.value, accuracies[2], kRounding);
  EXPECT_NEAR(report.biased_on_spurious.value, accuracies[3], kRounding);
  EXPECT_TRUE(report.scores_target);
  const auto scores = fixture.doubles("scr.scores");
  ASSERT_EQ(report.rows.size(), counts.size());
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const ScrReport::Row& row = report.rows[i];
    // A quotient by a difference of accuracies down to 0.09.
    EXPECT_NEAR(row.score.value, scores[3 * i], 100 * kRounding) << row.n;
    EXPECT_NEAR(row.keep_target.value, scores[3 * i + 1], 100 * kRounding) << row.n;
    EXPECT_NEAR(row.keep_spurious.value, scores[3 * i + 2], 100 * kRounding) << row.n;
  }
}

TEST(Absorption, OfWordsIsThatOfSaeBench) {
  const Fixture fixture("absorption");
  const FakeSae sae = fixture.sae();
  const Tensor x = fixture.floats("x");
  std::vector<double> direction = fixture.doubles("direction");
  double length = 0.0;
  for (const double w : direction) length += w * w;
  for (double& w : direction) w /= std::sqrt(length);
  const auto products = LatentDirections(sae).products({direction})[0];
  const auto main = fixture.integers("main");
  SparseRows features;
  sae.encode(x.mat<float>(), features);
  const ProbeRows latents(features, sae.d_sae());
  const ProbeRows activations(x.mat<float>());
  const auto full = fixture.labels("full");
  const auto fraction = fixture.doubles("fraction");
  for (std::int64_t i = 0; i < x.dim(0); ++i) {
    std::vector<ActiveLatent> active;
    latents.each(i, [&](std::int64_t j, float value) {
      // Directions of this fixture have norm 1, to float32's rounding.
      const double cosine = products[static_cast<std::size_t>(j)];
      active.push_back({j, static_cast<double>(value) * cosine, cosine,
                        std::ranges::find(main, j) != main.end()});
    });
    const WordAbsorption word = word_absorption(activations.dot(i, direction), active);
    EXPECT_EQ(word.full, full[static_cast<std::size_t>(i)] != 0) << i;
    // SAEBench works in float32: some 1e-6 of quotients up to 1.
    EXPECT_NEAR(word.fraction, fraction[static_cast<std::size_t>(i)], 2e-5) << i;
  }
}

TEST(Absorption, NeedsAMainLatentToBeSilent) {
  const std::vector<ActiveLatent> absorbed = {{7, 0.8, 0.5, false}};
  EXPECT_TRUE(word_absorption(1.0, absorbed).full);
  EXPECT_EQ(word_absorption(1.0, absorbed).fraction, 1.0);
  std::vector<ActiveLatent> fires = absorbed;
  fires.push_back({2, 0.1, 0.4, true});
  EXPECT_FALSE(word_absorption(1.0, fires).full);
  // min(0.8, 1 − 0.1) / (0.8 + 0.1)
  EXPECT_NEAR(word_absorption(1.0, fires).fraction, 0.8 / 0.9, 1e-12);
  EXPECT_FALSE(word_absorption(3.0, absorbed).full);  // too small a share
  EXPECT_FALSE(word_absorption(-1.0, absorbed).full);
  EXPECT_EQ(word_absorption(-1.0, absorbed).fraction, 0.0);
  EXPECT_FALSE(word_absorption(1.0, {}).full);
  EXPECT_EQ(word_absorption(1.0, {{7, 0.8, 0.05, false}}).fraction, 0.0);  // not aligned enough
}

}  // namespace
}  // namespace drrik
