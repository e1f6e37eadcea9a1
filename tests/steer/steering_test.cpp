#include "drrik/steer/steering.h"

#include <algorithm>
#include <cmath>
#include <regex>
#include <set>

#include "activations/fixture.h"
#include "drrik/model/kv_cache.h"
#include "eval/fake_sae.h"

namespace drrik {
namespace {

using test::Scratch;
using test::text_of;

constexpr std::int64_t kFeatures = 6;

std::shared_ptr<const Sae> random_sae(std::int64_t d, std::int64_t h) {
  Rng rng(17);
  std::vector<float> w(static_cast<std::size_t>(d * h));
  for (float& value : w) value = rng.normal();
  return std::make_shared<const FakeSae>(d, h, std::move(w));
}

struct Subject {
  std::shared_ptr<const Model> model;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const Sae> sae;
  SaeSteering steering;
};

Subject subject(Hook hook = {HookPoint::kMlpOut, 1}, bool bos = true) {
  ModelConfig config = test::tiny_config();
  config.eos_ids = {};
  auto model = std::make_shared<const Model>(make_random_model(config, 3));
  auto tokenizer = std::make_shared<const Tokenizer>(
      Tokenizer::from_json(test::tokenizer_json(config.vocab_size, bos)));
  auto sae = random_sae(model->hook_width(hook.point), kFeatures);
  return {model, tokenizer, sae, SaeSteering(sae, model, tokenizer, hook)};
}

const std::vector<std::int32_t> kPromptIds = {9, 4, 30, 12};
const std::string kPrompt = text_of(kPromptIds);

SteeredGeneration greedy(std::int64_t tokens = 20) {
  SteeredGeneration options;
  options.temperature = 0.0;
  options.max_new_tokens = tokens;
  return options;
}

// Greedy continuation by full forward passes without a cache, adding `vector` by hand at the hook.
std::vector<std::int32_t> by_hand(const Model& model, std::vector<std::int32_t> ids,
                                  const Hook& hook, const std::vector<double>& vector,
                                  std::int64_t tokens) {
  std::vector<std::int32_t> out;
  for (std::int64_t i = 0; i < tokens; ++i) {
    TokenBatch batch;
    batch.append(ids);
    ForwardOptions forward;
    forward.logits = ForwardOptions::Logits::kLast;
    forward.hooks = {hook};
    forward.on_hook = [&](const Hook&, MatView<float> activations) {
      for (std::int64_t r = 0; r < activations.rows(); ++r) {
        for (std::size_t c = 0; c < vector.size(); ++c) {
          float& value = activations(r, static_cast<std::int64_t>(c));
          value = static_cast<float>(static_cast<double>(value) + vector[c]);
        }
      }
    };
    const Tensor logits = model.forward(batch, forward);
    const auto row = logits.data<float>();
    out.push_back(
        static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin()));
    ids.push_back(out.back());
  }
  return out;
}

std::vector<double> scaled(const Sae& sae, std::int64_t feature, double strength) {
  std::vector<double> out;
  for (const float value : sae.decoder_direction(feature)) {
    out.push_back(strength * static_cast<double>(value));
  }
  return out;
}

TEST(SaeSteering, AddsTheColumnAtEveryPositionOfEveryPass) {
  for (const Hook hook : {Hook{HookPoint::kMlpOut, 1}, Hook{HookPoint::kResidPost, 0},
                          Hook{HookPoint::kMlpPost, 2}}) {
    const Subject s = subject(hook);
    std::set<std::vector<std::int32_t>> seen;
    for (const double strength : {0.0, 0.5, 3.0, -4.0}) {
      SteeredGeneration options = greedy();
      options.feature_idx = 2;
      options.strength = strength;
      const SteeredText got = s.steering.generate(kPrompt, options);
      const auto want = by_hand(*s.model, got.prompt_ids, hook, scaled(*s.sae, 2, strength), 20);
      EXPECT_EQ(got.generated.ids, want) << hook_name(hook.point) << " " << strength;
      seen.insert(got.generated.ids);
    }
    EXPECT_GT(seen.size(), 1U) << "no strength changed anything: the test would prove nothing";
  }
}

TEST(SaeSteering, StrengthZeroIsPlainGeneration) {
  const Subject s = subject();
  SteeredGeneration options;
  options.seed = 7;
  const SteeredText plain = s.steering.generate(kPrompt, options);
  options.feature_idx = 3;
  options.strength = 0.0;
  EXPECT_EQ(s.steering.generate(kPrompt, options).text, plain.text);
  options.strength = 6.0;
  EXPECT_NE(s.steering.generate(kPrompt, options).text, plain.text);
  EXPECT_EQ(s.steering.generate(kPrompt, options).text, s.steering.generate(kPrompt, options).text);
  SamplingOptions sampling;
  sampling.temperature = 0.8;
  sampling.top_p = 0.9;
  sampling.seed = 7;
  EXPECT_EQ(plain.generated.ids, generate(*s.model, plain.prompt_ids, sampling).ids);
}

TEST(SaeSteering, SeveralFeaturesAddUp) {
  const Subject s = subject();
  SteeredGeneration options = greedy();
  options.feature_indices = {1, 4};
  options.strengths = {2.5, -1.5};
  const SteeredText got = s.steering.generate(kPrompt, options);
  std::vector<double> sum = scaled(*s.sae, 1, 2.5);
  const std::vector<double> second = scaled(*s.sae, 4, -1.5);
  for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += second[c];
  EXPECT_EQ(got.generated.ids, by_hand(*s.model, got.prompt_ids, s.steering.hook(), sum, 20));
  // Without strengths all are 1; the same feature with opposite signs is no steering.
  options.strengths.clear();
  const SteeredText ones = s.steering.generate(kPrompt, options);
  options.strengths = {1.0, 1.0};
  EXPECT_EQ(s.steering.generate(kPrompt, options).text, ones.text);
  options.feature_indices = {2, 2};
  options.strengths = {1.0, -1.0};
  EXPECT_EQ(s.steering.generate(kPrompt, options).text,
            s.steering.generate(kPrompt, greedy()).text);
}

TEST(SaeSteering, GivesTextInPiecesAndWhole) {
  const Subject s = subject();
  std::string pieces;
  SteeredGeneration options = greedy(15);
  options.feature_idx = 0;
  options.on_text = [&](std::string_view piece) { pieces += piece; };
  const SteeredText got = s.steering.generate(kPrompt, options);
  EXPECT_EQ(pieces, got.continuation);
  EXPECT_EQ(got.text, kPrompt + got.continuation);
  EXPECT_EQ(got.prompt_ids.front(), 1);  // BOS, which no text shows.
  std::vector<std::int32_t> shown;
  for (const std::int32_t id : got.generated.ids) {
    if (!s.tokenizer->is_special(id)) shown.push_back(id);
  }
  EXPECT_EQ(got.continuation, text_of(shown));
}

TEST(SaeSteering, StopsAtTheLastPosition) {
  const Subject s = subject();
  const SteeredText got = s.steering.generate(kPrompt, greedy(1000));
  EXPECT_EQ(got.generated.finish, FinishReason::kMaxPositions);
  EXPECT_EQ(got.prompt_ids.size() + got.generated.ids.size(),
            static_cast<std::size_t>(s.model->config().max_positions));
}

TEST(SaeSteering, RefusesImpossibleRequests) {
  const Subject s = subject();
  const auto with = [&](const std::function<void(SteeredGeneration&)>& change) {
    SteeredGeneration options = greedy();
    change(options);
    s.steering.generate(kPrompt, options);
  };
  EXPECT_ERROR(with([](auto& o) { o.feature_idx = kFeatures; }), kUsage, "feature 6");
  EXPECT_ERROR(with([](auto& o) { o.feature_idx = -1; }), kUsage, "0 to 5");
  EXPECT_ERROR(with([](auto& o) { o.feature_indices = {0, 99}; }), kUsage, "feature 99");
  EXPECT_ERROR(with([](auto& o) {
                 o.feature_indices = {0, 1};
                 o.strengths = {1.0};
               }),
               kUsage, "2 features, but 1 strengths");
  EXPECT_ERROR(with([](auto& o) { o.strengths = {1.0}; }), kUsage, "no feature");
  EXPECT_ERROR(with([](auto& o) {
                 o.feature_idx = 0;
                 o.feature_indices = {1};
               }),
               kUsage, "not both");
  EXPECT_ERROR(with([](auto& o) {
                 o.feature_idx = 0;
                 o.strength = std::nan("");
               }),
               kUsage, "no number");
  EXPECT_ERROR(with([](auto& o) { o.temperature = -1.0; }), kUsage, "temperature");
  EXPECT_ERROR(with([](auto& o) { o.top_p = 0.0; }), kUsage, "top_p");
  const Subject no_bos = subject({HookPoint::kMlpOut, 1}, /*bos=*/false);
  EXPECT_ERROR(no_bos.steering.generate(""), kUsage, "no tokens");
  EXPECT_ERROR(s.steering.generate(text_of(std::vector<std::int32_t>(100, 3))), kData, "101");
  EXPECT_ERROR(s.steering.compare_steering(kPrompt, 77, {0.0}), kUsage, "feature 77");
  EXPECT_ERROR(s.steering.compare_steering(kPrompt, 0, {}), kUsage, "no strengths");
}

TEST(SaeSteering, RefusesLayersAndWidthsThatDoNotFit) {
  const Subject s = subject();
  const auto make = [&](std::shared_ptr<const Sae> sae, const Hook& hook) {
    const SaeSteering steering(std::move(sae), s.model, s.tokenizer, hook);
  };
  EXPECT_ERROR(make(s.sae, {HookPoint::kMlpOut, 3}), kUsage, "3");
  EXPECT_ERROR(make(s.sae, {HookPoint::kMlpOut, -1}), kUsage, "-1");
  EXPECT_ERROR(make(random_sae(17, 4), {HookPoint::kMlpOut, 1}), kUsage, "17");
  EXPECT_ERROR(make(s.sae, {HookPoint::kMlpPost, 1}), kUsage, "24");
  EXPECT_ERROR(make(nullptr, {HookPoint::kMlpOut, 1}), kUsage, "autoencoder");
  const auto load = [&](const std::function<void(SteeringOptions&)>& change) {
    SteeringOptions options;
    options.model_name = "no/such/model";
    change(options);
    const SaeSteering steering(s.sae, options);
  };
  EXPECT_EQ(test::error_of([&] { load([](auto&) {}); }).first, ErrorKind::kIo);
  EXPECT_ERROR(load([](auto& o) { o.model_name = ""; }), kUsage, "model_name");
  EXPECT_ERROR(load([](auto& o) { o.device_map = "cuda"; }), kUsage, "cuda");
  EXPECT_ERROR(load([](auto& o) { o.torch_dtype = DType::kI8; }), kUsage, "int8");
}

TEST(SaeSteering, LoadsAModelFolder) {
  const Scratch scratch;
  std::filesystem::copy(std::filesystem::path(DRRIK_TEST_DATA) / "model" / "gpt2-plain",
                        scratch / "model");
  write_file_atomic(scratch / "model" / "tokenizer.json", test::tokenizer_json(61));
  SteeringOptions options;
  options.model_name = (scratch / "model").string();
  options.layer = 1;
  const SaeSteering steering(random_sae(24, kFeatures), options);
  SteeredGeneration one = greedy(5);
  one.feature_idx = 1;
  const SteeredText got = steering.generate(kPrompt, one);
  std::vector<std::int32_t> want =
      by_hand(steering.model(), got.prompt_ids, steering.hook(), scaled(steering.sae(), 1, 1.0), 5);
  const auto end = std::find(want.begin(), want.end(), 0);  // gpt2-plain's eos
  want.erase(end, want.end());
  EXPECT_EQ(got.generated.ids, want);
}

TEST(CompareSteering, LabelsInTheOrderAskedFor) {
  const Subject s = subject();
  const SteeringResults results =
      s.steering.compare_steering(kPrompt, 2, {0.0, 1.0, 2.5, 1.0, -3.0}, greedy(8));
  std::vector<std::string> labels;
  for (const auto& [label, text] : results) labels.push_back(label);
  EXPECT_EQ(labels, (std::vector<std::string>{"baseline", "strength_1.0", "strength_2.5",
                                              "strength_-3.0"}));
  EXPECT_EQ(results[0].second, s.steering.generate(kPrompt, greedy(8)).text);
  SteeredGeneration one = greedy(8);
  one.feature_idx = 2;
  one.strength = 2.5;
  EXPECT_EQ(results[2].second, s.steering.generate(kPrompt, one).text);
  EXPECT_EQ(s.steering.compare_steering(kPrompt, 2).size(), 5U);
}

TEST(StrengthLabel, WritesFloatsAsPythonDoes) {
  EXPECT_EQ(strength_label(0.0), "baseline");
  EXPECT_EQ(strength_label(-0.0), "baseline");
  EXPECT_EQ(strength_label(1.0), "strength_1.0");
  EXPECT_EQ(strength_label(-10.0), "strength_-10.0");
  EXPECT_EQ(strength_label(0.1), "strength_0.1");
  EXPECT_EQ(strength_label(1e20), "strength_1e+20");
  EXPECT_EQ(strength_label(0.00001), "strength_1e-05");
}

// Mean features of the text's own activations, each number by hand.
TEST(FindSteeringFeatures, RanksByMeanActivation) {
  const Subject s = subject();
  const std::vector<std::int32_t> ids = s.tokenizer->encode(kPrompt);
  std::vector<std::vector<double>> rows;
  TokenBatch batch;
  batch.append(ids);
  ForwardOptions forward;
  forward.hooks = {s.steering.hook()};
  forward.on_hook = [&](const Hook&, MatView<float> activations) {
    for (std::int64_t r = 0; r < activations.rows(); ++r) {
      const auto row = activations.row(r);
      rows.emplace_back(row.begin(), row.end());
    }
  };
  s.model->forward(batch, forward);
  ASSERT_EQ(rows.size(), 5U);
  const auto check = [&](const std::vector<SteeringFeature>& got, std::size_t first) {
    std::vector<double> mean(kFeatures, 0.0);
    for (std::int64_t f = 0; f < kFeatures; ++f) {
      const auto column = scaled(*s.sae, f, 1.0);
      for (std::size_t r = first; r < rows.size(); ++r) {
        double sum = 0.0;
        for (std::size_t c = 0; c < column.size(); ++c) sum += rows[r][c] * column[c];
        mean[static_cast<std::size_t>(f)] +=
            std::max(sum, 0.0) / static_cast<double>(rows.size() - first);
      }
    }
    ASSERT_FALSE(got.empty());
    double before = std::numeric_limits<double>::infinity();
    std::set<std::int64_t> listed;
    for (const SteeringFeature& feature : got) {
      const double want = mean[static_cast<std::size_t>(feature.feature_idx)];
      // Sums of 16 products in float32.
      EXPECT_NEAR(feature.activation, want, 1e-5 * std::max(1.0, want));
      EXPECT_LE(feature.activation, before);
      before = feature.activation;
      double norm = 0.0;
      for (const double w : scaled(*s.sae, feature.feature_idx, 1.0)) norm += w * w;
      EXPECT_NEAR(feature.decoder_weight_norm, std::sqrt(norm), 1e-6 * std::sqrt(norm));
      EXPECT_NEAR(feature.normalized_activation, feature.activation / std::sqrt(norm), 1e-6);
      listed.insert(feature.feature_idx);
    }
    for (std::int64_t f = 0; f < kFeatures; ++f) {
      EXPECT_EQ(listed.contains(f), mean[static_cast<std::size_t>(f)] > 0.0) << f;
    }
  };
  const auto all = s.steering.find_steering_features(kPrompt);
  check(all, 0);
  FindFeaturesOptions options;
  options.include_special_tokens = false;
  check(s.steering.find_steering_features(kPrompt, options), 1);
  options = {};
  options.top_k = 2;
  const auto two = s.steering.find_steering_features(kPrompt, options);
  ASSERT_EQ(two.size(), 2U);
  EXPECT_EQ(two[1].feature_idx, all[1].feature_idx);
  options.top_k = 20;
  options.min_activation = all[1].activation;
  EXPECT_EQ(s.steering.find_steering_features(kPrompt, options).size(), 1U);
}

TEST(FindSteeringFeatures, TakesActivationsThatAreGiven) {
  const Subject s = subject();
  const std::int64_t d = s.sae->d_in();
  // Feature 5's own direction: its activation is the squared norm.
  std::vector<float> rows;
  const std::vector<float> column = s.sae->decoder_direction(5);
  for (int r = 0; r < 600; ++r) {  // More than one block.
    for (const float value : column) rows.push_back(r % 2 == 0 ? value : 0.0F);
  }
  FindFeaturesOptions options;
  options.activations = {rows.data(), 600, d};
  const auto got = s.steering.find_steering_features("", options);
  const auto five = std::find_if(got.begin(), got.end(),
                                 [](const SteeringFeature& f) { return f.feature_idx == 5; });
  ASSERT_NE(five, got.end());
  EXPECT_NEAR(five->activation, five->decoder_weight_norm * five->decoder_weight_norm / 2, 1e-4);
  options.activations = {rows.data(), 600, d - 1};
  EXPECT_ERROR(s.steering.find_steering_features("", options), kData, "width");
  rows[3] = std::nanf("");
  options.activations = {rows.data(), 600, d};
  EXPECT_ERROR(s.steering.find_steering_features("", options), kNumeric, "NaN");
  options.activations = {};
  options.top_k = 0;
  EXPECT_ERROR(s.steering.find_steering_features(kPrompt, options), kUsage, "top_k");
  EXPECT_ERROR(s.steering.find_steering_features(text_of(std::vector<std::int32_t>(90, 3))), kData,
               "91 tokens");
}

TEST(SteeringDirection, IsTheColumnOrItsDirection) {
  const Subject s = subject();
  const std::vector<float> raw = s.steering.get_steering_direction(4, false);
  EXPECT_EQ(raw, s.sae->decoder_direction(4));
  const std::vector<float> unit = s.steering.get_steering_direction(4);
  double norm = 0.0;
  double along = 0.0;
  double length = 0.0;
  for (std::size_t c = 0; c < raw.size(); ++c) {
    norm += static_cast<double>(unit[c]) * static_cast<double>(unit[c]);
    along += static_cast<double>(unit[c]) * static_cast<double>(raw[c]);
    length += static_cast<double>(raw[c]) * static_cast<double>(raw[c]);
  }
  EXPECT_NEAR(norm, 1.0, 1e-6);
  EXPECT_NEAR(along, std::sqrt(length), 1e-5);
  EXPECT_ERROR(s.steering.get_steering_direction(kFeatures), kUsage, "feature 6");
  const auto zero = std::make_shared<const FakeSae>(16, 2, std::vector<float>(32, 0.0F));
  const SaeSteering steering(zero, s.model, s.tokenizer, s.steering.hook());
  EXPECT_EQ(steering.get_steering_direction(0), std::vector<float>(16, 0.0F));
}

TEST(SteeringAnalysis, WritesPromptAndEveryText) {
  const Scratch scratch;
  const SteeringResults results = {{"baseline", "once upon"}, {"strength_2.0", "twice\nover é"}};
  const auto path = save_steering_analysis(results, scratch / "a/b", "The prompt", "sea / shore é");
  EXPECT_EQ(path.parent_path(), scratch / "a/b");
  EXPECT_TRUE(std::regex_match(
      path.filename().string(),
      std::regex("steering_analysis_sea___shore____[0-9]{8}_[0-9]{6}(_[0-9]+)?\\.txt")))
      << path;
  const std::string text = read_file(path);
  for (const char* part :
       {"The prompt", "sea / shore é", "baseline", "once upon", "strength_2.0", "twice\nover é"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part;
  }
  const auto plain = save_steering_analysis(results, scratch / "a", "p");
  EXPECT_TRUE(std::regex_match(plain.filename().string(),
                               std::regex("steering_analysis_[0-9]{8}_[0-9]{6}\\.txt")))
      << plain;
  // Within one second names collide; nothing is overwritten.
  std::set<std::filesystem::path> paths = {plain};
  for (int i = 0; i < 3; ++i) paths.insert(save_steering_analysis(results, scratch / "a", "p"));
  EXPECT_EQ(paths.size(), 4U);
  write_file_atomic(scratch / "file", "");
  EXPECT_ERROR(save_steering_analysis(results, scratch / "file", "p"), kIo, "file");
}

}  // namespace
}  // namespace drrik
