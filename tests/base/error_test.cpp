#include "drrik/base/error.h"

#include <gtest/gtest.h>

#include "drrik/base/checked.h"
#include "drrik/base/interrupt.h"

namespace drrik {
namespace {

TEST(Error, CarriesKindMessageAndContext) {
  try {
    try {
      throw_data("tensor '", "w", "': got ", 3, ", wanted ", 4);
    } catch (Error& error) {
      throw error.add_context("model.safetensors");
    }
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    EXPECT_STREQ(error.what(), "model.safetensors: tensor 'w': got 3, wanted 4");
  }
}

TEST(Error, KindsAreTheExitCodesOfTheContract) {
  EXPECT_EQ(static_cast<int>(ErrorKind::kUsage), 2);
  EXPECT_EQ(static_cast<int>(ErrorKind::kData), 3);
  EXPECT_EQ(static_cast<int>(ErrorKind::kIo), 4);
  EXPECT_EQ(static_cast<int>(ErrorKind::kNumeric), 5);
}

TEST(NearestName, FindsTypingMistakesAndNothingFarAway) {
  const std::vector<std::string> names = {"mlp_out", "mlp_post", "resid_pre"};
  EXPECT_EQ(nearest_name("mpl_out", names), "mlp_out");
  EXPECT_EQ(nearest_name("MLP_POST", names), "mlp_post");
  EXPECT_EQ(nearest_name("zebra", names), "");
  EXPECT_EQ(nearest_name(std::string(1 << 20, 'x'), names), "");
  EXPECT_EQ(did_you_mean("resid_per", names), "; did you mean 'resid_pre'?");
}

TEST(Checked, OverflowIsAnAnswer) {
  EXPECT_EQ(checked_mul<std::int64_t>(6, 7), 42);
  EXPECT_FALSE(checked_mul(std::int64_t{1} << 62, std::int64_t{2}));
  EXPECT_FALSE(checked_add(~std::size_t{0}, std::size_t{1}));
}

TEST(Interrupt, ThrowsOnlyWhenTheFlagIsSet) {
  EXPECT_NO_THROW(check_interrupt("resting"));
  set_interrupted(true);
  try {
    check_interrupt("training");
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInterrupted);
    EXPECT_STREQ(error.what(), "interrupted while training");
  }
  set_interrupted(false);
}

}  // namespace
}  // namespace drrik
