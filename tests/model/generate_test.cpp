#include "drrik/model/generate.h"
#include "drrik/base/interrupt.h"
#include "model/compare.h"

namespace drrik {
namespace {

using test::data_folder;

SamplingOptions greedy(std::int64_t tokens) {
  SamplingOptions options;
  options.temperature = 0.0;
  options.max_new_tokens = tokens;
  options.stop_at_eos = false;
  return options;
}

TEST(Generate, GreedyEqualsTransformers) {
  for (const std::string& name : test::reference_models()) {
    const Model model = Model::load(data_folder(name));
    const auto reference = test::load_reference(name);
    if (!model.config().causal) continue;
    const Tensor stored = reference.file.get("greedy");
    const auto want = stored.data<std::int32_t>();
    const std::span<const std::int32_t> prompt(reference.batch.ids.data(), 5);
    const Generated got = generate(model, prompt, greedy(12));
    EXPECT_TRUE(std::equal(got.ids.begin(), got.ids.end(), want.begin() + 5, want.end())) << name;
    EXPECT_EQ(got.finish, FinishReason::kMaxTokens);
  }
}

TEST(Generate, StopsWhereItShould) {
  const Model model = Model::load(data_folder("llama-plain"));
  const std::vector<std::int32_t> prompt = {3, 1, 4};
  const std::vector<std::int32_t> all = generate(model, prompt, greedy(20)).ids;
  ASSERT_EQ(all.size(), 20U);

  SamplingOptions options = greedy(20);
  options.stop_ids = {all[4]};
  Generated got = generate(model, prompt, options);
  EXPECT_EQ(got.finish, FinishReason::kStopId);
  const auto stop = std::find(all.begin(), all.end(), all[4]);
  EXPECT_EQ(got.ids, std::vector<std::int32_t>(all.begin(), stop));

  std::vector<std::int32_t> heard;
  got = generate(model, prompt, greedy(20), [&](std::int32_t id) {
    heard.push_back(id);
    return heard.size() < 3;
  });
  EXPECT_EQ(got.finish, FinishReason::kCallback);
  EXPECT_EQ(got.ids, heard);
  EXPECT_EQ(heard.size(), 3U);

  // max_position_embeddings is 64.
  got = generate(model, prompt, greedy(1000));
  EXPECT_EQ(got.finish, FinishReason::kMaxPositions);
  EXPECT_EQ(got.ids.size(), 61U);
  EXPECT_TRUE(generate(model, prompt, greedy(0)).ids.empty());
}

TEST(Generate, SameSeedSameText) {
  const Model model = Model::load(data_folder("gpt2-plain"));
  const std::vector<std::int32_t> prompt = {7};
  SamplingOptions options;
  options.top_p = 0.95;
  options.max_new_tokens = 25;
  options.stop_at_eos = false;
  const auto ids = [&](std::uint64_t seed) {
    options.seed = seed;
    return generate(model, prompt, options).ids;
  };
  EXPECT_EQ(ids(1), ids(1));
  EXPECT_NE(ids(1), ids(2));
}

TEST(Generate, HooksSteerEveryStep) {
  const Model model = Model::load(data_folder("llama-plain"));
  const std::vector<std::int32_t> prompt = {3, 1, 4};
  std::vector<std::int64_t> rows;
  const std::vector<Hook> hooks = {{HookPoint::kMlpOut, 1}};
  const auto steer = [&](float strength) {
    rows.clear();
    return generate(model, prompt, greedy(8), {}, hooks, [&](const Hook&, MatView<float> x) {
      rows.push_back(x.rows());
      for (std::int64_t r = 0; r < x.rows(); ++r) {
        for (std::int64_t c = 0; c < 6; ++c) x(r, c) += strength;
      }
    });
  };
  EXPECT_EQ(steer(0.0F).ids, generate(model, prompt, greedy(8)).ids);
  EXPECT_NE(steer(30.0F).ids, generate(model, prompt, greedy(8)).ids);
  EXPECT_EQ(rows, (std::vector<std::int64_t>{3, 1, 1, 1, 1, 1, 1, 1}));
}

TEST(Generate, LooksAtTheInterruptFlag) {
  const Model model = Model::load(data_folder("llama-plain"));
  const std::vector<std::int32_t> prompt = {3};
  int heard = 0;
  const auto error = test::error_of([&] {
    generate(model, prompt, greedy(20), [&](std::int32_t) {
      if (++heard == 2) set_interrupted(true);
      return true;
    });
  });
  set_interrupted(false);
  EXPECT_EQ(error.first, ErrorKind::kInterrupted);
  EXPECT_EQ(heard, 2);
}

// Its frequencies change for all positions where it grows past the original ones.
TEST(Generate, LongRopeRunsOverAllRowsOnceMore) {
  const Model model = Model::load(data_folder("phi3-longrope"));
  const std::vector<std::int32_t> prompt = {3, 1, 4, 1, 5};
  std::vector<std::int64_t> rows;
  const std::vector<Hook> hooks = {{HookPoint::kMlpOut, 0}};
  generate(model, prompt, greedy(6), {}, hooks,
           [&](const Hook&, MatView<float> x) { rows.push_back(x.rows()); });
  EXPECT_EQ(rows, (std::vector<std::int64_t>{5, 1, 1, 1, 9, 1}));
}

TEST(Generation, SaysWhereItsRowsStand) {
  for (const char* name : {"llama-plain", "phi3-longrope"}) {
    const Model model = Model::load(data_folder(name));
    const std::vector<std::int32_t> prompt = {3, 1, 4, 1, 5};
    std::vector<std::pair<std::int64_t, std::int64_t>> rows;
    Generation one(model, prompt, greedy(6), {{HookPoint::kMlpOut, 0}},
                   [&](const Hook&, std::int64_t first, MatView<float> x) {
                     rows.emplace_back(first, x.rows());
                   });
    EXPECT_TRUE(rows.empty());
    Generation other(model, std::span(prompt).first(2), greedy(6));
    while (one.next()) other.next();
    EXPECT_EQ(one.result().ids, generate(model, prompt, greedy(6)).ids);
    EXPECT_EQ(other.result().ids, generate(model, std::span(prompt).first(2), greedy(6)).ids);
    const bool stretched = std::string(name) == "phi3-longrope";
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::int64_t end = 5 + static_cast<std::int64_t>(i);
      const bool whole = i == 0 || (stretched && end == 9);
      EXPECT_EQ(rows[i],
                whole ? std::pair(std::int64_t{0}, end) : std::pair(end - 1, std::int64_t{1}));
    }
    EXPECT_EQ(rows.size(), 6U);
    EXPECT_FALSE(one.next());
  }
}

TEST(Generation, StopsWhenToldTo) {
  const Model model = Model::load(data_folder("llama-plain"));
  const std::vector<std::int32_t> prompt = {3, 1, 4};
  Generation one(model, prompt, greedy(6));
  one.next();
  one.stop();
  EXPECT_FALSE(one.next());
  EXPECT_EQ(one.result().ids.size(), 1U);
  EXPECT_EQ(one.result().finish, FinishReason::kCallback);
}

TEST(Generate, RefusesModelsThatSeeAhead) {
  const Model model = Model::load(data_folder("gemma3-bidirectional"));
  const std::vector<std::int32_t> prompt = {3, 1, 4};
  const auto error = test::error_of([&] { generate(model, prompt, greedy(3)); });
  EXPECT_EQ(error.first, ErrorKind::kUsage);
  EXPECT_NE(error.second.find("does not generate"), std::string::npos) << error.second;
}

TEST(Generate, RefusesBadPrompts) {
  const Model model = Model::load(data_folder("llama-plain"));
  EXPECT_EQ(test::error_of([&] { generate(model, {}, greedy(3)); }).first, ErrorKind::kUsage);
  const std::vector<std::int32_t> outside = {67};
  EXPECT_EQ(test::error_of([&] { generate(model, outside, greedy(3)); }).first, ErrorKind::kData);
  const std::vector<std::int32_t> longer(65, 1);
  EXPECT_EQ(test::error_of([&] { generate(model, longer, greedy(3)); }).first, ErrorKind::kData);
  const std::vector<std::int32_t> prompt = {1};
  const auto hook = test::error_of([&] {
    generate(model, prompt, greedy(3), {}, {{HookPoint::kMlpOut, 2}},
             [](const Hook&, MatView<float>) {});
  });
  EXPECT_EQ(hook.first, ErrorKind::kUsage);
}

}  // namespace
}  // namespace drrik
