#include "drrik/eval/geometry.h"

#include <gtest/gtest.h>

#include <cmath>

#include "drrik/base/rng.h"
#include "drrik/sae/relu_sae.h"
#include "eval/fixture.h"

namespace drrik {
namespace {

using testing::Fixture;

// Products of float32 unit vectors: d ε / 2 each.
TEST(Geometry, IsThatOfNumpy) {
  const Fixture fixture("metrics");
  const DecoderGeometry geometry = decoder_geometry(fixture.sae());
  EXPECT_NEAR(geometry.norm_mean, fixture.number("norm_mean"), 1e-6);
  EXPECT_NEAR(geometry.max_cosine_mean, fixture.number("redundancy"), 1e-6);
  EXPECT_NEAR(geometry.max_cosine_over_90_percent, fixture.number("redundant"), 1e-12);
  const auto wanted = fixture.doubles("max_cosine");
  ASSERT_EQ(geometry.max_cosine.size(), wanted.size());
  for (std::size_t j = 0; j < wanted.size(); ++j) {
    EXPECT_NEAR(geometry.max_cosine[j], wanted[j], 1e-6) << j;
  }
  EXPECT_TRUE(std::isnan(geometry.encoder_cosine_mean));  // the fake one names no encoder
}

ReluSae made(std::int64_t latents) {
  Rng rng(5);
  return ReluSae::random({.activation_dim = 24, .hidden_dim = latents}, rng);
}

// Several tiles in each direction, one of them cut, against the plain double loop.
TEST(Geometry, TilesGiveWhatAllPairsDo) {
  constexpr std::int64_t kLatents = 2500;
  const ReluSae sae = made(kLatents);
  const DecoderGeometry geometry = decoder_geometry(sae);
  for (const std::int64_t j : {0, 1023, 1024, 2047, 2048, 2499}) {
    double most = 0.0;
    for (std::int64_t i = 0; i < kLatents; ++i) {
      if (i == j) continue;
      double product = 0.0;
      for (std::int64_t c = 0; c < 24; ++c) {
        product +=
            static_cast<double>(sae.decoder()(i, c)) * static_cast<double>(sae.decoder()(j, c));
      }
      most = std::max(most, std::fabs(product));
    }
    EXPECT_NEAR(geometry.max_cosine[static_cast<std::size_t>(j)], most, 1e-6) << j;
  }
  EXPECT_NEAR(geometry.norm_min, 1.0, 1e-6);
  EXPECT_NEAR(geometry.norm_max, 1.0, 1e-6);
}

TEST(Geometry, ASampleOfLatentsIsComparedWithAllOthers) {
  const ReluSae sae = made(2500);
  const DecoderGeometry all = decoder_geometry(sae);
  const DecoderGeometry some = decoder_geometry(sae, 500);
  EXPECT_EQ(some.latents_compared, 100);
  for (std::size_t i = 0; i < some.latents.size(); ++i) {
    EXPECT_NEAR(some.max_cosine[i], all.max_cosine[static_cast<std::size_t>(some.latents[i])],
                1e-6);
  }
}

TEST(Geometry, EncoderAndDecoderAreCompared) {
  ReluSae sae = made(3);
  for (std::int64_t c = 0; c < 24; ++c) {
    sae.encoder()(0, c) = 3.0F * sae.decoder()(0, c);
    sae.encoder()(1, c) = -sae.decoder()(1, c);
    sae.encoder()(2, c) = sae.decoder()(2, c);
    sae.decoder()(2, c) = 0.0F;
  }
  const DecoderGeometry geometry = decoder_geometry(sae);
  EXPECT_NEAR(geometry.encoder_cosine_mean, 0.0, 1e-6);  // 1 and −1; the third has no direction
  EXPECT_NEAR(geometry.encoder_cosine_min, -1.0, 1e-6);
  EXPECT_EQ(geometry.zero_directions, 1);
  EXPECT_EQ(geometry.norm_min, 0.0);
}

TEST(Geometry, OneLatentHasNoOther) {
  const DecoderGeometry geometry = decoder_geometry(made(1));
  EXPECT_TRUE(std::isnan(geometry.max_cosine_mean));
  EXPECT_EQ(geometry.latents_compared, 1);
}

}  // namespace
}  // namespace drrik
