#include "drrik/eval/matching.h"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/ops/convert.h"
#include "drrik/sae/sparse_coder.h"

namespace drrik {
namespace {

SparseCoder coder(std::int64_t d, std::int64_t h, std::uint64_t seed) {
  SparseCoderConfig config;
  config.d_in = d;
  config.d_sae = h;
  config.k = 2;
  Rng rng(seed);
  return SparseCoder::random(config, {}, rng);
}

TEST(Matching, FindsWhatWasShuffledAndScaled) {
  const SparseCoder a = coder(16, 300, 1);
  SparseCoder b = coder(16, 300, 2);
  for (std::int64_t j = 0; j < 300; ++j) {
    copy(a.decoder().rows_range((j * 7) % 300, 1), b.decoder().rows_range(j, 1));
    for (float& v : b.decoder().row(j)) v *= 3.0F;
  }
  const FeatureMatch match = match_features(a, b);
  EXPECT_NEAR(match.mean_max_cosine, 1.0, 1e-6);
  EXPECT_EQ(match.matched, 1.0);
  EXPECT_EQ(match.mutual, 1.0);
  for (std::int64_t j = 0; j < 300; ++j) {
    EXPECT_EQ(match.partner[static_cast<std::size_t>((j * 7) % 300)], j);
  }
}

TEST(Matching, IsTheLargestCosineOfAllPairs) {
  const SparseCoder a = coder(8, 40, 1);
  const SparseCoder b = coder(8, 70, 2);
  const FeatureMatch match = match_features(a, b);
  double sum = 0.0;
  for (std::int64_t i = 0; i < 40; ++i) {
    double best = -2.0;
    for (std::int64_t j = 0; j < 70; ++j) {
      const auto u = a.decoder().row(i);
      const auto v = b.decoder().row(j);
      best = std::max(best, dot(u, v) / std::sqrt(sum_squares(u) * sum_squares(v)));
    }
    EXPECT_NEAR(match.cosine[static_cast<std::size_t>(i)], best, 1e-6);
    sum += best;
  }
  EXPECT_NEAR(match.mean_max_cosine, sum / 40, 1e-6);
  EXPECT_LT(match.mutual, 1.0);
}

TEST(Matching, RefusesOtherWidths) {
  EXPECT_THROW(match_features(coder(8, 4, 1), coder(9, 4, 1)), Error);
}

}  // namespace
}  // namespace drrik
