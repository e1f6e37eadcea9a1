#pragma once
// What the tests of this room share: random matrices, every instruction set, comparison with a
// double-precision oracle.

#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "drrik/base/rng.h"
#include "drrik/base/threads.h"
#include "drrik/tensor/mat_view.h"

namespace drrik::testing {

/// Every Highway target that this build has and this machine runs, worst included.
inline std::vector<std::int64_t> all_targets() {
  hwy::SetSupportedTargetsForTest(0);
  std::vector<std::int64_t> found;
  const std::int64_t supported = hwy::SupportedTargets() & HWY_TARGETS;
  for (int bit = 0; bit < 63; ++bit) {
    const std::int64_t target = std::int64_t{1} << bit;
    if ((supported & target) != 0) found.push_back(target);
  }
  return found;
}

/// Calls f once per target, with the kernels dispatched to that target.
inline void for_each_target(const std::function<void()>& f) {
  for (const std::int64_t target : all_targets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(target);
    f();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

/// A matrix with `gap` unused elements after each row, to prove that strides are honoured. The
/// gaps hold a guard value that nothing may change.
class Matrix {
 public:
  static constexpr float kGuard = 12345.0F;
  Matrix(std::int64_t rows, std::int64_t cols, std::int64_t gap = 0)
      : rows_(rows), cols_(cols), stride_(cols + gap) {
    values_.assign(static_cast<std::size_t>(rows * stride_), kGuard);
  }
  static Matrix random(std::int64_t rows, std::int64_t cols, std::int64_t gap = 0,
                       std::uint64_t seed = 1, float spread = 1.0F) {
    Matrix m(rows, cols, gap);
    Rng rng(seed);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c) m(r, c) = rng.normal() * spread;
    }
    return m;
  }
  float& operator()(std::int64_t r, std::int64_t c) {
    return values_[static_cast<std::size_t>(r * stride_ + c)];
  }
  float operator()(std::int64_t r, std::int64_t c) const {
    return values_[static_cast<std::size_t>(r * stride_ + c)];
  }
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  MatView<float> view() { return {values_.data(), rows_, cols_, stride_}; }
  MatView<const float> view() const { return {values_.data(), rows_, cols_, stride_}; }
  bool guards_intact() const {
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t c = cols_; c < stride_; ++c) {
        if ((*this)(r, c) != kGuard) return false;
      }
    }
    return true;
  }

 private:
  std::int64_t rows_, cols_, stride_;
  std::vector<float> values_;
};

/// Whether |got - wanted| <= tolerance; false for NaN in either, true for equal infinities.
inline bool near(double got, double wanted, double tolerance) {
  if (got == wanted) return true;
  return std::fabs(got - wanted) <= tolerance;
}

/// float32's unit roundoff.
constexpr double kEps = 5.9604644775390625e-08;
/// bfloat16's.
constexpr double kEpsBF16 = 0.00390625;

}  // namespace drrik::testing
