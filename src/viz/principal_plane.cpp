// Two principal components, by Eigen.

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>

#include "drrik/base/rng.h"
#include "drrik/base/threads.h"
#include "drrik/ops/gemm.h"
#include "viz/directions.h"

namespace drrik::detail {
namespace {

using Matrix = Eigen::MatrixXd;

// Widths up to which all components are computed; it takes about a second there.
constexpr std::int64_t kFullWidth = 1024;
constexpr int kBlock = 16;
constexpr int kRounds = 60;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// [d, 2]: eigenvectors of the two largest eigenvalues, largest first.
Matrix leading_pair(const Matrix& covariance) {
  const Eigen::Index d = covariance.rows();
  Matrix basis;
  if (d <= kFullWidth) {
    const Eigen::SelfAdjointEigenSolver<Matrix> solver(covariance);
    basis = solver.eigenvectors().rightCols(std::min<Eigen::Index>(d, 2)).rowwise().reverse();
  } else {
    // Subspace iteration: after r rounds a component's error is (λ_17 / λ_2)^r.
    Rng rng(0, 0x706c616eULL);
    basis.resize(d, kBlock);
    for (Eigen::Index i = 0; i < basis.size(); ++i) {
      basis.data()[i] = static_cast<double>(rng.normal());
    }
    for (int round = 0; round < kRounds; ++round) {
      const Eigen::HouseholderQR<Matrix> qr(covariance * basis);
      basis = qr.householderQ() * Matrix::Identity(d, kBlock);
    }
    const Eigen::SelfAdjointEigenSolver<Matrix> small(basis.transpose() * covariance * basis);
    basis = (basis * small.eigenvectors().rightCols(2)).rowwise().reverse().eval();
  }
  for (Eigen::Index c = 0; c < basis.cols(); ++c) {
    Eigen::Index largest = 0;
    basis.col(c).cwiseAbs().maxCoeff(&largest);
    if (basis(largest, c) < 0.0) basis.col(c) *= -1.0;
  }
  return basis;
}

}  // namespace

PlaneMap principal_plane(MatView<const float> rows) {
  const std::int64_t n = rows.rows();
  const std::int64_t d = rows.cols();
  PlaneMap map;
  map.x.assign(at(n), 0.0F);
  map.y.assign(at(n), 0.0F);
  if (n < 2 || d == 0) return map;

  std::vector<double> mean(at(d), 0.0);
  for (std::int64_t r = 0; r < n; ++r) {
    const auto row = rows.row(r);
    for (std::size_t c = 0; c < row.size(); ++c) mean[c] += static_cast<double>(row[c]);
  }
  for (double& value : mean) value /= static_cast<double>(n);
  Tensor centred = Tensor::uninitialized(DType::kF32, {n, d});
  const auto x = centred.mutable_mat<float>();
  parallel_for(n, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      for (std::int64_t c = 0; c < d; ++c) {
        x(r, c) = static_cast<float>(static_cast<double>(rows(r, c)) - mean[at(c)]);
      }
    }
  });
  Tensor products = Tensor::uninitialized(DType::kF32, {d, d});
  const auto p = products.mutable_mat<float>();
  matmul(x, Trans::kYes, x, Trans::kNo, p);
  Matrix covariance(d, d);
  for (std::int64_t i = 0; i < d; ++i) {
    for (std::int64_t j = 0; j < d; ++j) {
      covariance(i, j) = (static_cast<double>(p(i, j)) + static_cast<double>(p(j, i))) / 2.0;
    }
  }
  const double total = covariance.trace();
  if (!(total > 0.0) || !std::isfinite(total)) return map;
  const Matrix pair = leading_pair(covariance);
  for (Eigen::Index c = 0; c < pair.cols(); ++c) {
    map.explained[at(c)] = (pair.col(c).transpose() * covariance * pair.col(c)).value() / total;
    std::vector<float>& to = c == 0 ? map.x : map.y;
    parallel_for(n, 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        double sum = 0.0;
        for (std::int64_t i = 0; i < d; ++i) sum += static_cast<double>(x(r, i)) * pair(i, c);
        to[at(r)] = static_cast<float>(sum);
      }
    });
  }
  return map;
}

}  // namespace drrik::detail
