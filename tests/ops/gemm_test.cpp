// matmul() and the rates that are measured.

#include "drrik/ops/gemm.h"

#include "ops/gemm_testing.h"

namespace drrik {
namespace {

using testing::Case;
using testing::Matrix;
using testing::rounded;
using testing::wrong_elements;

TEST(Matmul, EveryTransposition) {
  for (const Case& s : {Case{1, 1, 1}, Case{5, 33, 17}, Case{64, 64, 64}, Case{70, 130, 65}}) {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        for (const float beta : {0.0F, 1.0F}) {
          for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
            SCOPED_TRACE(str(s.rows, " ", s.in, " ", s.out, " ", ta, tb, " ", beta));
            Matrix x = Matrix::random(s.rows, s.in, 0, 1);
            Matrix w = Matrix::random(s.out, s.in, 0, 2);
            Matrix a(ta ? s.in : s.rows, ta ? s.rows : s.in, 4);
            Matrix b(tb ? s.out : s.in, tb ? s.in : s.out, 2);
            for (std::int64_t i = 0; i < s.in; ++i) {
              for (std::int64_t r = 0; r < s.rows; ++r) (ta ? a(i, r) : a(r, i)) = x(r, i);
              for (std::int64_t c = 0; c < s.out; ++c) (tb ? b(c, i) : b(i, c)) = w(c, i);
            }
            const Matrix before = Matrix::random(s.rows, s.out, 3, 3);
            Matrix c = before;
            matmul(a.view(), ta ? Trans::kYes : Trans::kNo, b.view(), tb ? Trans::kYes : Trans::kNo,
                   c.view(), beta, compute);
            EXPECT_TRUE(c.guards_intact());
            if (compute == Compute::kBF16) {
              x = rounded(x, DType::kBF16);
              w = rounded(w, DType::kBF16);
            }
            EXPECT_EQ(wrong_elements(x, w, {}, before, beta != 0.0F, c), 0);
          }
        }
      }
    }
  }
}

TEST(Matmul, RefusesWhatDoesNotFit) {
  Matrix a(2, 3);
  Matrix c(2, 4);
  EXPECT_THROW(matmul(a.view(), Trans::kNo, Matrix(4, 4).view(), Trans::kNo, c.view(), 0.0F),
               Error);
  EXPECT_THROW(matmul(a.view(), Trans::kNo, Matrix(3, 4).view(), Trans::kNo, c.view(), 0.5F),
               Error);
  matmul(Matrix(2, 0).view(), Trans::kNo, Matrix(0, 4).view(), Trans::kNo, c.view(), 0.0F);
  EXPECT_EQ(c(1, 3), 0.0F);
}

TEST(Measure, RatesArePositiveAndFinite) {
  const GemmShape shape[] = {{64, 64, 64, 2}};
  for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
    const double rate = measure_gemm_rate(shape, compute, 0.01);
    EXPECT_GT(rate, 1e6);
    EXPECT_LT(rate, 1e15);
  }
  const double bandwidth = measure_stream_bandwidth(std::size_t{1} << 22, 0.01);
  EXPECT_GT(bandwidth, 1e7);
  EXPECT_LT(bandwidth, 1e14);
}

}  // namespace
}  // namespace drrik
