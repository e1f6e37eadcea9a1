// Edits at a hook while a model writes with its cache, against whole passes without one.

#include <algorithm>
#include <cmath>
#include <set>

#include "activations/fixture.h"
#include "drrik/sae/sparse_coder.h"
#include "drrik/steer/steering.h"
#include "eval/fake_sae.h"
#include "steer/stop_text.h"

namespace drrik {
namespace {

using test::text_of;
using Kind = EditPositions::Kind;

constexpr std::int64_t kWidth = 16;
constexpr std::int64_t kFeatures = 24;
constexpr std::int64_t kNew = 16;
const std::vector<std::int32_t> kPromptIds = {9, 4, 30, 12};

std::shared_ptr<const Model> tiny_model() {
  ModelConfig config = test::tiny_config();
  config.eos_ids = {};
  return std::make_shared<const Model>(make_random_model(config, 3));
}

std::shared_ptr<const Tokenizer> tiny_tokenizer() {
  return std::make_shared<const Tokenizer>(
      Tokenizer::from_json(test::tokenizer_json(test::tiny_config().vocab_size, true)));
}

std::shared_ptr<const Sae> random_sae() {
  Rng rng(17);
  std::vector<float> w(static_cast<std::size_t>(kWidth * kFeatures));
  for (float& value : w) value = rng.normal();
  return std::make_shared<const FakeSae>(kWidth, kFeatures, std::move(w));
}

std::shared_ptr<const Sae> coder(const std::function<void(SparseCoderConfig&)>& change) {
  SparseCoderConfig config;
  config.architecture = "topk";
  config.d_in = kWidth;
  config.d_sae = kFeatures;
  config.k = 8;
  change(config);
  Rng rng(5);
  return std::make_shared<const SparseCoder>(
      SparseCoder::random(config, {.decoder_norm = 1.7}, rng));
}

SteeringEdit edit(std::int64_t feature, EditMode mode, double strength, EditPositions positions,
                  std::optional<double> max = {}) {
  SteeringEdit out;
  out.feature = feature;
  out.mode = mode;
  out.strength = strength;
  out.positions = std::move(positions);
  out.max_activation = max;
  if (max) out.unit = StrengthUnit::kMax;
  return out;
}

// Greedy continuation by whole passes: every row's features are taken anew, each edit is carried
// out as its definition says.
std::vector<std::int32_t> by_hand(const SaeSteering& s, std::vector<std::int32_t> ids,
                                  const std::vector<SteeringEdit>& edits) {
  const auto prompt = static_cast<std::int64_t>(ids.size());
  const auto d_sae = static_cast<std::size_t>(s.sae().d_sae());
  const auto* sparse = dynamic_cast<const SparseCoder*>(&s.sae());
  std::vector<std::int32_t> out;
  while (out.size() < static_cast<std::size_t>(kNew)) {
    TokenBatch batch;
    batch.append(ids);
    std::vector<std::vector<float>> features;
    std::vector<double> scale;
    ForwardOptions forward;
    forward.logits = ForwardOptions::Logits::kLast;
    forward.hooks = {s.reads()};
    if (s.reads() != s.hook()) forward.hooks.push_back(s.hook());
    forward.on_hook = [&](const Hook& hook, MatView<float> x) {
      if (hook == s.reads()) {
        for (std::int64_t r = 0; r < x.rows(); ++r) {
          features.emplace_back(d_sae);
          s.sae().encode(x.rows_range(r, 1),
                         MatView<float>(features.back().data(), 1, s.sae().d_sae()));
          double mean = 0.0;
          double squares = 0.0;
          for (std::int64_t c = 0; c < x.cols(); ++c) mean += static_cast<double>(x(r, c));
          mean /= static_cast<double>(x.cols());
          for (std::int64_t c = 0; c < x.cols(); ++c) {
            squares += std::pow(static_cast<double>(x(r, c)) - mean, 2);
          }
          const bool normalized =
              sparse != nullptr && sparse->config().row_normalization != RowNormalization::kNone;
          scale.push_back(normalized ? std::sqrt(squares / static_cast<double>(x.cols() - 1))
                                     : 1.0);
        }
      }
      if (hook != s.hook()) return;
      for (std::int64_t r = 0; r < x.rows(); ++r) {
        const auto at = static_cast<std::size_t>(r);
        std::vector<double> row(x.row(r).begin(), x.row(r).end());
        for (const SteeringEdit& e : edits) {
          const auto& list = e.positions.list;
          const bool here = e.positions.kind == Kind::kAll ||
                            (e.positions.kind == Kind::kPrompt && r < prompt) ||
                            (e.positions.kind == Kind::kGenerated && r >= prompt) ||
                            (e.positions.kind == Kind::kList &&
                             std::find(list.begin(), list.end(), r) != list.end());
          if (!here) continue;
          const double f = static_cast<double>(features[at][static_cast<std::size_t>(e.feature)]);
          const double wanted =
              e.strength * (e.unit == StrengthUnit::kMax ? e.max_activation.value() : 1.0);
          const std::vector<float> column = s.sae().decoder_direction(e.feature);
          double norm = 0.0;
          for (const float w : column) norm += static_cast<double>(w) * static_cast<double>(w);
          double by = scale[at];
          if (sparse != nullptr && sparse->config().rescale_by_decoder_norm) by /= std::sqrt(norm);
          switch (e.mode) {
            case EditMode::kAdd:
              by = e.unit == StrengthUnit::kMax ? by * wanted : wanted;
              break;
            case EditMode::kClamp:
              by *= wanted - f;
              break;
            case EditMode::kScale:
              by *= (e.strength - 1.0) * f;
              break;
            case EditMode::kAblate:
              by *= -f;
              break;
          }
          for (std::size_t c = 0; c < row.size(); ++c)
            row[c] += by * static_cast<double>(column[c]);
        }
        for (std::size_t c = 0; c < row.size(); ++c) {
          x(r, static_cast<std::int64_t>(c)) = static_cast<float>(row[c]);
        }
      }
    };
    const Tensor logits = s.model().forward(batch, forward);
    const auto row = logits.data<float>();
    out.push_back(
        static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin()));
    ids.push_back(out.back());
  }
  return out;
}

SteeredText written(const SaeSteering& s, std::vector<SteeringEdit> edits) {
  SteeredGeneration options;
  options.temperature = 0.0;
  options.max_new_tokens = kNew;
  options.edits = std::move(edits);
  return s.generate(text_of(kPromptIds), options);
}

// Ids are equal: the two ways differ by rounding of the last bit in the sums, which moves logits by
// ~1e-6 of their size, and no choice of these texts is nearer than that.
void expect_by_hand(const SaeSteering& s, std::int64_t distinct) {
  std::set<std::vector<std::int32_t>> seen;
  const std::vector<EditPositions> places = {{Kind::kAll, {}},
                                             {Kind::kPrompt, {}},
                                             {Kind::kGenerated, {}},
                                             {Kind::kList, {0, 2, 5, 6, 9}}};
  const auto check = [&](const std::vector<SteeringEdit>& edits, const std::string& what) {
    const SteeredText got = written(s, edits);
    EXPECT_EQ(got.generated.ids, by_hand(s, got.prompt_ids, edits)) << what;
    seen.insert(got.generated.ids);
  };
  for (std::size_t p = 0; p < places.size(); ++p) {
    for (const EditMode mode :
         {EditMode::kAdd, EditMode::kClamp, EditMode::kScale, EditMode::kAblate}) {
      for (const std::optional<double> max : {std::optional<double>(), {0.6}}) {
        check({edit(3, mode, 5.0, places[p], max)},
              str(edit_mode_name(mode), " at ", p, max ? " of max" : ""));
      }
    }
    check({edit(1, EditMode::kClamp, 4.0, places[p]), edit(2, EditMode::kAblate, 1.0, places[0]),
           edit(1, EditMode::kAdd, -2.0, places[3]), edit(5, EditMode::kScale, -3.0, places[1]),
           edit(5, EditMode::kScale, 6.0, places[2])},
          str("several at ", p));
  }
  EXPECT_GE(static_cast<std::int64_t>(seen.size()), distinct) << "the edits change too little";
}

TEST(Edits, EqualWholePassesWithoutACache) {
  for (const Hook hook : {Hook{HookPoint::kMlpOut, 1}, Hook{HookPoint::kResidPost, 0}}) {
    expect_by_hand(SaeSteering(random_sae(), tiny_model(), tiny_tokenizer(), hook), 12);
  }
}

TEST(Edits, OfATranscoderAreReadInFrontAndWrittenBehind) {
  const auto sae = coder([](SparseCoderConfig& c) {
    c.d_out = kWidth;
    c.apply_b_dec_to_input = false;
    c.skip = true;
  });
  const SaeSteering s(sae, tiny_model(), tiny_tokenizer(), {HookPoint::kMlpOut, 1},
                      Hook{HookPoint::kMlpIn, 1});
  expect_by_hand(s, 8);
  // From the residual stream of one layer to the MLP of another.
  const SaeSteering far(sae, tiny_model(), tiny_tokenizer(), {HookPoint::kMlpOut, 2},
                        Hook{HookPoint::kResidPre, 0});
  expect_by_hand(far, 8);
}

TEST(Edits, CountInTheUnitsOfTheCoder) {
  for (const bool rescaled : {false, true}) {
    for (const bool normalized : {false, true}) {
      const auto sae = coder([&](SparseCoderConfig& c) {
        c.rescale_by_decoder_norm = rescaled;
        if (normalized) c.row_normalization = RowNormalization::kLayerNorm;
      });
      expect_by_hand(SaeSteering(sae, tiny_model(), tiny_tokenizer(), {HookPoint::kResidPost, 1}),
                     8);
    }
  }
}

TEST(Edits, ThatChangeNothingAreNoSteering) {
  const SaeSteering s(random_sae(), tiny_model(), tiny_tokenizer(), {HookPoint::kMlpOut, 1});
  const auto plain = written(s, {}).generated.ids;
  EXPECT_EQ(written(s, {edit(3, EditMode::kScale, 1.0, {})}).generated.ids, plain);
  EXPECT_EQ(written(s, {edit(3, EditMode::kAdd, 0.0, {})}).generated.ids, plain);
  EXPECT_EQ(written(s, {edit(3, EditMode::kAdd, 9.0, {Kind::kList, {}})}).generated.ids, plain);
  EXPECT_EQ(written(s, {edit(3, EditMode::kClamp, 9.0, {Kind::kList, {1000}})}).generated.ids,
            plain);
}

TEST(Edits, RefuseWhatCannotBe) {
  const SaeSteering s(random_sae(), tiny_model(), tiny_tokenizer(), {HookPoint::kMlpOut, 1});
  EXPECT_ERROR(written(s, {edit(kFeatures, EditMode::kAdd, 1.0, {})}), kUsage, "feature 24");
  EXPECT_ERROR(written(s, {edit(0, EditMode::kAdd, 1.0, {Kind::kList, {3, 1}})}), kUsage, "ascend");
  SteeredGeneration both;
  both.edits = {edit(0, EditMode::kAdd, 1.0, {})};
  both.feature_idx = 1;
  EXPECT_ERROR(s.generate(text_of(kPromptIds), both), kUsage, "not both");
  const auto transcoder = coder([](SparseCoderConfig& c) {
    c.d_out = kWidth;
    c.apply_b_dec_to_input = false;
  });
  const SaeSteering behind(transcoder, tiny_model(), tiny_tokenizer(), {HookPoint::kMlpIn, 1},
                           Hook{HookPoint::kMlpOut, 1});
  EXPECT_ERROR(written(behind, {edit(0, EditMode::kClamp, 1.0, {})}), kUsage, "computes after");
  const auto make = [&](const Hook& writes, const Hook& reads) {
    const SaeSteering one(transcoder, tiny_model(), tiny_tokenizer(), writes, reads);
  };
  EXPECT_ERROR(make({HookPoint::kMlpOut, 1}, {HookPoint::kMlpPost, 1}), kUsage, "maps 16");
  EXPECT_ERROR(make({HookPoint::kMlpOut, 1}, {HookPoint::kMlpIn, 9}), kUsage, "9");
}

TEST(Edits, ARecipeBringsItsSampling) {
  SteeringRecipe recipe;
  recipe.edits = {edit(3, EditMode::kAdd, 5.0, {})};
  recipe.sampling.temperature = 0.0;
  recipe.sampling.max_new_tokens = kNew;
  SteeredGeneration defaults;
  defaults.feature_idx = 1;
  defaults.top_p = 0.5;
  const SteeredGeneration made = with_recipe(recipe, defaults);
  EXPECT_EQ(made.top_p, 0.5);
  const SaeSteering s(random_sae(), tiny_model(), tiny_tokenizer(), {HookPoint::kMlpOut, 1});
  EXPECT_EQ(s.generate(text_of(kPromptIds), made).generated.ids,
            written(s, recipe.edits).generated.ids);
}

TEST(SteeredStream, SeveralAtOnceAreAsOneAfterAnother) {
  const SaeSteering s(random_sae(), tiny_model(), tiny_tokenizer(), {HookPoint::kMlpOut, 1});
  std::vector<SteeredGeneration> options(3);
  options[1].edits = {edit(3, EditMode::kClamp, 5.0, {})};
  options[2].edits = {edit(3, EditMode::kAdd, 5.0, {Kind::kGenerated, {}})};
  std::vector<SteeredStream> streams;
  std::vector<std::string> pieces(3);
  for (const auto& one : options) streams.push_back(s.stream(text_of(kPromptIds), one));
  for (bool any = true; any;) {
    any = false;
    for (std::size_t i = 0; i < streams.size(); ++i) {
      if (const auto piece = streams[i].next()) {
        pieces[i] += *piece;
        any = true;
      }
    }
  }
  for (std::size_t i = 0; i < streams.size(); ++i) {
    EXPECT_EQ(pieces[i], s.generate(text_of(kPromptIds), options[i]).continuation);
    EXPECT_EQ(streams[i].text().continuation, pieces[i]);
    EXPECT_FALSE(streams[i].next());
  }
}

TEST(SteeredStream, EndsBeforeAStopSequence) {
  const SaeSteering s(random_sae(), tiny_model(), tiny_tokenizer(), {HookPoint::kMlpOut, 1});
  SteeredGeneration options;
  options.seed = 3;
  const std::string whole = s.generate(text_of(kPromptIds), options).continuation;
  ASSERT_GT(whole.size(), 30U);
  options.stop = {"none", whole.substr(12, 6)};  // two characters of three bytes
  std::string pieces;
  options.on_text = [&](std::string_view piece) { pieces += piece; };
  const SteeredText got = s.generate(text_of(kPromptIds), options);
  EXPECT_EQ(got.continuation, whole.substr(0, whole.find(options.stop[1])));
  EXPECT_EQ(pieces, got.continuation);
  EXPECT_EQ(got.stopped_by, options.stop[1]);
  EXPECT_EQ(got.generated.finish, FinishReason::kCallback);
  options.stop = {""};
  EXPECT_ERROR(s.generate(text_of(kPromptIds), options), kUsage, "empty");
}

TEST(StopText, HoldsBackWhatMayBecomeOne) {
  StopText text({"END", "NDX", "ENDING"});
  EXPECT_EQ(text.push("the E"), "the ");
  EXPECT_EQ(text.push("n"), "En");
  EXPECT_EQ(text.push("EN"), "");
  EXPECT_EQ(text.push("EN"), "EN");
  EXPECT_EQ(text.push("D and on"), "");
  EXPECT_EQ(text.met(), "END");
  EXPECT_EQ(text.push("more"), "");
  EXPECT_EQ(text.finish(), "");
  StopText other({"END"});
  EXPECT_EQ(other.push("the EN"), "the ");
  EXPECT_EQ(other.finish(), "EN");
  EXPECT_EQ(other.met(), "");
}

}  // namespace
}  // namespace drrik
