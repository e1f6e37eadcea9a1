#include <algorithm>
#include <numeric>

#include "drrik/base/rng.h"
#include "drrik/model/generate.h"
#include "io/json.h"
#include "model/compare.h"

namespace drrik {
namespace {

TEST(Sampling, DistributionsAreThoseOfTransformers) {
  const std::string path = test::data_folder("sampling.json").string();
  const Json cases = read_json_file(path);
  ASSERT_GE(cases.size(), 8U);
  for (const Json& c : cases) {
    SamplingOptions options;
    options.repetition_penalty = get_double(c, "repetition_penalty", path);
    options.temperature = get_double(c, "temperature", path);
    options.top_k = get_int(c, "top_k", path);
    options.top_p = get_double(c, "top_p", path);
    std::vector<float> logits;
    for (const double x : get_doubles(c, "logits", path)) logits.push_back(static_cast<float>(x));
    std::vector<std::int32_t> history;
    for (const auto x : get_ints(c, "history", path)) {
      history.push_back(static_cast<std::int32_t>(x));
    }
    const std::vector<float> got = next_token_distribution(logits, history, options);
    const std::vector<double> want = get_doubles(c, "probabilities", path);
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i] == 0.0F, want[i] == 0.0) << i << " of " << json_text(c);
      // exp of a score of size s errs by s · 2^-24; scores reach 200 at temperature 0.05.
      EXPECT_NEAR(static_cast<double>(got[i]), want[i], 2e-5 * want[i]) << i;
    }
  }
}

// The definition, by sorting everything, against the selection that is used.
TEST(Sampling, TopPEqualsItsDefinition) {
  Rng rng(8);
  for (const double spread : {0.0, 0.1, 1.0, 8.0}) {
    for (const std::size_t size : {1U, 2U, 3U, 17U, 1000U}) {
      for (const double top_p : {1e-6, 0.3, 0.9, 0.999999}) {
        std::vector<float> logits(size);
        for (float& x : logits) x = static_cast<float>(spread) * rng.normal();
        SamplingOptions options;
        const std::vector<float> all = next_token_distribution(logits, {}, options);
        std::vector<std::size_t> order(size);
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
          return all[a] != all[b] ? all[a] > all[b] : a < b;
        });
        // The most probable until their sum reaches top_p; rounding may move the last one.
        double sum = 0.0;
        std::size_t keep = 0;
        while (keep < size && (keep == 0 || sum < top_p)) {
          sum += static_cast<double>(all[order[keep++]]);
        }
        options.top_p = top_p;
        const std::vector<float> got = next_token_distribution(logits, {}, options);
        const auto kept = size - static_cast<std::size_t>(std::count(got.begin(), got.end(), 0.0F));
        EXPECT_NEAR(static_cast<double>(kept), static_cast<double>(keep), 1.0) << size << top_p;
        for (std::size_t i = 0; i < kept; ++i) EXPECT_GT(got[order[i]], 0.0F) << i;
      }
    }
  }
}

TEST(Sampling, GreedyTakesTheLargestAndTheLowestIdOnTies) {
  const std::vector<float> logits = {1.0F, 3.0F, 3.0F, 2.0F};
  SamplingOptions options;
  options.temperature = 0.0;
  Rng rng(1);
  EXPECT_EQ(sample_token(logits, {}, options, rng), 1);
  EXPECT_EQ(rng.position(), 0U);
  EXPECT_EQ(next_token_distribution(logits, {}, options),
            (std::vector<float>{0.0F, 1.0F, 0.0F, 0.0F}));
  // The penalty counts for greedy decoding too.
  options.repetition_penalty = 2.0;
  EXPECT_EQ(sample_token(logits, std::vector<std::int32_t>{1}, options, rng), 2);
  // A temperature so small that dividing overflows means the same.
  options.temperature = 1e-40;
  EXPECT_EQ(sample_token(logits, std::vector<std::int32_t>{1}, options, rng), 2);
}

TEST(Sampling, DrawsByProbability) {
  const std::vector<float> logits = {0.0F, 1.0F, -1.0F, 0.5F};
  SamplingOptions options;
  options.top_k = 3;
  const std::vector<float> p = next_token_distribution(logits, {}, options);
  Rng rng(3);
  constexpr int kDraws = 40000;
  std::vector<int> counts(4);
  for (int i = 0; i < kDraws; ++i) {
    ++counts[static_cast<std::size_t>(sample_token(logits, {}, options, rng))];
  }
  EXPECT_EQ(counts[2], 0);
  for (std::size_t i = 0; i < 4; ++i) {
    // Five standard deviations of a binomial count: at most 2.5 √n.
    EXPECT_NEAR(counts[i], static_cast<double>(p[i]) * kDraws, 2.5 * std::sqrt(kDraws));
  }
}

TEST(Sampling, RefusesWhatMakesNoSense) {
  const std::vector<float> logits = {0.0F, 1.0F};
  const auto kind_with = [&](auto change) {
    SamplingOptions options;
    change(options);
    return test::error_of([&] { next_token_distribution(logits, {}, options); }).first;
  };
  using O = SamplingOptions;
  EXPECT_EQ(kind_with([](O& o) { o.temperature = -1.0; }), ErrorKind::kUsage);
  EXPECT_EQ(kind_with([](O& o) { o.temperature = std::nan(""); }), ErrorKind::kUsage);
  EXPECT_EQ(kind_with([](O& o) { o.top_p = 0.0; }), ErrorKind::kUsage);
  EXPECT_EQ(kind_with([](O& o) { o.top_p = 1.5; }), ErrorKind::kUsage);
  EXPECT_EQ(kind_with([](O& o) { o.top_k = -1; }), ErrorKind::kUsage);
  EXPECT_EQ(kind_with([](O& o) { o.repetition_penalty = 0.0; }), ErrorKind::kUsage);
  EXPECT_EQ(kind_with([](O& o) { o.max_new_tokens = -1; }), ErrorKind::kUsage);
  EXPECT_EQ(test::error_of([] { next_token_distribution({}, {}, {}); }).first, ErrorKind::kUsage);
  const std::vector<float> bad = {0.0F, std::nanf("")};
  EXPECT_EQ(test::error_of([&] { next_token_distribution(bad, {}, {}); }).first,
            ErrorKind::kNumeric);
  SamplingOptions penalty;
  penalty.repetition_penalty = 1.1;
  const std::vector<std::int32_t> history = {2};
  EXPECT_EQ(test::error_of([&] { next_token_distribution(logits, history, penalty); }).first,
            ErrorKind::kData);
}

}  // namespace
}  // namespace drrik
