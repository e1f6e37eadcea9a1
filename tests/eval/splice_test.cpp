#include "drrik/eval/splice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "drrik/base/error.h"
#include "drrik/base/rng.h"
#include "drrik/model/random_model.h"
#include "drrik/ops/softmax.h"
#include "eval/fake_sae.h"

namespace drrik {
namespace {

ModelConfig tiny() {
  ModelConfig config = bench_llama_config();
  config.vocab_size = 50;
  config.d_model = 32;
  config.n_layers = 2;
  config.n_heads = 4;
  config.n_kv_heads = 4;
  config.head_dim = 8;
  config.rope.dim = 8;
  config.d_mlp = 48;
  config.max_positions = 64;
  return config;
}

std::vector<std::vector<std::int32_t>> texts() {
  Rng rng(3);
  std::vector<std::vector<std::int32_t>> all;
  for (int s = 0; s < 3; ++s) {
    std::vector<std::int32_t> ids(12);
    for (auto& id : ids) id = static_cast<std::int32_t>(rng.below(50));
    all.push_back(ids);
  }
  all.push_back({7});  // too short to predict anything: left out
  return all;
}

TEST(Splice, PerfectReconstructionRecoversEverything) {
  const Model model = make_random_model(tiny(), 1);
  const SpliceReport report =
      evaluate_splice(model, identity_sae(32), {HookPoint::kMlpOut, 1}, texts());
  EXPECT_EQ(report.sequences, 3);
  EXPECT_EQ(report.predictions, 33);
  // Without a hook the MLP's output is summed into the residual stream as it is made, with one it
  // is added afterwards: 48 terms in another order, 48 · 2^-24 ~ 3e-6 of logits of order 1.
  constexpr double kRounding = 1e-5;
  EXPECT_NEAR(report.ce_spliced, report.ce_clean, kRounding);
  EXPECT_NEAR(report.kl_spliced, 0.0, kRounding);
  const double spread = std::abs(report.ce_zero - report.ce_clean);
  EXPECT_NEAR(report.ce_recovered, 1.0, kRounding / spread);
  EXPECT_GT(report.kl_zero, 0.0);
  EXPECT_NE(report.ce_zero, report.ce_mean);
}

TEST(Splice, AnAutoencoderThatGivesZeroRecoversNothing) {
  const Model model = make_random_model(tiny(), 1);
  const FakeSae nothing(32, 4, std::vector<float>(32 * 4));
  const SpliceReport report = evaluate_splice(model, nothing, {HookPoint::kMlpOut, 0}, texts());
  EXPECT_EQ(report.ce_spliced, report.ce_zero);
  EXPECT_EQ(report.kl_spliced, report.kl_zero);
  EXPECT_EQ(report.ce_recovered, 0.0);
}

TEST(Splice, ScoresKlAndGivesIntervals) {
  const Model model = make_random_model(tiny(), 1);
  const SpliceReport half =
      evaluate_splice(model, identity_sae(32, 0.5F), {HookPoint::kMlpOut, 1}, texts());
  EXPECT_GT(half.kl_mean, 0.0);
  EXPECT_NEAR(half.kl_score, (half.kl_zero - half.kl_spliced) / half.kl_zero, 1e-12);
  EXPECT_NEAR(half.kl_score_mean, (half.kl_mean - half.kl_spliced) / half.kl_mean, 1e-12);
  EXPECT_GT(half.kl_score, 0.0);
  EXPECT_LT(half.kl_score, 1.0);
  EXPECT_LT(half.kl_score_interval.low, half.kl_score);
  EXPECT_GT(half.ce_clean_interval.high, half.ce_clean);
  EXPECT_NE(half.token_policy.find("every position"), std::string::npos);
  // One text has no interval.
  const SpliceReport one =
      evaluate_splice(model, identity_sae(32, 0.5F), {HookPoint::kMlpOut, 1}, {texts().front()});
  EXPECT_TRUE(std::isnan(one.ce_recovered_interval.low));
}

TEST(Splice, LeavesPositionsAlone) {
  const Model model = make_random_model(tiny(), 1);
  const Hook hook{HookPoint::kMlpOut, 0};
  const FakeSae nothing(32, 4, std::vector<float>(32 * 4));
  auto with_bos = texts();
  for (auto& ids : with_bos) ids.insert(ids.begin(), 3);
  for (auto& ids : with_bos) std::replace(ids.begin() + 1, ids.end(), 3, 4);
  const auto is_bos = [](std::int32_t id) { return id == 3; };
  const SpliceReport report = evaluate_splice(model, nothing, hook, with_bos, {{}, is_bos});
  EXPECT_EQ(report.sequences, 3);  // {3, 7} has no prediction but from the BOS
  EXPECT_EQ(report.left_alone, 3);
  EXPECT_EQ(report.predictions, 33);
  EXPECT_EQ(report.ce_spliced, report.ce_zero);
  EXPECT_NE(report.token_policy.find("left as they are"), std::string::npos);
  // By hand: zeros everywhere but at the first position of the first text.
  TokenBatch batch;
  batch.append(with_bos[0]);
  ForwardOptions options;
  options.logits = ForwardOptions::Logits::kAll;
  options.hooks = {hook};
  options.on_hook = [](const Hook&, MatView<float> rows) {
    for (std::int64_t r = 1; r < rows.rows(); ++r) std::ranges::fill(rows.row(r), 0.0F);
  };
  Tensor log_p = model.forward(batch, options);
  log_softmax(log_p.mat<float>(), log_p.mutable_mat<float>());
  double sum = 0.0;
  for (std::int64_t t = 1; t + 1 < batch.rows(); ++t) {
    sum -= static_cast<double>(log_p.mat<float>()(t, with_bos[0][static_cast<std::size_t>(t) + 1]));
  }
  const SpliceReport first = evaluate_splice(model, nothing, hook, {with_bos[0]}, {{}, is_bos});
  EXPECT_NEAR(first.ce_zero, sum / static_cast<double>(batch.rows() - 2), 1e-9);
  EXPECT_THROW(
      evaluate_splice(model, nothing, hook, texts(), {{}, [](std::int32_t) { return true; }}),
      Error);
}

TEST(Splice, ATranscodersOutputGoesToItsOwnHook) {
  const Model model = make_random_model(tiny(), 1);
  // Of zeros: the output hook at zero, whatever the input was.
  const FakeSae nothing(32, 4, std::vector<float>(32 * 4));
  const Hook input{HookPoint::kMlpIn, 1};
  const Hook output{HookPoint::kMlpOut, 1};
  const SpliceReport report = evaluate_splice(model, nothing, input, texts(), {output, {}});
  const SpliceReport at_output = evaluate_splice(model, nothing, output, texts());
  EXPECT_EQ(report.ce_spliced, at_output.ce_zero);
  EXPECT_EQ(report.ce_zero, at_output.ce_zero);
  EXPECT_EQ(report.ce_mean, at_output.ce_mean);
  // The identity puts the MLP's input where its output was.
  const SpliceReport moved = evaluate_splice(model, identity_sae(32), input, texts(), {output, {}});
  EXPECT_NE(moved.ce_spliced, at_output.ce_zero);
  EXPECT_THROW(evaluate_splice(model, nothing, output, texts(), {input, {}}), Error);
  EXPECT_THROW(evaluate_splice(model, nothing, input, texts(), {Hook{HookPoint::kMlpPost, 1}, {}}),
               Error);
}

TEST(Splice, RefusesAWidthOrLayerThatDoesNotFit) {
  const Model model = make_random_model(tiny(), 1);
  EXPECT_THROW(evaluate_splice(model, identity_sae(31), {HookPoint::kMlpOut, 0}, texts()), Error);
  EXPECT_THROW(evaluate_splice(model, identity_sae(32), {HookPoint::kMlpOut, 2}, texts()), Error);
  EXPECT_THROW(evaluate_splice(model, identity_sae(32), {HookPoint::kMlpOut, 0}, {{1}}), Error);
}

TEST(Splice, IsRefusedForAnEncoder) {
  ModelConfig encoder = tiny();
  encoder.causal = false;
  const Model model = make_random_model(encoder, 1);
  try {
    evaluate_splice(model, identity_sae(32), {HookPoint::kMlpOut, 1}, texts());
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_NE(std::string(error.what()).find("predicts no next token"), std::string::npos);
  }
}

TEST(Splice, SaysWhichLogitsAreNoNumbers) {
  const auto message = [](const Model& model, const Sae& sae) -> std::string {
    try {
      evaluate_splice(model, sae, {HookPoint::kMlpOut, 0}, texts());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kNumeric) << error.what();
      return error.what();
    }
    return "no error";
  };
  ModelConfig broken = tiny();
  broken.rope.cos_sin_scale = 1e38;  // queries times keys are infinite
  const std::string clean = message(make_random_model(broken, 1), identity_sae(32));
  EXPECT_NE(clean.find("the model's own logits"), std::string::npos) << clean;
  EXPECT_NE(clean.find("of text 0"), std::string::npos) << clean;
  const std::string spliced = message(make_random_model(tiny(), 1),
                                      FakeSae(32, 4, std::vector<float>(32 * 4, 1.0F), INFINITY));
  EXPECT_NE(spliced.find("logits with the reconstruction"), std::string::npos) << spliced;
}

}  // namespace
}  // namespace drrik
