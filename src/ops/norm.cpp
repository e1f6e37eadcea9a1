#include "drrik/ops/norm.h"

#include <cmath>

#include "drrik/base/threads.h"
#include "ops/grain.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/norm.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "ops/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {
namespace {

struct SumOp {
  HWY_INLINE VF operator()(DF, VF a, VF, VF s) const { return hn::Add(a, s); }
};

template <typename Out>
HWY_INLINE void layer_norm_row(const float* x, const float* gamma, const float* beta, float eps,
                               std::int64_t n, Out* out) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  const float inverse_n = 1.0F / static_cast<float>(n);
  const float mean = sum2(x, x, n, SumOp()) * inverse_n;
  const VF vmean = hn::Set(d, mean);
  // Two passes: Σ(x - mean)² does not cancel as Σx² - n·mean² would. The row stays in L1.
  VF s0 = hn::Zero(d);
  VF s1 = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const VF a = hn::Sub(load(d, x + i), vmean);
    const VF b = hn::Sub(load(d, x + i + lanes), vmean);
    s0 = hn::MulAdd(a, a, s0);
    s1 = hn::MulAdd(b, b, s1);
  }
  float squares = sum_of(d, hn::Add(s0, s1));
  for (; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const float scale = 1.0F / std::sqrt(squares * inverse_n + eps);
  const VF vscale = hn::Set(d, scale);
  const VF one = hn::Set(d, 1.0F);
  const VF zero = hn::Zero(d);
  for (i = 0; i + lanes <= n; i += lanes) {
    const VF g = gamma != nullptr ? load(d, gamma + i) : one;
    const VF b = beta != nullptr ? load(d, beta + i) : zero;
    const VF normal = hn::Mul(hn::Sub(load(d, x + i), vmean), vscale);
    store(d, hn::MulAdd(normal, g, b), out + i);
  }
  for (; i < n; ++i) {
    const float g = gamma != nullptr ? gamma[i] : 1.0F;
    const float b = beta != nullptr ? beta[i] : 0.0F;
    out[i] = Out((x[i] - mean) * scale * g + b);
  }
}

template <typename Out>
HWY_INLINE void rms_norm_row(const float* x, const float* gamma, float eps, float offset,
                             std::int64_t n, Out* out) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  const float mean_square = dot_product(x, x, n) / static_cast<float>(n);
  const float scale = 1.0F / std::sqrt(mean_square + eps);
  const VF vscale = hn::Set(d, scale);
  const VF voffset = hn::Set(d, offset);
  const VF one = hn::Set(d, 1.0F);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const VF g = hn::Add(gamma != nullptr ? load(d, gamma + i) : one, voffset);
    store(d, hn::Mul(hn::Mul(load(d, x + i), vscale), g), out + i);
  }
  for (; i < n; ++i) {
    const float g = (gamma != nullptr ? gamma[i] : 1.0F) + offset;
    out[i] = Out(x[i] * scale * g);
  }
}

void LayerNormF32(MatView<const float> x, const float* gamma, const float* beta, float eps,
                  MatView<float> out) {
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    layer_norm_row(x.row_ptr(r), gamma, beta, eps, x.cols(), out.row_ptr(r));
  }
}
void LayerNormBF16(MatView<const float> x, const float* gamma, const float* beta, float eps,
                   MatView<BF16> out) {
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    layer_norm_row(x.row_ptr(r), gamma, beta, eps, x.cols(), out.row_ptr(r));
  }
}
void RmsNormF32(MatView<const float> x, const float* gamma, RmsNormOptions o, MatView<float> out) {
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    rms_norm_row(x.row_ptr(r), gamma, o.eps, o.gamma_offset, x.cols(), out.row_ptr(r));
  }
}
void RmsNormBF16(MatView<const float> x, const float* gamma, RmsNormOptions o, MatView<BF16> out) {
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    rms_norm_row(x.row_ptr(r), gamma, o.eps, o.gamma_offset, x.cols(), out.row_ptr(r));
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace drrik {
namespace {

HWY_EXPORT(LayerNormF32);
HWY_EXPORT(LayerNormBF16);
HWY_EXPORT(RmsNormF32);
HWY_EXPORT(RmsNormBF16);

template <typename Out>
void check(const char* what, MatView<const float> x, std::span<const float> gamma,
           std::span<const float> beta, MatView<Out> out) {
  const auto cols = static_cast<std::size_t>(x.cols());
  if (out.rows() != x.rows() || out.cols() != x.cols()) {
    throw_data(what, ": output is ", shape_of(out), ", wanted ", shape_of(x));
  }
  if (!gamma.empty() && gamma.size() != cols) {
    throw_data(what, ": weight has ", gamma.size(), " elements, rows have ", cols);
  }
  if (!beta.empty() && beta.size() != cols) {
    throw_data(what, ": bias has ", beta.size(), " elements, rows have ", cols);
  }
}

const float* pointer(std::span<const float> values) {
  return values.empty() ? nullptr : values.data();
}

}  // namespace

void layer_norm(MatView<const float> x, std::span<const float> gamma, std::span<const float> beta,
                float eps, MatView<float> out) {
  check("layer_norm", x, gamma, beta, out);
  parallel_for(x.rows(), row_grain(x.cols()), [&](std::int64_t begin, std::int64_t end) {
    HWY_DYNAMIC_DISPATCH(LayerNormF32)
    (x.rows_range(begin, end - begin), pointer(gamma), pointer(beta), eps,
     out.rows_range(begin, end - begin));
  });
}

void layer_norm(MatView<const float> x, std::span<const float> gamma, std::span<const float> beta,
                float eps, MatView<BF16> out) {
  check("layer_norm", x, gamma, beta, out);
  parallel_for(x.rows(), row_grain(x.cols()), [&](std::int64_t begin, std::int64_t end) {
    HWY_DYNAMIC_DISPATCH(LayerNormBF16)
    (x.rows_range(begin, end - begin), pointer(gamma), pointer(beta), eps,
     out.rows_range(begin, end - begin));
  });
}

void rms_norm(MatView<const float> x, std::span<const float> gamma, RmsNormOptions options,
              MatView<float> out) {
  check("rms_norm", x, gamma, {}, out);
  parallel_for(x.rows(), row_grain(x.cols()), [&](std::int64_t begin, std::int64_t end) {
    HWY_DYNAMIC_DISPATCH(RmsNormF32)
    (x.rows_range(begin, end - begin), pointer(gamma), options, out.rows_range(begin, end - begin));
  });
}

void rms_norm(MatView<const float> x, std::span<const float> gamma, RmsNormOptions options,
              MatView<BF16> out) {
  check("rms_norm", x, gamma, {}, out);
  parallel_for(x.rows(), row_grain(x.cols()), [&](std::int64_t begin, std::int64_t end) {
    HWY_DYNAMIC_DISPATCH(RmsNormBF16)
    (x.rows_range(begin, end - begin), pointer(gamma), options, out.rows_range(begin, end - begin));
  });
}

namespace {

/// Calls f with the heads of each row as the rows of a matrix.
template <typename F>
void over_rows(const Heads<float>& x, const F& f) {
  parallel_for(x.rows, row_grain(x.heads * x.dim), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      f(MatView<float>(x.at(r, 0), x.heads, x.dim, x.head_stride));
    }
  });
}

void check_heads(const char* what, const Heads<float>& x, std::span<const float> gamma,
                 std::span<const float> beta) {
  const MatView<float> first(x.data, x.rows > 0 ? x.heads : 0, x.dim, x.head_stride);
  check<float>(what, first, gamma, beta, first);
}

}  // namespace

void layer_norm(const Heads<float>& x, std::span<const float> gamma, std::span<const float> beta,
                float eps) {
  check_heads("layer_norm", x, gamma, beta);
  over_rows(x, [&](MatView<float> heads) {
    HWY_DYNAMIC_DISPATCH(LayerNormF32)(heads, pointer(gamma), pointer(beta), eps, heads);
  });
}

void rms_norm(const Heads<float>& x, std::span<const float> gamma, RmsNormOptions options) {
  check_heads("rms_norm", x, gamma, {});
  over_rows(x, [&](MatView<float> heads) {
    HWY_DYNAMIC_DISPATCH(RmsNormF32)(heads, pointer(gamma), options, heads);
  });
}

}  // namespace drrik
#endif  // HWY_ONCE
