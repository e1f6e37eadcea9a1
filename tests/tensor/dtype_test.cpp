#include "drrik/tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace drrik {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// Every half value to float and back is the identity (NaN payloads aside).
TEST(F16, RoundTripsEveryValue) {
  for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
    F16 half;
    half.bits = static_cast<std::uint16_t>(bits);
    const auto value = static_cast<float>(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(static_cast<float>(F16(value))));
    } else {
      ASSERT_EQ(F16(value).bits, half.bits) << bits;
    }
  }
}

TEST(F16, RoundsToNearestEven) {
  EXPECT_EQ(static_cast<float>(F16(1.0F + 0x1p-11F)), 1.0F);            // tie to even
  EXPECT_EQ(static_cast<float>(F16(1.0F + 0x3p-11F)), 1.0F + 0x1p-9F);  // tie to even, up
  EXPECT_EQ(static_cast<float>(F16(1.0F + 0x1.1p-11F)), 1.0F + 0x1p-10F);
  EXPECT_EQ(static_cast<float>(F16(65519.0F)), 65504.0F);
  EXPECT_EQ(static_cast<float>(F16(65520.0F)), kInf);
  EXPECT_EQ(static_cast<float>(F16(-1e9F)), -kInf);
  EXPECT_EQ(static_cast<float>(F16(0x1p-25F)), 0.0F);  // tie to even
  EXPECT_EQ(static_cast<float>(F16(0x1.8p-25F)), 0x1p-24F);
}

TEST(BF16, RoundsToNearestEvenAndKeepsSpecials) {
  EXPECT_EQ(static_cast<float>(BF16(1.0F + 0x1p-8F)), 1.0F);
  EXPECT_EQ(static_cast<float>(BF16(1.0F + 0x3p-8F)), 1.0F + 0x1p-6F);
  EXPECT_EQ(static_cast<float>(BF16(-kInf)), -kInf);
  EXPECT_TRUE(std::isnan(static_cast<float>(BF16(std::nanf("")))));
  // A NaN whose payload lies in the dropped bits must not become infinity.
  EXPECT_TRUE(std::isnan(static_cast<float>(BF16(std::bit_cast<float>(0x7F800001U)))));
}

TEST(DType, NamesGoBothWays) {
  for (int i = 0; i <= static_cast<int>(DType::kF8E8M0); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(find_dtype(dtype_name(dtype)), dtype);
    EXPECT_GT(dtype_size(dtype), 0U);
  }
  EXPECT_EQ(find_dtype("torch.bfloat16"), DType::kBF16);
  EXPECT_EQ(find_dtype("half"), DType::kF16);
  EXPECT_FALSE(find_dtype("float7"));
}

}  // namespace
}  // namespace drrik
