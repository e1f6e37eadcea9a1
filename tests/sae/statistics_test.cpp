#include "drrik/sae/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "drrik/base/error.h"
#include "sae/made.h"

namespace drrik {
namespace {

using testing::make_sae;
using testing::normal_rows;

TEST(FeatureDensity, IsTheShareOfActiveRowsHoweverTheyAreCut) {
  const ReluSae sae = make_sae(6, 15, 1, -0.3F);
  const Tensor x = normal_rows(101, 6);
  Tensor f = Tensor::zeros<float>({101, 15});
  sae.encode(x.mat<float>(), f.mutable_mat<float>());
  const auto whole = get_feature_density(sae, x.mat<float>());
  const auto cut = get_feature_density(sae, blocks_of(x.mat<float>(), 7));
  EXPECT_EQ(whole, cut);
  for (std::int64_t j = 0; j < 15; ++j) {
    int n = 0;
    for (std::int64_t r = 0; r < 101; ++r) n += f.mat<float>()(r, j) > 0.0F ? 1 : 0;
    EXPECT_DOUBLE_EQ(whole[static_cast<std::size_t>(j)], n / 101.0);
  }
  EXPECT_EQ(get_feature_density(sae, MatView<const float>()), std::vector<double>(15, 0.0));
}

TEST(TopExamples, DescendWithEarlierRowsFirstOnTies) {
  const ReluSae sae = make_sae(6, 15, 1, -0.3F);
  const Tensor x = normal_rows(60, 6);
  Tensor f = Tensor::zeros<float>({60, 15});
  sae.encode(x.mat<float>(), f.mutable_mat<float>());
  for (const std::int64_t k : {0, 1, 10, 60, 100}) {
    std::vector<std::pair<float, std::int64_t>> wanted;
    for (std::int64_t r = 0; r < 60; ++r) wanted.emplace_back(-f.mat<float>()(r, 4), r);
    std::sort(wanted.begin(), wanted.end());
    wanted.resize(static_cast<std::size_t>(std::min<std::int64_t>(k, 60)));
    const auto got = get_top_activating_examples(sae, blocks_of(x.mat<float>(), 7), 4, k);
    ASSERT_EQ(got.size(), wanted.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].row, wanted[i].second) << i;
      EXPECT_EQ(got[i].value, -wanted[i].first) << i;
    }
  }
  EXPECT_THROW(get_top_activating_examples(sae, x.mat<float>(), 15), Error);
  EXPECT_THROW(get_top_activating_examples(sae, x.mat<float>(), -1), Error);
  EXPECT_THROW(get_top_activating_examples(sae, x.mat<float>(), 0, -1), Error);
}

}  // namespace
}  // namespace drrik
