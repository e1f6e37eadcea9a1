#include "drrik/ops/softmax.h"

#include <cmath>
#include <limits>

#include "drrik/base/threads.h"
#include "ops/grain.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/softmax.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "ops/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {
namespace {

struct Subtract {
  VF by;
  HWY_INLINE VF operator()(DF, VF x) const { return hn::Sub(x, by); }
};
struct Multiply {
  VF by;
  HWY_INLINE VF operator()(DF, VF x) const { return hn::Mul(x, by); }
};
// exp(scale · (x - max)).
struct ShiftedExp {
  VF shift;
  VF factor;
  HWY_INLINE VF operator()(DF d, VF x) const {
    return exp_nonpositive(d, hn::Mul(hn::Sub(x, shift), factor));
  }
};

// NaN neither wins nor hides what a lane saw before it.
float RowMax(const float* x, std::int64_t n) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  VF best = hn::Set(d, -std::numeric_limits<float>::infinity());
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const VF v = load(d, x + i);
    best = hn::IfThenElse(hn::Gt(v, best), v, best);
  }
  float result = max_of(d, best);
  for (; i < n; ++i) result = std::fmax(result, x[i]);
  return result;
}

// Σ exp(scale · (x - shift)), in double over blocks of 4096: a vocabulary of 256k entries would
// lose bits in float32.
double RowSumExp(const float* x, std::int64_t n, float shift, float factor) {
  const DF d;
  const ShiftedExp f{hn::Set(d, shift), hn::Set(d, factor)};
  const std::int64_t lanes = float_lanes();
  double total = 0.0;
  for (std::int64_t begin = 0; begin < n; begin += 4096) {
    const std::int64_t end = std::min<std::int64_t>(n, begin + 4096);
    VF s0 = hn::Zero(d);
    VF s1 = hn::Zero(d);
    std::int64_t i = begin;
    for (; i + 2 * lanes <= end; i += 2 * lanes) {
      s0 = hn::Add(s0, f(d, load(d, x + i)));
      s1 = hn::Add(s1, f(d, load(d, x + i + lanes)));
    }
    float tail = 0.0F;
    for (; i < end; ++i) tail += std::exp(factor * (x[i] - shift));
    total += static_cast<double>(sum_of(d, hn::Add(s0, s1)) + tail);
  }
  return total;
}

void SoftmaxRow(const float* x, std::int64_t n, float factor, float* out) {
  const DF d;
  // A negative factor turns the order around.
  float shift = 0.0F;
  if (factor >= 0.0F) {
    shift = RowMax(x, n);
  } else {
    shift = std::numeric_limits<float>::infinity();
    for (std::int64_t i = 0; i < n; ++i) shift = std::fmin(shift, x[i]);
  }
  map1(x, out, n, ShiftedExp{hn::Set(d, shift), hn::Set(d, factor)});
  double total = 0.0;
  for (std::int64_t begin = 0; begin < n; begin += 4096) {
    const std::int64_t count = std::min<std::int64_t>(n - begin, 4096);
    VF s = hn::Zero(d);
    const std::int64_t lanes = float_lanes();
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) s = hn::Add(s, load(d, out + begin + i));
    float tail = 0.0F;
    for (; i < count; ++i) tail += out[begin + i];
    total += static_cast<double>(sum_of(d, s) + tail);
  }
  map1(out, out, n, Multiply{hn::Set(d, static_cast<float>(1.0 / total))});
}

void SubtractRow(const float* x, std::int64_t n, float by, float* out) {
  const DF d;
  map1(x, out, n, Subtract{hn::Set(d, by)});
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace drrik {
namespace {

HWY_EXPORT(RowMax);
HWY_EXPORT(RowSumExp);
HWY_EXPORT(SoftmaxRow);
HWY_EXPORT(SubtractRow);

}  // namespace

void softmax(MatView<const float> x, MatView<float> out, float scale) {
  check_same_shape("softmax", x, out);
  parallel_for(x.rows(), row_grain(4 * x.cols()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(SoftmaxRow)(x.row_ptr(r), x.cols(), scale, out.row_ptr(r));
    }
  });
}

float log_sum_exp(std::span<const float> x) {
  if (x.empty()) return -std::numeric_limits<float>::infinity();
  const auto n = static_cast<std::int64_t>(x.size());
  const float shift = HWY_DYNAMIC_DISPATCH(RowMax)(x.data(), n);
  if (std::isinf(shift)) return shift;
  const double sum = HWY_DYNAMIC_DISPATCH(RowSumExp)(x.data(), n, shift, 1.0F);
  return static_cast<float>(static_cast<double>(shift) + std::log(sum));
}

void log_softmax(MatView<const float> x, MatView<float> out) {
  check_same_shape("log_softmax", x, out);
  parallel_for(x.rows(), row_grain(4 * x.cols()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const float shift = log_sum_exp(x.row(r));
      HWY_DYNAMIC_DISPATCH(SubtractRow)(x.row_ptr(r), x.cols(), shift, out.row_ptr(r));
    }
  });
}

void cross_entropy(MatView<const float> logits, std::span<const std::int32_t> targets,
                   std::span<float> out) {
  const auto rows = static_cast<std::size_t>(logits.rows());
  if (targets.size() != rows || out.size() != rows) {
    throw_data("cross_entropy: ", rows, " rows of logits, ", targets.size(), " targets, ",
               out.size(), " outputs");
  }
  for (std::size_t r = 0; r < rows; ++r) {
    if (targets[r] >= logits.cols()) {
      throw_data("cross_entropy: target ", targets[r], " in row ", r, ", there are ", logits.cols(),
                 " classes");
    }
  }
  parallel_for(
      logits.rows(), row_grain(4 * logits.cols()), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
          const auto i = static_cast<std::size_t>(r);
          out[i] = targets[i] < 0 ? 0.0F : log_sum_exp(logits.row(r)) - logits(r, targets[i]);
        }
      });
}

std::int64_t argmax(std::span<const float> x) {
  if (x.empty()) return -1;
  const float best = HWY_DYNAMIC_DISPATCH(RowMax)(x.data(), static_cast<std::int64_t>(x.size()));
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (x[i] == best) return static_cast<std::int64_t>(i);
  }
  return 0;  // All are NaN.
}

}  // namespace drrik
#endif  // HWY_ONCE
