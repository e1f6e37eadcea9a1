#include "train/median.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "drrik/base/error.h"
#include "train/memory_rows.h"
#include "activations/row_order.h"

namespace drrik {
namespace {

using testing::MemoryRows;

TEST(ColumnMedians, AreTheLowerMiddleValueExactly) {
  for (const std::int64_t n : {1, 2, 3, 10, 1001}) {
    Rng rng(static_cast<std::uint64_t>(n));
    Tensor rows = Tensor::zeros<float>({n, 5});
    for (float& v : rows.mutable_data<float>()) v = 3.0F * rng.normal();
    if (n > 3) {
      rows.mutable_mat<float>()(0, 0) = -0.0F;
      rows.mutable_mat<float>()(1, 1) = 1e-40F;  // subnormal
      rows.mutable_mat<float>()(2, 2) = -3e38F;
    }
    const MemoryRows source(rows.clone());
    const std::vector<float> got = column_medians(source, n, 1 << 20, 1);
    for (std::int64_t c = 0; c < 5; ++c) {
      std::vector<float> column;
      for (std::int64_t r = 0; r < n; ++r) column.push_back(rows.mat<float>()(r, c));
      std::sort(column.begin(), column.end());
      EXPECT_EQ(got[static_cast<std::size_t>(c)], column[static_cast<std::size_t>((n - 1) / 2)])
          << n << " rows, column " << c;
    }
  }
}

TEST(ColumnMedians, CountOnlyTheTrainingRows) {
  Tensor rows = Tensor::zeros<float>({10, 1});
  for (std::int64_t r = 0; r < 10; ++r) {
    rows.mutable_mat<float>()(r, 0) = static_cast<float>(r < 5 ? r : 1000);
  }
  EXPECT_EQ(column_medians(MemoryRows(std::move(rows)), 5, 100, 1)[0], 2.0F);
}

TEST(ColumnMedians, SampleWithoutRepeatsWhenThereAreTooManyRows) {
  Tensor rows = Tensor::zeros<float>({5000, 1});
  for (std::int64_t r = 0; r < 5000; ++r) {
    rows.mutable_mat<float>()(r, 0) = static_cast<float>(r);
  }
  const MemoryRows source(std::move(rows));
  const float a = column_medians(source, 5000, 1000, 1)[0];
  EXPECT_EQ(a, column_medians(source, 5000, 1000, 1)[0]);
  // The median of 1000 uniform ranks out of 5000 has a standard deviation of about 71.
  EXPECT_NEAR(a, 2500.0F, 350.0F);
}

TEST(ColumnMedians, NameRowAndColumnOfNan) {
  Tensor rows = Tensor::zeros<float>({6, 3});
  rows.mutable_mat<float>()(4, 2) = std::nanf("");
  try {
    column_medians(MemoryRows(std::move(rows)), 6, 100, 1);
    FAIL() << "NaN was taken";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kData);
    EXPECT_NE(std::string(e.what()).find("row 4, column 2"), std::string::npos) << e.what();
  }
}

TEST(RowOrder, IsAPermutationThatSeedAndEpochDecide) {
  for (const std::int64_t n : {1, 2, 3, 4, 5, 17, 1000, 4097}) {
    const RowOrder order(n, 1, 0);
    std::set<std::int64_t> seen;
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t to = order(i);
      EXPECT_GE(to, 0);
      EXPECT_LT(to, n);
      seen.insert(to);
    }
    EXPECT_EQ(static_cast<std::int64_t>(seen.size()), n);
  }
  const auto first = [](std::uint64_t seed, std::uint64_t epoch) {
    const RowOrder order(1000, seed, epoch);
    std::vector<std::int64_t> out;
    for (std::int64_t i = 0; i < 1000; ++i) out.push_back(order(i));
    return out;
  };
  EXPECT_EQ(first(1, 0), first(1, 0));
  EXPECT_NE(first(1, 0), first(2, 0));
  EXPECT_NE(first(1, 0), first(1, 1));
}

TEST(RowOrder, MixesWell) {
  // Displacement of a random permutation of n is n/3 on average, standard error about n/4/√n.
  const RowOrder order(10000, 7, 3);
  double sum = 0.0;
  int rising = 0;
  for (std::int64_t i = 0; i < 10000; ++i) {
    sum += std::abs(static_cast<double>(order(i) - i));
    if (i > 0 && order(i) > order(i - 1)) ++rising;
  }
  EXPECT_NEAR(sum / 10000, 3333.0, 120.0);
  EXPECT_NEAR(rising, 5000, 250);
}

}  // namespace
}  // namespace drrik
