#include "drrik/ops/convert.h"

#include <algorithm>
#include <bit>

#include "ops/ops_testing.h"

namespace drrik {
namespace {

using testing::Matrix;

// Every exponent, ties, denormals, infinities, NaN.
std::vector<float> awkward_floats() {
  std::vector<float> x;
  Rng rng(3);
  for (std::uint32_t e = 0; e < 512; ++e) {
    for (const std::uint32_t m : {0U, 1U, 0x7FFFU, 0x8000U, 0x8001U, 0x18000U, 0xFFFU, 0x1000U,
                                  0x1001U, 0x3000U, 0x7FFFFFU, 0x7FF000U}) {
      x.push_back(std::bit_cast<float>((e << 23) | m));
    }
    x.push_back(std::bit_cast<float>((e << 23) | (rng.next_u32() & 0x7FFFFFU)));
  }
  return x;
}

TEST(Convert, RoundsAsTheScalarTypesDo) {
  const auto x = awkward_floats();
  testing::for_each_target([&] {
    std::vector<BF16> b(x.size());
    std::vector<F16> h(x.size());
    convert(x, std::span<BF16>(b));
    convert(x, std::span<F16>(h));
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(b[i].bits, BF16(x[i]).bits) << x[i];
      if (std::isnan(x[i])) {
        ASSERT_TRUE(std::isnan(static_cast<float>(h[i]))) << std::bit_cast<std::uint32_t>(x[i]);
      } else {
        ASSERT_EQ(h[i].bits, F16(x[i]).bits) << x[i] << " " << i;
      }
    }
  });
}

TEST(Convert, WidensExactly) {
  std::vector<BF16> b(65536);
  std::vector<F16> h(65536);
  for (std::uint32_t i = 0; i < 65536; ++i) {
    b[i].bits = static_cast<std::uint16_t>(i);
    h[i].bits = static_cast<std::uint16_t>(i);
  }
  testing::for_each_target([&] {
    std::vector<float> from_b(65536);
    std::vector<float> from_h(65536);
    convert(std::span<const BF16>(b), std::span<float>(from_b));
    convert(std::span<const F16>(h), std::span<float>(from_h));
    for (std::size_t i = 0; i < 65536; ++i) {
      const auto wanted_b = static_cast<float>(b[i]);
      const auto wanted_h = static_cast<float>(h[i]);
      ASSERT_TRUE(from_b[i] == wanted_b || (std::isnan(from_b[i]) && std::isnan(wanted_b))) << i;
      ASSERT_TRUE(from_h[i] == wanted_h || (std::isnan(from_h[i]) && std::isnan(wanted_h))) << i;
    }
  });
}

TEST(Convert, HonoursStrides) {
  const Matrix x = Matrix::random(4, 37, 3, 1);
  std::vector<BF16> narrow(static_cast<std::size_t>(4 * 40));
  const MatView<BF16> view(narrow.data(), 4, 37, 40);
  convert(x.view(), view);
  Matrix back(4, 37, 2);
  convert(MatView<const BF16>(view), back.view());
  EXPECT_TRUE(back.guards_intact());
  Matrix same(4, 37, 1);
  copy(x.view(), same.view());
  for (std::int64_t r = 0; r < 4; ++r) {
    for (std::int64_t c = 0; c < 37; ++c) {
      EXPECT_EQ(back(r, c), static_cast<float>(BF16(x(r, c))));
      EXPECT_EQ(same(r, c), x(r, c));
    }
    EXPECT_EQ(narrow[static_cast<std::size_t>(r * 40 + 38)].bits, 0);
  }
  EXPECT_THROW(convert(x.view(), MatView<BF16>(narrow.data(), 4, 36)), Error);
  EXPECT_THROW(convert(std::span<const float>(), std::span<BF16>(narrow)), Error);
}

TEST(Embedding, GathersEveryType) {
  const Matrix table = Matrix::random(9, 35, 0, 1);
  const std::vector<std::int32_t> ids = {8, 0, 3, 3};
  Tensor t = Tensor::uninitialized(DType::kF32, {9, 35});
  for (std::int64_t r = 0; r < 9; ++r) {
    for (std::int64_t c = 0; c < 35; ++c) t.mutable_mat<float>()(r, c) = table(r, c);
  }
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const Tensor stored = t.to(dtype);
    const Tensor exact = stored.to(DType::kF32);
    Matrix out(4, 35, 2);
    embedding(stored, ids, out.view(), 2.0F);
    Matrix sum = out;
    add_embedding(stored, ids, sum.view());
    EXPECT_TRUE(out.guards_intact());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      for (std::int64_t c = 0; c < 35; ++c) {
        const auto r = static_cast<std::int64_t>(i);
        const float value = exact.mat<float>()(ids[i], c);
        EXPECT_EQ(out(r, c), 2.0F * value);
        EXPECT_EQ(sum(r, c), 2.0F * value + value);
      }
    }
  }
  Matrix out(1, 35);
  EXPECT_THROW(embedding(t, std::vector<std::int32_t>{9}, out.view()), Error);
  EXPECT_THROW(embedding(t, std::vector<std::int32_t>{-1}, out.view()), Error);
  EXPECT_THROW(embedding(t, ids, out.view()), Error);
  EXPECT_THROW(
      embedding(Tensor::zeros<std::int32_t>({9, 35}), std::vector<std::int32_t>{0}, out.view()),
      Error);
  EXPECT_THROW(embedding(Tensor::zeros<float>({35}), std::vector<std::int32_t>{0}, out.view()),
               Error);
}

TEST(Elementwise, SumsAndScales) {
  testing::for_each_target([] {
    for (const std::int64_t cols : {0, 1, 16, 33, 300}) {
      const Matrix x = Matrix::random(7, cols, 2, 1);
      const Matrix y = Matrix::random(7, cols, 3, 2);
      std::vector<float> v;
      for (std::int64_t c = 0; c < cols; ++c) v.push_back(0.5F * static_cast<float>(c));
      Matrix added = y;
      add(x.view(), added.view());
      Matrix scaled = y;
      axpy(-2.0F, x.view(), scaled.view());
      Matrix rows = y;
      add_row(v, rows.view());
      Matrix times = y;
      scale(3.0F, times.view());
      Matrix clamped = y;
      clamp(0.75F, clamped.view());
      std::vector<float> sums(static_cast<std::size_t>(cols));
      sum_rows(x.view(), sums);
      EXPECT_TRUE(added.guards_intact() && scaled.guards_intact() && rows.guards_intact() &&
                  times.guards_intact() && clamped.guards_intact());
      for (std::int64_t c = 0; c < cols; ++c) {
        double total = 0.0;
        for (std::int64_t r = 0; r < 7; ++r) {
          EXPECT_EQ(added(r, c), y(r, c) + x(r, c));
          EXPECT_NEAR(static_cast<double>(scaled(r, c)),
                      static_cast<double>(y(r, c)) - 2.0 * static_cast<double>(x(r, c)), 1e-6);
          EXPECT_EQ(rows(r, c), y(r, c) + v[static_cast<std::size_t>(c)]);
          EXPECT_EQ(times(r, c), 3.0F * y(r, c));
          EXPECT_EQ(clamped(r, c), std::clamp(y(r, c), -0.75F, 0.75F));
          total += static_cast<double>(x(r, c));
        }
        EXPECT_NEAR(static_cast<double>(sums[static_cast<std::size_t>(c)]), total, 1e-5);
      }
    }
  });
  Matrix a(2, 3);
  a(0, 0) = std::numeric_limits<float>::quiet_NaN();
  a(0, 1) = -std::numeric_limits<float>::infinity();
  clamp(2.0F, a.view());
  EXPECT_TRUE(std::isnan(a(0, 0)));
  EXPECT_EQ(a(0, 1), -2.0F);
  EXPECT_THROW(add(a.view(), Matrix(3, 2).view()), Error);
  EXPECT_THROW(add_row(std::vector<float>(2), a.view()), Error);
  std::vector<float> wrong(2);
  EXPECT_THROW(sum_rows(a.view(), wrong), Error);
}

TEST(Elementwise, DotOverManyBlocksIsTheSameForEveryThreadCount) {
  const Matrix a = Matrix::random(1, 100003, 0, 1);
  const Matrix b = Matrix::random(1, 100003, 0, 2);
  double wanted = 0.0;
  for (std::int64_t i = 0; i < a.cols(); ++i) {
    wanted += static_cast<double>(a(0, i)) * static_cast<double>(b(0, i));
  }
  const int before = num_threads();
  std::vector<double> results;
  for (const int threads : {1, 2, 7}) {
    set_num_threads(threads);
    results.push_back(dot(a.view().row(0), b.view().row(0)));
  }
  set_num_threads(before);
  // Blocks of 8192 in 64 running sums: 128 eps of Σ|ab|, about 64k here.
  EXPECT_NEAR(results[0], wanted, 128.0 * testing::kEps * 65000.0);
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
  EXPECT_THROW(dot(a.view().row(0), {}), Error);
  EXPECT_EQ(sum_squares({}), 0.0);
}

TEST(Nonfinite, FindsOneAnywhere) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  testing::for_each_target([&] {
    for (const std::size_t n : {1, 15, 16, 17, 100}) {
      for (const float bad : {nan, inf, -inf}) {
        std::vector<float> x(n, std::numeric_limits<float>::max());
        EXPECT_FALSE(has_nonfinite(x));
        for (std::size_t i = 0; i < n; ++i) {
          std::vector<float> y = x;
          y[i] = bad;
          ASSERT_TRUE(has_nonfinite(y)) << i;
        }
      }
    }
  });
  EXPECT_FALSE(has_nonfinite(std::span<const float>()));
  std::vector<float> large(20000);
  large.back() = nan;
  EXPECT_TRUE(has_nonfinite(large));
  // What lies between rows does not count.
  std::vector<float> gapped = {1, 2, nan, 3, 4, nan};
  EXPECT_FALSE(has_nonfinite(MatView<const float>(gapped.data(), 2, 2, 3)));
  EXPECT_TRUE(has_nonfinite(MatView<const float>(gapped.data(), 2, 3, 3)));
}

}  // namespace
}  // namespace drrik
