#include "drrik/eval/splice.h"

#include <gtest/gtest.h>

#include <cmath>

#include "drrik/base/error.h"
#include "drrik/base/rng.h"
#include "drrik/model/random_model.h"
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
