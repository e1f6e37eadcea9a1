#pragma once
// What the tests of products share: matrices as stored tensors, and the oracle.

#include <cmath>
#include <cstdint>
#include <vector>

#include "drrik/tensor/tensor.h"
#include "ops/ops_testing.h"

namespace drrik::testing {

inline Tensor tensor_of(const Matrix& m, DType dtype) {
  Tensor t = Tensor::uninitialized(DType::kF32, {m.rows(), m.cols()});
  const auto to = t.mutable_mat<float>();
  for (std::int64_t r = 0; r < m.rows(); ++r) {
    for (std::int64_t c = 0; c < m.cols(); ++c) to(r, c) = m(r, c);
  }
  return t.to(dtype);
}

inline float rounded(float value, DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return static_cast<float>(BF16(value));
    case DType::kF16:
      return static_cast<float>(F16(value));
    default:
      return value;
  }
}

/// y against Σ_k x[r, k] w[c, k] + bias (+ before) in double precision. A float32 sum of k products
/// in any order differs by at most (k + 2) eps Σ|terms| (Higham, Accuracy and Stability, §3.1).
/// Returns how many elements are outside.
inline std::int64_t wrong_elements(const Matrix& x, const Matrix& w, const std::vector<float>& bias,
                                   const Matrix& before, bool accumulate, const Matrix& y) {
  std::int64_t wrong = 0;
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    for (std::int64_t c = 0; c < w.rows(); ++c) {
      double sum = 0.0;
      double size = 0.0;
      const auto take = [&](double term) {
        sum += term;
        size += std::fabs(term);
      };
      for (std::int64_t k = 0; k < x.cols(); ++k) {
        take(static_cast<double>(x(r, k)) * static_cast<double>(w(c, k)));
      }
      if (!bias.empty()) take(static_cast<double>(bias[static_cast<std::size_t>(c)]));
      if (accumulate) take(static_cast<double>(before(r, c)));
      const double tolerance = (static_cast<double>(x.cols()) + 2.0) * kEps * size;
      wrong += near(static_cast<double>(y(r, c)), sum, tolerance) ? 0 : 1;
    }
  }
  return wrong;
}

inline Matrix rounded(Matrix m, DType dtype) {
  for (std::int64_t r = 0; r < m.rows(); ++r) {
    for (std::int64_t c = 0; c < m.cols(); ++c) m(r, c) = rounded(m(r, c), dtype);
  }
  return m;
}

/// The sides of a product.
struct Case {
  std::int64_t rows, in, out;
};

}  // namespace drrik::testing
