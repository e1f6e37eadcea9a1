#include "drrik/sae/parity.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/ops/convert.h"

namespace drrik {
namespace {

// Walks two rows of ascending latents together.
template <typename F>
void each_pair(const SparseRows& a, const SparseRows& b, std::size_t row, const F& f) {
  auto i = static_cast<std::size_t>(a.row_start[row]);
  auto j = static_cast<std::size_t>(b.row_start[row]);
  const auto i_end = static_cast<std::size_t>(a.row_start[row + 1]);
  const auto j_end = static_cast<std::size_t>(b.row_start[row + 1]);
  while (i < i_end || j < j_end) {
    const bool take_a = i < i_end && (j >= j_end || a.latent[i] <= b.latent[j]);
    const bool take_b = j < j_end && (i >= i_end || b.latent[j] <= a.latent[i]);
    f(take_a ? static_cast<double>(a.value[i]) : 0.0,
      take_b ? static_cast<double>(b.value[j]) : 0.0);
    if (take_a) ++i;
    if (take_b) ++j;
  }
}

class Sums {
 public:
  explicit Sums(std::int64_t width)
      : sum_(static_cast<std::size_t>(width)), squares_(static_cast<std::size_t>(width)) {}

  void add(MatView<const float> target, MatView<const float> before, MatView<const float> after,
           SaeParity& out) {
    const bool same_width = target.cols() == before.cols();
    for (std::int64_t r = 0; r < target.rows(); ++r) {
      for (std::int64_t c = 0; c < before.cols(); ++c) {
        const auto p = static_cast<double>(before(r, c));
        const auto q = static_cast<double>(after(r, c));
        out.max_difference = std::max(out.max_difference, std::abs(p - q));
        difference_ += (p - q) * (p - q);
        norm_ += p * p;
        if (!same_width) continue;
        const auto y = static_cast<double>(target(r, c));
        error_before_ += (y - p) * (y - p);
        error_after_ += (y - q) * (y - q);
        sum_[static_cast<std::size_t>(c)] += y;
        squares_[static_cast<std::size_t>(c)] += y * y;
      }
    }
    if (!same_width) has_fvu_ = false;
  }

  void finish(SaeParity& out) const {
    out.relative_difference = norm_ > 0.0 ? std::sqrt(difference_ / norm_) : std::sqrt(difference_);
    double variance = 0.0;
    for (std::size_t c = 0; c < sum_.size(); ++c) {
      variance += squares_[c] - sum_[c] * sum_[c] / static_cast<double>(out.rows);
    }
    const bool known = has_fvu_ && variance > 0.0;
    constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
    out.fvu_before = known ? error_before_ / variance : kUnknown;
    out.fvu_after = known ? error_after_ / variance : kUnknown;
  }

 private:
  double difference_ = 0.0;
  double norm_ = 0.0;
  double error_before_ = 0.0;
  double error_after_ = 0.0;
  bool has_fvu_ = true;
  std::vector<double> sum_;
  std::vector<double> squares_;
};

}  // namespace

SaeParity compare_saes(const Sae& a, const Sae& b, const RowBlocks& next,
                       const RowBlocks& targets) {
  if (a.d_in() != b.d_in() || a.d_out() != b.d_out() || a.d_sae() != b.d_sae()) {
    throw_data("sae: ", a.d_in(), " to ", a.d_sae(), " to ", a.d_out(), " cannot be compared with ",
               b.d_in(), " to ", b.d_sae(), " to ", b.d_out());
  }
  SaeParity out;
  Sums sums(a.d_out());
  SparseRows f_a;
  SparseRows f_b;
  std::int64_t both = 0;
  std::int64_t either = 0;
  std::int64_t active_a = 0;
  std::int64_t active_b = 0;
  for (MatView<const float> x = next(); x.rows() > 0; x = next()) {
    if (x.cols() != a.d_in()) {
      throw_data("sae: rows of width ", x.cols(), ", the coder takes ", a.d_in());
    }
    Tensor before = Tensor::uninitialized(DType::kF32, {x.rows(), a.d_out()});
    Tensor after = Tensor::uninitialized(DType::kF32, {x.rows(), a.d_out()});
    a.encode_and_reconstruct(x, f_a, before.mutable_mat<float>());
    b.encode_and_reconstruct(x, f_b, after.mutable_mat<float>());
    if (has_nonfinite(before.data<float>()) || has_nonfinite(after.data<float>())) {
      throw_numeric("sae: a reconstruction of rows ", out.rows, " to ", out.rows + x.rows() - 1,
                    " is not finite");
    }
    const MatView<const float> y = targets ? targets() : x;
    if (y.rows() != x.rows() || (targets && y.cols() != a.d_out())) {
      throw_data("sae: targets [", y.rows(), ", ", y.cols(), "] of rows ", out.rows, " to ",
                 out.rows + x.rows() - 1, ", wanted [", x.rows(), ", ", a.d_out(), "]");
    }
    sums.add(y, before.mat<float>(), after.mat<float>(), out);
    for (std::size_t r = 0; r < static_cast<std::size_t>(x.rows()); ++r) {
      each_pair(f_a, f_b, r, [&](double p, double q) {
        out.max_feature_difference = std::max(out.max_feature_difference, std::abs(p - q));
        both += p != 0.0 && q != 0.0 ? 1 : 0;
        either += 1;
        active_a += p != 0.0 ? 1 : 0;
        active_b += q != 0.0 ? 1 : 0;
      });
    }
    out.rows += x.rows();
  }
  if (out.rows == 0) throw_data("sae: no rows to compare on");
  const auto rows = static_cast<double>(out.rows);
  if (either > 0) out.feature_agreement = static_cast<double>(both) / static_cast<double>(either);
  out.l0_before = static_cast<double>(active_a) / rows;
  out.l0_after = static_cast<double>(active_b) / rows;
  sums.finish(out);
  return out;
}

}  // namespace drrik
