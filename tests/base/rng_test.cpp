#include "drrik/base/rng.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace drrik {
namespace {

// Known answer of Philox4x32-10 with zero key and counter (Random123's kat_vectors).
TEST(Rng, MatchesThePublishedVector) {
  Rng rng(0, 0);
  EXPECT_EQ(rng.next_u32(), 0x6627e8d5U);
  EXPECT_EQ(rng.next_u32(), 0xe169c58dU);
  EXPECT_EQ(rng.next_u32(), 0xbc57ac4cU);
  EXPECT_EQ(rng.next_u32(), 0x9b00dbd8U);
}

TEST(Rng, SeedAndStreamDecide) {
  Rng a(1, 2);
  Rng b(1, 2);
  Rng other_seed(2, 2);
  Rng other_stream(1, 3);
  int same_seed = 0;
  int same_stream = 0;
  for (int i = 0; i < 100; ++i) {
    const auto value = a.next_u32();
    EXPECT_EQ(value, b.next_u32());
    same_seed += value == other_seed.next_u32() ? 1 : 0;
    same_stream += value == other_stream.next_u32() ? 1 : 0;
  }
  EXPECT_LE(same_seed, 1);
  EXPECT_LE(same_stream, 1);
}

TEST(Rng, SeekContinuesWherePositionWasTaken) {
  Rng rng(7);
  for (int i = 0; i < 13; ++i) rng.next_u32();
  const auto position = rng.position();
  const auto next = rng.next_u64();
  Rng later(7);
  later.seek(position);
  EXPECT_EQ(later.next_u64(), next);
}

TEST(Rng, UniformNormalAndBelowHaveTheirMoments) {
  Rng rng(42);
  constexpr int kCount = 100000;
  double sum = 0;
  double normal_sum = 0;
  double normal_square = 0;
  int counts[7] = {};
  for (int i = 0; i < kCount; ++i) {
    const float u = rng.uniform();
    ASSERT_GE(u, 0.0F);
    ASSERT_LT(u, 1.0F);
    sum += static_cast<double>(u);
    const auto z = static_cast<double>(rng.normal());
    normal_sum += z;
    normal_square += z * z;
    ++counts[rng.below(7)];
  }
  // Five standard errors of each mean.
  EXPECT_NEAR(sum / kCount, 0.5, 5 * std::sqrt(1.0 / 12 / kCount));
  EXPECT_NEAR(normal_sum / kCount, 0.0, 5 / std::sqrt(kCount));
  EXPECT_NEAR(normal_square / kCount, 1.0, 5 * std::sqrt(2.0 / kCount));
  for (const int count : counts) {
    EXPECT_NEAR(count, kCount / 7.0, 5 * std::sqrt(kCount * (1.0 / 7) * (6.0 / 7)));
  }
}

TEST(Rng, PermutationHoldsEveryIndexOnce) {
  Rng rng(3);
  auto order = rng.permutation(1000);
  EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
  std::sort(order.begin(), order.end());
  for (std::int64_t i = 0; i < 1000; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
  EXPECT_TRUE(rng.permutation(0).empty());
}

}  // namespace
}  // namespace drrik
