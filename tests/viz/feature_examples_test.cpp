// FeatureExamples against a plain computation that holds everything.

#include "drrik/viz/feature_examples.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "drrik/base/error.h"
#include "drrik/base/rng.h"
#include "drrik/base/threads.h"
#include "viz/pair_sample.h"

namespace drrik {
namespace {

constexpr std::int64_t kFeatures = 150;  // more than one group of the collector's

// Sequences of random lengths, some tokens of which are left out, with features whose values grow
// over the text, so that bins are joined many times. Every tenth feature is dead.
struct Text {
  struct Sequence {
    std::vector<std::int32_t> ids;
    std::vector<bool> kept;
    std::vector<std::map<std::int32_t, float>> features;  // of each token
  };
  std::vector<Sequence> sequences;
};

Text make_text(std::uint64_t seed, std::int64_t count = 120) {
  Rng rng(seed);
  Text text;
  for (std::int64_t s = 0; s < count; ++s) {
    Text::Sequence sequence;
    const auto length = 1 + static_cast<std::int64_t>(rng.below(40));
    for (std::int64_t t = 0; t < length; ++t) {
      sequence.ids.push_back(static_cast<std::int32_t>(rng.below(1000)));
      sequence.kept.push_back(rng.below(8) != 0);
      std::map<std::int32_t, float> active;
      for (std::int32_t f = 0; f < kFeatures; ++f) {
        if (f % 10 == 9 || rng.below(static_cast<std::uint64_t>(2 + f / 4)) != 0) continue;
        // Few different sizes, so that there are ties.
        const float size = static_cast<float>(1 + rng.below(12)) * 0.37F;
        active[f] = size * static_cast<float>(1 + s / 10);
      }
      if (!sequence.kept.back()) active.clear();
      sequence.features.push_back(std::move(active));
    }
    text.sequences.push_back(std::move(sequence));
  }
  return text;
}

FeatureExamples collect(const Text& text, const FeatureExamplesOptions& options,
                        std::size_t batch_sequences) {
  FeatureExamples out(kFeatures, options);
  for (std::size_t first = 0; first < text.sequences.size(); first += batch_sequences) {
    std::vector<std::int32_t> ids;
    std::vector<std::int64_t> boundaries = {0};
    std::vector<std::int64_t> rows;
    SparseRows features;
    features.row_start = {0};
    const std::size_t last = std::min(first + batch_sequences, text.sequences.size());
    for (std::size_t s = first; s < last; ++s) {
      const auto& sequence = text.sequences[s];
      for (std::size_t t = 0; t < sequence.ids.size(); ++t) {
        if (sequence.kept[t]) {
          rows.push_back(static_cast<std::int64_t>(ids.size()));
          for (const auto& [f, value] : sequence.features[t]) {
            features.latent.push_back(f);
            features.value.push_back(value);
          }
          features.row_start.push_back(static_cast<std::int64_t>(features.latent.size()));
        }
        ids.push_back(sequence.ids[t]);
      }
      boundaries.push_back(static_cast<std::int64_t>(ids.size()));
    }
    out.add(ids, boundaries, rows, features);
  }
  return out;
}

// Everything of one feature, by the definition.
struct Firing {
  float value = 0.0F;
  std::int64_t row = 0;
  std::size_t sequence = 0;
  std::size_t position = 0;
};
std::vector<Firing> firings(const Text& text, std::int32_t f, std::int64_t& rows) {
  std::vector<Firing> out;
  rows = 0;
  for (std::size_t s = 0; s < text.sequences.size(); ++s) {
    for (std::size_t t = 0; t < text.sequences[s].ids.size(); ++t) {
      const auto& active = text.sequences[s].features[t];
      if (const auto found = active.find(f); found != active.end()) {
        out.push_back({found->second, rows, s, t});
      }
      rows += text.sequences[s].kept[t] ? 1 : 0;
    }
  }
  return out;
}

// "" when the window is what the text has there.
std::string difference(const Text& text, std::int32_t f, const FeatureExamplesOptions& options,
                       const FeatureWindow& window, const Firing& firing) {
  const auto& sequence = text.sequences[firing.sequence];
  if (window.value != firing.value) return "value";
  if (window.sequence != static_cast<std::int64_t>(firing.sequence)) return "sequence";
  if (window.position != static_cast<std::int64_t>(firing.position)) return "position";
  const auto here = static_cast<std::int64_t>(firing.position);
  const std::int64_t begin = std::max<std::int64_t>(0, here - options.before);
  const std::int64_t end =
      std::min(static_cast<std::int64_t>(sequence.ids.size()), here + options.after + 1);
  if (window.peak != here - begin) return "peak";
  if (static_cast<std::int64_t>(window.tokens.size()) != end - begin) return "length";
  for (std::int64_t t = begin; t < end; ++t) {
    const auto i = static_cast<std::size_t>(t - begin);
    const auto& active = sequence.features[static_cast<std::size_t>(t)];
    const auto found = active.find(f);
    const float value = found == active.end() ? 0.0F : found->second;
    if (window.tokens[i] != sequence.ids[static_cast<std::size_t>(t)]) return "token";
    if (window.values[i] != value) return "value of a neighbour";
  }
  return "";
}

FeatureExamplesOptions small() {
  FeatureExamplesOptions options;
  options.before = 5;
  options.after = 3;
  options.top = 4;
  options.band_examples = 3;
  return options;
}

TEST(FeatureExamples, AgreesWithThePlainComputation) {
  const Text text = make_text(1);
  const FeatureExamplesOptions options = small();
  const FeatureExamples examples = collect(text, options, 7);
  for (std::int32_t f = 0; f < kFeatures; ++f) {
    std::int64_t rows = 0;
    std::vector<Firing> all = firings(text, f, rows);
    ASSERT_EQ(examples.rows(), rows);
    ASSERT_EQ(examples.active(f), static_cast<std::int64_t>(all.size())) << f;
    double sum = 0.0;
    float max = 0.0F;
    for (const Firing& one : all) {
      sum += static_cast<double>(one.value);
      max = std::max(max, one.value);
    }
    EXPECT_EQ(examples.max(f), max);
    EXPECT_EQ(examples.mean(f), sum / static_cast<double>(rows));

    // The strongest of each sequence, the earlier of equal ones.
    std::map<std::size_t, Firing> best;
    for (const Firing& one : all) {
      auto [place, fresh] = best.emplace(one.sequence, one);
      if (!fresh && one.value > place->second.value) place->second = one;
    }
    std::vector<Firing> top;
    for (const auto& [s, one] : best) top.push_back(one);
    std::ranges::stable_sort(top,
                             [](const Firing& a, const Firing& b) { return a.value > b.value; });
    const auto kept = examples.top(f);
    ASSERT_EQ(kept.size(), std::min<std::size_t>(top.size(), 4)) << f;
    for (std::size_t i = 0; i < kept.size(); ++i) {
      EXPECT_EQ(difference(text, f, options, kept[i], top[i]), "") << f << " top " << i;
    }

    // Bands: bounds, counts, and the tokens of the lowest keys.
    const auto bands = examples.bands(f);
    std::int64_t counted = 0;
    double above = std::numeric_limits<double>::infinity();
    const std::uint64_t stream =
        detail::mix(options.seed ^ detail::mix(static_cast<std::uint64_t>(f)));
    for (std::size_t b = 0; b < bands.size(); ++b) {
      EXPECT_LE(bands[b].high, above);
      above = bands[b].low;
      std::vector<std::pair<std::uint64_t, Firing>> inside;
      for (const Firing& one : all) {
        const auto value = static_cast<double>(one.value);
        if (value < bands[b].low || (value >= bands[b].high && b > 0)) continue;
        if (b == 0 && value > bands[b].high) continue;
        inside.emplace_back(detail::mix(stream + static_cast<std::uint64_t>(one.row)), one);
      }
      counted += bands[b].count;
      ASSERT_EQ(bands[b].count, static_cast<std::int64_t>(inside.size())) << f << " band " << b;
      std::ranges::sort(inside, [](const auto& x, const auto& y) { return x.first < y.first; });
      if (inside.size() > 3) inside.resize(3);
      std::ranges::sort(inside, [](const auto& x, const auto& y) {
        return x.second.value != y.second.value ? x.second.value > y.second.value
                                                : x.second.row < y.second.row;
      });
      ASSERT_EQ(bands[b].examples.size(), inside.size());
      for (std::size_t i = 0; i < inside.size(); ++i) {
        EXPECT_EQ(difference(text, f, options, bands[b].examples[i], inside[i].second), "")
            << f << " band " << b;
      }
    }
    EXPECT_EQ(counted, examples.active(f));
    const ActivationHistogram histogram = examples.histogram(f, 20);
    std::vector<std::int64_t> counts(histogram.counts.size(), 0);
    for (const Firing& one : all) {
      ++counts[static_cast<std::size_t>(static_cast<double>(one.value) / histogram.width)];
    }
    EXPECT_EQ(histogram.counts, counts);
  }
  EXPECT_EQ(examples.dead(), kFeatures / 10);
  EXPECT_TRUE(examples.top(9).empty());
  EXPECT_TRUE(examples.bands(9).empty());
}

// One comparison of everything that can be asked for.
std::string difference(const FeatureExamples& a, const FeatureExamples& b) {
  const auto same = [](const std::vector<FeatureWindow>& x, const std::vector<FeatureWindow>& y) {
    return std::ranges::equal(x, y, [](const FeatureWindow& p, const FeatureWindow& q) {
      return p.value == q.value && p.sequence == q.sequence && p.position == q.position &&
             p.tokens == q.tokens && p.values == q.values;
    });
  };
  for (std::int64_t f = 0; f < kFeatures; ++f) {
    if (a.mean(f) != b.mean(f)) return str("mean of ", f);
    if (!same(a.top(f), b.top(f))) return str("top of ", f);
    const auto x = a.bands(f);
    const auto y = b.bands(f);
    if (x.size() != y.size()) return str("bands of ", f);
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (!same(x[i].examples, y[i].examples)) return str("band ", i, " of ", f);
    }
  }
  const auto x = a.coactive(5);
  const auto y = b.coactive(5);
  for (std::size_t f = 0; f < x.size(); ++f) {
    if (!std::ranges::equal(x[f], y[f], [](const Coactivation& p, const Coactivation& q) {
          return p.feature == q.feature && p.jaccard == q.jaccard && p.together == q.together;
        })) {
      return str("coactive of ", f);
    }
  }
  return "";
}

TEST(FeatureExamples, DependsNeitherOnBatchesNorThreads) {
  const Text text = make_text(2);
  const FeatureExamples whole = collect(text, small(), 1000);
  EXPECT_EQ(difference(whole, collect(text, small(), 1)), "");
  const int threads = num_threads();
  set_num_threads(threads == 1 ? 2 : 1);
  EXPECT_EQ(difference(whole, collect(text, small(), 13)), "");
  set_num_threads(threads);
  FeatureExamplesOptions other = small();
  other.seed = 7;
  EXPECT_NE(difference(whole, collect(text, other, 13)), "");  // and it can tell
}

TEST(FeatureExamples, CoactivationIsExactWhereTheSampleHoldsAll) {
  const Text text = make_text(3);
  const FeatureExamples examples = collect(text, small(), 9);
  EXPECT_EQ(examples.pair_rows(), examples.rows());
  std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> together;
  for (const auto& sequence : text.sequences) {
    for (const auto& active : sequence.features) {
      for (const auto& [f, x] : active) {
        for (const auto& [g, y] : active) ++together[{f, g}];
      }
    }
  }
  const auto found = examples.coactive(6);
  for (std::int32_t f = 0; f < kFeatures; ++f) {
    std::vector<Coactivation> all;
    for (std::int32_t g = 0; g < kFeatures; ++g) {
      const auto both = together.find({f, g});
      if (g == f || both == together.end() || both->second < 2) continue;
      const std::int64_t either = examples.active(f) + examples.active(g) - both->second;
      all.push_back(
          {g, static_cast<double>(both->second) / static_cast<double>(either), both->second});
    }
    std::ranges::stable_sort(
        all, [](const Coactivation& a, const Coactivation& b) { return a.jaccard > b.jaccard; });
    if (all.size() > 6) all.resize(6);
    const auto& list = found[static_cast<std::size_t>(f)];
    ASSERT_EQ(list.size(), all.size()) << f;
    for (std::size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(list[i].feature, all[i].feature);
      EXPECT_EQ(list[i].jaccard, all[i].jaccard);
      EXPECT_EQ(list[i].together, all[i].together);
    }
  }
}

TEST(FeatureExamples, CoactivationIsSampledWithinItsBounds) {
  const Text text = make_text(4, 400);
  FeatureExamplesOptions options = small();
  options.pair_entries = 4000;
  const FeatureExamples sampled = collect(text, options, 11);
  EXPECT_LT(sampled.pair_rows(), sampled.rows());
  EXPECT_GT(sampled.pair_rows(), 20);
  EXPECT_EQ(difference(sampled, collect(text, options, 3)), "");
  // Shares of the commonest pair: a sample of n rows has a standard error of at most 1 / (2 √n).
  const FeatureExamples exact = collect(text, small(), 11);
  const auto share = [](const FeatureExamples& e) {
    const auto lists = e.coactive(kFeatures);
    for (const Coactivation& one : lists[0]) {
      if (one.feature == 1) {
        return static_cast<double>(one.together) / static_cast<double>(e.pair_rows());
      }
    }
    return 0.0;
  };
  EXPECT_GT(share(exact), 0.1);
  EXPECT_NEAR(share(sampled), share(exact),
              4.0 * 0.5 / std::sqrt(static_cast<double>(sampled.pair_rows())));
}

TEST(FeatureExamples, MemoryIsBoundedWhateverTheLength) {
  const FeatureExamplesOptions options = small();
  FeatureExamplesOptions few_pairs = options;
  few_pairs.pair_entries = 1 << 12;
  const std::int64_t bound = FeatureExamples::memory_bound(kFeatures, few_pairs);
  const std::int64_t shorter = collect(make_text(5, 500), few_pairs, 10).memory();
  const std::int64_t longer = collect(make_text(5, 3000), few_pairs, 10).memory();
  EXPECT_LE(longer, bound);
  // Six times the text fills examples that were still empty, and no more.
  EXPECT_LT(longer, shorter + shorter / 2);
}

TEST(FeatureExamples, RefusesWhatDoesNotFit) {
  FeatureExamplesOptions options = small();
  options.bands = 0;
  EXPECT_THROW(FeatureExamples(10, options), Error);
  FeatureExamples examples(10, small());
  const std::vector<std::int32_t> ids = {1, 2, 3};
  const std::vector<std::int64_t> bounds = {0, 3};
  SparseRows features;
  features.row_start = {0, 1};
  features.latent = {10};  // beyond the last
  features.value = {1.0F};
  EXPECT_THROW(examples.add(ids, bounds, std::vector<std::int64_t>{0}, features), Error);
  features.latent = {3};
  EXPECT_THROW(examples.add(ids, bounds, std::vector<std::int64_t>{3}, features), Error);
  EXPECT_THROW(
      examples.add(ids, std::vector<std::int64_t>{0, 2}, std::vector<std::int64_t>{0}, features),
      Error);
  features.value = {std::numeric_limits<float>::infinity()};
  try {
    examples.add(ids, bounds, std::vector<std::int64_t>{2}, features);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNumeric);
    EXPECT_NE(std::string(error.what()).find("feature 3 in sequence 0, position 2"),
              std::string::npos)
        << error.what();
  }
  EXPECT_THROW(static_cast<void>(examples.top(10)), Error);
}

}  // namespace
}  // namespace drrik
