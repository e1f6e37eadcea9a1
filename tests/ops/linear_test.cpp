// linear() and gated_linear() over packed weights.

#include "drrik/ops/gemm.h"

#include <limits>
#include <thread>

#include "drrik/ops/convert.h"
#include "ops/gemm_testing.h"

namespace drrik {
namespace {

using testing::Case;
using testing::Matrix;
using testing::rounded;
using testing::tensor_of;
using testing::wrong_elements;

void check_linear(const Case& s, DType stored, Compute compute, bool with_bias, bool accumulate,
                  WeightLayout layout = WeightLayout::kOutIn) {
  SCOPED_TRACE(str("rows ", s.rows, " in ", s.in, " out ", s.out, " ", dtype_name(stored),
                   compute == Compute::kBF16 ? " bf16" : " f32", with_bias ? " bias" : "",
                   accumulate ? " accumulate" : ""));
  Matrix w = rounded(Matrix::random(s.out, s.in, 0, 11), stored);
  Matrix source = w;
  if (layout == WeightLayout::kInOut) {
    source = Matrix(s.in, s.out);
    for (std::int64_t i = 0; i < s.in; ++i) {
      for (std::int64_t o = 0; o < s.out; ++o) source(i, o) = w(o, i);
    }
  }
  const Weight weight = Weight::pack(tensor_of(source, stored), compute, layout);
  ASSERT_EQ(weight.in(), s.in);
  ASSERT_EQ(weight.out(), s.out);
  Matrix x = Matrix::random(s.rows, s.in, 3, 12);
  std::vector<float> bias;
  if (with_bias) {
    for (std::int64_t i = 0; i < s.out; ++i) bias.push_back(0.1F * static_cast<float>(i % 7));
  }
  const Matrix before = Matrix::random(s.rows, s.out, 5, 13);
  Matrix y = before;
  linear(x.view(), weight, bias, y.view(), {accumulate});
  EXPECT_TRUE(y.guards_intact());
  if (compute == Compute::kBF16) {
    x = rounded(x, DType::kBF16);
    w = rounded(w, DType::kBF16);
  }
  EXPECT_EQ(wrong_elements(x, w, bias, before, accumulate, y), 0);
}

const Case kCases[] = {{1, 1, 1},      {1, 64, 64},    {1, 768, 130},  {2, 63, 65},  {3, 100, 64},
                       {4, 32, 191},   {5, 33, 70},    {8, 65, 128},   {9, 64, 64},  {16, 31, 33},
                       {17, 96, 65},   {64, 128, 192}, {65, 130, 257}, {130, 48, 7}, {9, 1, 1},
                       {33, 2100, 66}, {2, 2100, 66}};

TEST(Linear, MatchesDoublePrecisionForEveryTypeAndShape) {
  for (const Case& s : kCases) {
    for (const DType stored : {DType::kF32, DType::kBF16, DType::kF16}) {
      for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
        check_linear(s, stored, compute, false, false);
      }
    }
  }
}

TEST(Linear, AddsBiasAndAccumulates) {
  for (const Case& s : {Case{1, 64, 70}, Case{7, 33, 65}, Case{20, 100, 129}}) {
    for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
      check_linear(s, DType::kF32, compute, true, false);
      check_linear(s, DType::kBF16, compute, true, true);
      check_linear(s, DType::kF32, compute, false, true);
    }
  }
}

TEST(Linear, TakesConv1dLayout) {
  for (const Case& s : kCases) {
    check_linear(s, DType::kF32, Compute::kF32, true, false, WeightLayout::kInOut);
    check_linear(s, DType::kBF16, Compute::kBF16, false, false, WeightLayout::kInOut);
  }
}

TEST(Linear, EveryInstructionSetAgrees) {
  testing::for_each_target([] {
    for (const Case& s :
         {Case{1, 100, 130}, Case{3, 65, 64}, Case{6, 1100, 96}, Case{12, 40, 70}}) {
      for (const DType stored : {DType::kF32, DType::kBF16, DType::kF16}) {
        check_linear(s, stored, Compute::kF32, true, true);
      }
      check_linear(s, DType::kF32, Compute::kBF16, false, false);
    }
  });
}

TEST(Linear, ComparatorSeesOneMissingTermAndNan) {
  const Matrix x = Matrix::random(2, 300, 0, 1);
  Matrix w = Matrix::random(3, 300, 0, 2);
  const Weight weight = Weight::pack(tensor_of(w, DType::kF32), Compute::kF32);
  Matrix y(2, 3);
  linear(x.view(), weight, {}, y.view());
  EXPECT_EQ(wrong_elements(x, w, {}, y, false, y), 0);
  w(1, 299) = 0.0F;
  EXPECT_EQ(wrong_elements(x, w, {}, y, false, y), 2);
  y(0, 0) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(wrong_elements(x, w, {}, y, false, y), 3);
  y(1, 2) = -y(1, 2);
  EXPECT_EQ(wrong_elements(x, w, {}, y, false, y), 4);
}

TEST(Linear, Bf16InputEqualsFloatInputOfTheSameValues) {
  for (const std::int64_t rows : {3, 40}) {
    const Matrix x = rounded(Matrix::random(rows, 70, 0, 5), DType::kBF16);
    std::vector<BF16> narrow(static_cast<std::size_t>(rows * 70));
    convert(x.view(), MatView<BF16>(narrow.data(), rows, 70));
    for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
      const Weight w = Weight::pack(tensor_of(Matrix::random(65, 70, 0, 6), DType::kF32), compute);
      Matrix a(rows, 65);
      Matrix b(rows, 65);
      linear(x.view(), w, {}, a.view());
      linear(MatView<const BF16>(narrow.data(), rows, 70), w, {}, b.view());
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < 65; ++c) ASSERT_EQ(a(r, c), b(r, c));
      }
    }
  }
}

TEST(Linear, DoesNotDependOnTheNumberOfThreads) {
  const int before = num_threads();
  for (const std::int64_t rows : {1, 5, 100}) {
    const Matrix x = Matrix::random(rows, 700, 0, 5);
    for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
      const Weight w =
          Weight::pack(tensor_of(Matrix::random(320, 700, 0, 6), DType::kF32), compute);
      std::vector<Matrix> results;
      for (const int threads : {1, 2, 3}) {
        set_num_threads(threads);
        results.emplace_back(rows, 320);
        linear(x.view(), w, {}, results.back().view());
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < 320; ++c) {
          ASSERT_EQ(results[0](r, c), results[1](r, c));
          ASSERT_EQ(results[0](r, c), results[2](r, c));
        }
      }
    }
  }
  set_num_threads(before);
}

TEST(Linear, ServesSeveralThreadsAtOnce) {
  const Matrix x = Matrix::random(24, 128, 0, 5);
  const Matrix wm = Matrix::random(96, 128, 0, 6);
  const Weight w = Weight::pack(tensor_of(wm, DType::kF32), Compute::kF32);
  std::vector<Matrix> results(4, Matrix(24, 96));
  std::vector<std::thread> threads;
  for (Matrix& y : results) {
    threads.emplace_back([&x, &w, &y] {
      for (int i = 0; i < 20; ++i) linear(x.view(), w, {}, y.view());
    });
  }
  for (auto& t : threads) t.join();
  for (const Matrix& y : results) EXPECT_EQ(wrong_elements(x, wm, {}, y, false, y), 0);
}

TEST(Linear, EmptySidesAreNoWork) {
  const Weight w = Weight::pack(Tensor::zeros<float>({5, 3}), Compute::kF32);
  Matrix none(0, 3);
  Matrix out(0, 5);
  linear(none.view(), w, {}, out.view());
  const Weight no_in = Weight::pack(Tensor::zeros<float>({4, 0}), Compute::kF32);
  Matrix y = Matrix::random(2, 4);
  const std::vector<float> bias = {1, 2, 3, 4};
  linear(Matrix(2, 0).view(), no_in, bias, y.view());
  EXPECT_EQ(y(1, 2), 3.0F);
}

TEST(Linear, RefusesWhatDoesNotFit) {
  const Weight w = Weight::pack(Tensor::zeros<float>({5, 3}), Compute::kF32);
  Matrix x(2, 3);
  Matrix y(2, 5);
  const std::vector<float> short_bias(4);
  EXPECT_THROW(linear(Matrix(2, 4).view(), w, {}, y.view()), Error);
  EXPECT_THROW(linear(x.view(), w, {}, Matrix(2, 4).view()), Error);
  EXPECT_THROW(linear(x.view(), w, {}, Matrix(3, 5).view()), Error);
  EXPECT_THROW(linear(x.view(), w, short_bias, y.view()), Error);
  EXPECT_THROW(linear(x.view(), Weight(), {}, y.view()), Error);
  EXPECT_THROW(Weight::pack(Tensor::zeros<float>({5}), Compute::kF32), Error);
  EXPECT_THROW(Weight::pack(Tensor::zeros<std::int32_t>({5, 3}), Compute::kF32), Error);
  EXPECT_THROW(Weight::stack({}, Compute::kF32), Error);
}

// Against linear() and gate_mul(), each proven by itself: the fused kernel takes the same steps.
TEST(GatedLinear, EqualsItsTwoSteps) {
  testing::for_each_target([] {
    for (const Case& s : {Case{1, 64, 128}, Case{7, 33, 256}, Case{20, 100, 128}, Case{70, 64, 384},
                          Case{5, 40, 66}, Case{3, 2100, 128}, Case{0, 16, 128}}) {
      SCOPED_TRACE(str("rows ", s.rows, " in ", s.in, " out ", s.out));
      std::vector<float> bias;
      for (std::int64_t i = 0; i < s.out; ++i) bias.push_back(0.1F * static_cast<float>(i % 7));
      const Matrix x = Matrix::random(s.rows, s.in, 3, 1);
      std::vector<BF16> narrow(static_cast<std::size_t>(s.rows * s.in));
      const MatView<BF16> xb(narrow.data(), s.rows, s.in);
      convert(x.view(), xb);
      const Tensor stored = tensor_of(Matrix::random(s.out, s.in, 0, 2, 0.1F), DType::kF32);
      const std::int64_t half = s.out / 2;
      for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
        const Weight w = Weight::pack(stored, compute);
        Matrix both(s.rows, s.out);
        linear(x.view(), w, bias, both.view());
        Matrix wanted(s.rows, half);
        gate_mul(Activation::kSilu, both.view().cols_range(0, half),
                 both.view().cols_range(half, half), wanted.view());
        Matrix got(s.rows, half, 2);
        gated_linear(x.view(), w, bias, Activation::kSilu, got.view());
        EXPECT_TRUE(got.guards_intact());
        linear(MatView<const BF16>(xb), w, bias, both.view());
        gate_mul(Activation::kSilu, both.view().cols_range(0, half),
                 both.view().cols_range(half, half), both.view().cols_range(0, half));
        std::vector<BF16> out(static_cast<std::size_t>(s.rows * half));
        gated_linear(MatView<const BF16>(xb), w, bias, Activation::kSilu,
                     MatView<BF16>(out.data(), s.rows, half));
        for (std::int64_t r = 0; r < s.rows; ++r) {
          for (std::int64_t c = 0; c < half; ++c) {
            ASSERT_EQ(got(r, c), wanted(r, c));
            ASSERT_EQ(out[static_cast<std::size_t>(r * half + c)].bits, BF16(both(r, c)).bits);
          }
        }
      }
    }
  });
  const Weight w = Weight::pack(Tensor::zeros<float>({6, 3}), Compute::kF32);
  Matrix x(2, 3);
  EXPECT_THROW(gated_linear(x.view(), w, {}, Activation::kSilu, Matrix(2, 6).view()), Error);
  EXPECT_THROW(gated_linear(x.view(), w, {}, Activation::kSilu, Matrix(1, 3).view()), Error);
  EXPECT_THROW(
      gated_linear(x.view(), w, std::vector<float>(3), Activation::kSilu, Matrix(2, 3).view()),
      Error);
}

}  // namespace
}  // namespace drrik
