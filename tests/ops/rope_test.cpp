#include "drrik/ops/rope.h"

#include "ops/ops_testing.h"

namespace drrik {
namespace {

using testing::Matrix;

std::vector<float> frequencies(std::int64_t pairs) {
  std::vector<float> f;
  for (std::int64_t i = 0; i < pairs; ++i) {
    f.push_back(static_cast<float>(
        std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(pairs))));
  }
  return f;
}

// The rotation in double precision of a float32 angle.
std::int64_t wrong_elements(const Matrix& before, const Matrix& after, std::int64_t heads,
                            std::int64_t pairs, std::span<const std::int32_t> positions,
                            RopeStyle style) {
  const auto f = frequencies(pairs);
  const std::int64_t dim = before.cols() / heads;
  std::int64_t wrong = 0;
  for (std::int64_t r = 0; r < before.rows(); ++r) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t i = 0; i < pairs; ++i) {
        const std::int64_t first = style == RopeStyle::kHalfSplit ? i : 2 * i;
        const std::int64_t second = style == RopeStyle::kHalfSplit ? i + pairs : 2 * i + 1;
        const double angle =
            static_cast<double>(static_cast<float>(positions[static_cast<std::size_t>(r)]) *
                                f[static_cast<std::size_t>(i)]);
        const double a = static_cast<double>(before(r, h * dim + first));
        const double b = static_cast<double>(before(r, h * dim + second));
        // cos and sin rounded once, two products, one sum: 4 eps of |a| + |b|.
        const double tolerance = 4.0 * testing::kEps * (std::fabs(a) + std::fabs(b));
        const double x = a * std::cos(angle) - b * std::sin(angle);
        const double y = b * std::cos(angle) + a * std::sin(angle);
        wrong +=
            testing::near(static_cast<double>(after(r, h * dim + first)), x, tolerance) ? 0 : 1;
        wrong +=
            testing::near(static_cast<double>(after(r, h * dim + second)), y, tolerance) ? 0 : 1;
      }
      for (std::int64_t i = 2 * pairs; i < dim; ++i) {
        wrong += after(r, h * dim + i) == before(r, h * dim + i) ? 0 : 1;
      }
    }
  }
  return wrong;
}

TEST(Rope, RotatesBothStylesAndLeavesTheRest) {
  const std::vector<std::int32_t> positions = {0, 1, 2, 511, 2047, 3};
  testing::for_each_target([&] {
    for (const RopeStyle style : {RopeStyle::kHalfSplit, RopeStyle::kInterleaved}) {
      for (const std::int64_t dim : {2, 20, 64, 80}) {
        for (const std::int64_t pairs : {std::int64_t{1}, dim / 4, dim / 2}) {
          const RopeTable table(frequencies(pairs), 2048);
          const Matrix q = Matrix::random(6, 3 * dim, 5, 1);
          const Matrix k = Matrix::random(6, dim, 2, 2);
          Matrix q2 = q;
          Matrix k2 = k;
          apply_rope(Heads<float>(q2.view(), 3), Heads<float>(k2.view(), 1), table, positions,
                     style);
          EXPECT_TRUE(q2.guards_intact() && k2.guards_intact());
          EXPECT_EQ(wrong_elements(q, q2, 3, pairs, positions, style), 0);
          EXPECT_EQ(wrong_elements(k, k2, 1, pairs, positions, style), 0);
          Matrix alone = q;
          apply_rope(Heads<float>(alone.view(), 3), table, positions, style);
          EXPECT_EQ(wrong_elements(q, alone, 3, pairs, positions, style), 0);
        }
      }
    }
  });
}

TEST(Rope, ComparatorSeesAWrongPositionAndStyle) {
  const std::vector<std::int32_t> positions = {1, 2};
  const std::vector<std::int32_t> shifted = {1, 3};
  const RopeTable table(frequencies(8), 10);
  const Matrix x = Matrix::random(2, 16);
  Matrix y = x;
  apply_rope(Heads<float>(y.view(), 1), table, positions);
  EXPECT_EQ(wrong_elements(x, y, 1, 8, positions, RopeStyle::kHalfSplit), 0);
  EXPECT_GT(wrong_elements(x, y, 1, 8, shifted, RopeStyle::kHalfSplit), 8);
  EXPECT_GT(wrong_elements(x, y, 1, 8, positions, RopeStyle::kInterleaved), 8);
}

TEST(Rope, TableGrowsWithoutChanging) {
  RopeTable table(frequencies(4), 3, 1.5F);
  const std::vector<float> before(table.cos(2), table.cos(2) + 4);
  table.reserve(100);
  EXPECT_GE(table.positions(), 100);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(table.cos(2)[i], before[i]);
  EXPECT_NEAR(static_cast<double>(table.cos(99)[0]), 1.5 * std::cos(99.0), 1e-6);
  EXPECT_NEAR(static_cast<double>(table.sin(99)[0]), 1.5 * std::sin(99.0), 1e-6);
}

TEST(Rope, TableMayStartLater) {
  const RopeTable whole(frequencies(4), 60, 1.5F);
  RopeTable late(frequencies(4), 50, 1.5F, 40);
  late.reserve(60);
  for (std::int64_t p = 40; p < 60; ++p) {
    for (std::int64_t i = 0; i < 4; ++i) {
      EXPECT_EQ(late.cos(p)[i], whole.cos(p)[i]);
      EXPECT_EQ(late.sin(p)[i], whole.sin(p)[i]);
    }
  }
  Matrix x(1, 8);
  const Heads<float> h(x.view(), 1);
  EXPECT_THROW(apply_rope(h, late, std::vector<std::int32_t>{39}), Error);
  apply_rope(h, late, std::vector<std::int32_t>{59});
}

TEST(Rope, RefusesWhatDoesNotFit) {
  const RopeTable table(frequencies(8), 10);
  Matrix x(2, 16);
  const Heads<float> h(x.view(), 1);
  EXPECT_THROW(apply_rope(h, table, std::vector<std::int32_t>{0, 10}), Error);
  EXPECT_THROW(apply_rope(h, table, std::vector<std::int32_t>{0, -1}), Error);
  EXPECT_THROW(apply_rope(h, table, std::vector<std::int32_t>{0}), Error);
  EXPECT_THROW(apply_rope(Heads<float>(x.view(), 2), table, std::vector<std::int32_t>{0, 1}),
               Error);
}

}  // namespace
}  // namespace drrik
