#include "drrik/ops/gemm.h"

#include <algorithm>
#include <dnnl.hpp>

#include "drrik/base/threads.h"
#include "drrik/ops/convert.h"
#include "ops/dnnl_matmul.h"
#include "ops/grain.h"
#include "ops/panel_product.h"

namespace drrik {
namespace {

// Whether oneDNN multiplies bfloat16 matrices fast here.
bool fast_bf16_matmul() {
  static const bool found = [] {
    // Each of oneDNN's sets contains the bits of those it extends.
    const auto bf16 = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
    return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & bf16) == bf16;
  }();
  return found;
}

// Scratch memory of this thread, kept between calls; slots are for buffers alive together.
template <typename T>
T* scratch(std::size_t slot, std::int64_t elements) {
  static thread_local AlignedBuffer buffers[5];
  AlignedBuffer& buffer = buffers[slot];
  const std::size_t bytes = static_cast<std::size_t>(elements) * sizeof(T);
  if (buffer.size() < bytes) {
    buffer = AlignedBuffer();
    buffer = AlignedBuffer(bytes, AlignedBuffer::Init::kNone);
  }
  return reinterpret_cast<T*>(buffer.data());
}

MatView<float> widened(MatView<const BF16> x, std::size_t slot) {
  const MatView<float> out(scratch<float>(slot, x.rows() * x.cols()), x.rows(), x.cols());
  convert(x, out);
  return out;
}

MatView<BF16> rounded(MatView<const float> x, std::size_t slot) {
  const MatView<BF16> out(scratch<BF16>(slot, x.rows() * x.cols()), x.rows(), x.cols());
  convert(x, out);
  return out;
}

// The bfloat16 kernels take inputs in pairs; the panels end in zeros.
MatView<BF16> padded_to_even(MatView<const BF16> x) {
  const MatView<BF16> out(scratch<BF16>(3, x.rows() * (x.cols() + 1)), x.rows(), x.cols() + 1);
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    std::copy_n(x.row_ptr(r), x.cols(), out.row_ptr(r));
    out(r, x.cols()) = BF16();
  }
  return out;
}

template <typename X>
void check_linear(MatView<X> x, const Weight& w, std::span<const float> bias, MatView<float> y) {
  if (!w.defined()) throw_usage("linear: the weight is empty");
  if (x.cols() != w.in() || y.cols() != w.out() || x.rows() != y.rows()) {
    throw_data("linear: x ", shape_of(x), ", weight [", w.out(), ", ", w.in(), "], y ",
               shape_of(y));
  }
  if (!bias.empty() && static_cast<std::int64_t>(bias.size()) != w.out()) {
    throw_data("linear: bias has ", bias.size(), " elements, the weight ", w.out(), " outputs");
  }
}

// Products with nothing to sum or nothing to write.
bool trivial(std::int64_t rows, std::int64_t in, std::span<const float> bias, bool accumulate,
             MatView<float> y) {
  if (rows == 0 || y.cols() == 0) return true;
  if (in > 0) return false;
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto to = y.row(r);
    if (!accumulate) std::fill(to.begin(), to.end(), 0.0F);
  }
  if (!bias.empty()) add_row(bias, y);
  return true;
}

const float* pointer(std::span<const float> values) {
  return values.empty() ? nullptr : values.data();
}

}  // namespace

void linear(MatView<const float> x, const Weight& w, std::span<const float> bias, MatView<float> y,
            LinearOptions options) {
  check_linear(x, w, bias, y);
  if (trivial(x.rows(), x.cols(), bias, options.accumulate, y)) return;
  if (w.compute() == Compute::kBF16) {
    linear(rounded(x, 1), w, bias, y, options);
  } else {
    detail::panel_product(x, w.impl(), pointer(bias), options.accumulate, y);
  }
}

void linear(MatView<const BF16> x, const Weight& w, std::span<const float> bias, MatView<float> y,
            LinearOptions options) {
  check_linear(x, w, bias, y);
  if (trivial(x.rows(), x.cols(), bias, options.accumulate, y)) return;
  if (w.compute() == Compute::kBF16 && detail::has_bf16_dot()) {
    if (x.cols() % 2 != 0) x = padded_to_even(x);
    detail::panel_product_bf16(x, w.impl(), pointer(bias), options.accumulate, y);
  } else {
    // Products of bfloat16 values are exact in float32: this differs in the order of sums only.
    detail::panel_product(widened(x, 2), w.impl(), pointer(bias), options.accumulate, y);
  }
}

namespace {

// Shapes of gated_linear; whether the fused kernels can take them.
template <typename X>
bool check_gated(MatView<const X> x, const Weight& w, std::span<const float> bias, MatView<X> out) {
  if (!w.defined()) throw_usage("gated_linear: the weight is empty");
  if (x.cols() != w.in() || 2 * out.cols() != w.out() || x.rows() != out.rows()) {
    throw_data("gated_linear: x ", shape_of(x), ", weight [", w.out(), ", ", w.in(), "], out ",
               shape_of(out));
  }
  if (!bias.empty() && static_cast<std::int64_t>(bias.size()) != w.out()) {
    throw_data("gated_linear: bias has ", bias.size(), " elements, the weight ", w.out(),
               " outputs");
  }
  return w.out() % (2 * kPanel) == 0 && x.cols() > 0;
}

template <typename X>
void gated_in_steps(MatView<const X> x, const Weight& w, std::span<const float> bias,
                    Activation activation, MatView<X> out) {
  const MatView<float> both(scratch<float>(4, x.rows() * w.out()), x.rows(), w.out());
  linear(x, w, bias, both);
  gate_mul(activation, both.cols_range(0, out.cols()), both.cols_range(out.cols(), out.cols()),
           out);
}

}  // namespace

void gated_linear(MatView<const float> x, const Weight& w, std::span<const float> bias,
                  Activation activation, MatView<float> out) {
  if (check_gated(x, w, bias, out) && w.compute() == Compute::kF32) {
    if (x.rows() > 0) detail::gated_panel_product(x, w.impl(), pointer(bias), activation, out);
  } else {
    gated_in_steps(x, w, bias, activation, out);
  }
}

void gated_linear(MatView<const BF16> x, const Weight& w, std::span<const float> bias,
                  Activation activation, MatView<BF16> out) {
  if (check_gated(x, w, bias, out) && w.compute() == Compute::kBF16 && x.cols() % 2 == 0 &&
      detail::has_bf16_dot()) {
    if (x.rows() > 0) detail::gated_panel_product_bf16(x, w.impl(), pointer(bias), activation, out);
  } else {
    gated_in_steps(x, w, bias, activation, out);
  }
}

namespace {

template <typename T>
void matmul_plain(MatView<const T> a, Trans trans_a, MatView<const T> b, Trans trans_b,
                  MatView<float> c, float beta) {
  const bool ta = trans_a == Trans::kYes;
  const bool tb = trans_b == Trans::kYes;
  detail::MatmulKey key;
  key.m = ta ? a.cols() : a.rows();
  key.k = ta ? a.rows() : a.cols();
  key.n = tb ? b.rows() : b.cols();
  const std::int64_t b_rows = tb ? b.cols() : b.rows();
  if (b_rows != key.k || c.rows() != key.m || c.cols() != key.n) {
    throw_data("matmul: ", shape_of(a), ta ? "ᵀ" : "", " · ", shape_of(b), tb ? "ᵀ" : "", " into ",
               shape_of(c));
  }
  if (beta != 0.0F && beta != 1.0F) throw_usage("matmul: beta is ", beta, ", wanted 0 or 1");
  if (trivial(key.m, key.k, {}, beta != 0.0F, c)) return;
  key.a_row = ta ? 1 : a.stride();
  key.a_col = ta ? a.stride() : 1;
  key.b_row = tb ? 1 : b.stride();
  key.b_col = tb ? b.stride() : 1;
  key.c_row = c.stride();
  key.dtype = dtype_of<T>();
  key.accumulate = beta != 0.0F;
  detail::dnnl_matmul(key, a.data(), b.data(), nullptr, c.data());
}

}  // namespace

void matmul(MatView<const float> a, Trans trans_a, MatView<const float> b, Trans trans_b,
            MatView<float> c, float beta, Compute compute) {
  if (compute == Compute::kF32) {
    matmul_plain(a, trans_a, b, trans_b, c, beta);
  } else {
    matmul(rounded(a, 0), trans_a, rounded(b, 1), trans_b, c, beta);
  }
}

void matmul(MatView<const BF16> a, Trans trans_a, MatView<const BF16> b, Trans trans_b,
            MatView<float> c, float beta) {
  if (fast_bf16_matmul()) {
    matmul_plain(a, trans_a, b, trans_b, c, beta);
  } else {
    matmul_plain<float>(widened(a, 2), trans_a, widened(b, 3), trans_b, c, beta);
  }
}

}  // namespace drrik
