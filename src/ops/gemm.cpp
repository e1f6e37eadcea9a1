#include "drrik/ops/gemm.h"

#include <algorithm>
#include <dnnl.hpp>

#include "drrik/base/threads.h"
#include "drrik/ops/convert.h"
#include "ops/dnnl_matmul.h"
#include "ops/grain.h"
#include "ops/weight.h"

namespace drrik {
namespace {

// What oneDNN has packed kernels for on this machine; without them it takes plain matrices.
struct Machine {
  bool packed_f32 = false;
  bool packed_bf16 = false;
};

const Machine& machine() {
  static const Machine found = [] {
    // Each of oneDNN's sets contains the bits of those it extends.
    const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
    const auto has = [isa](dnnl::cpu_isa set) {
      return (isa & static_cast<unsigned>(set)) == static_cast<unsigned>(set);
    };
    return Machine{has(dnnl::cpu_isa::avx512_core), has(dnnl::cpu_isa::avx512_core_bf16)};
  }();
  return found;
}

// Scratch memory of this thread, kept between calls; slots are for buffers alive together.
template <typename T>
T* scratch(std::size_t slot, std::int64_t elements) {
  static thread_local AlignedBuffer buffers[4];
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

// Panels [first, first + count) as one product with oneDNN's packed kernels.
void packed_product(const Weight::Impl& w, const void* x, std::int64_t x_stride, DType dtype,
                    const void* panels, std::int64_t first, std::int64_t count, const float* bias,
                    bool accumulate, MatView<float> y) {
  const std::int64_t column = first * kPanel;
  detail::MatmulKey key;
  key.m = y.rows();
  key.n = std::min(count * kPanel, w.out - column);
  key.k = w.in;
  key.a_row = x_stride;
  key.a_col = 1;
  key.c_row = y.stride();
  key.dtype = dtype;
  key.accumulate = accumulate;
  key.bias = bias != nullptr;
  key.packed = true;
  detail::dnnl_matmul(key, x, panels, bias != nullptr ? bias + column : nullptr, y.data() + column);
}

// float32 products: panels as they are, or widened block by block.
void linear_f32(MatView<const float> x, const Weight::Impl& w, const float* bias, bool accumulate,
                MatView<float> y) {
  const bool widen = w.dtype != DType::kF32;
  if (machine().packed_f32) {
    if (!widen) {
      packed_product(w, x.data(), x.stride(), DType::kF32, w.panel<float>(0), 0, w.panels, bias,
                     accumulate, y);
      return;
    }
    // Blocks that stay in cache between widening and product.
    const std::int64_t block =
        std::max<std::int64_t>(2, (std::int64_t{1} << 20) / w.panel_elements());
    float* panels = scratch<float>(0, std::min(block, w.panels) * w.wide_panel_elements());
    for (std::int64_t first = 0; first < w.panels; first += block) {
      const std::int64_t count = std::min(block, w.panels - first);
      detail::widen_panels(w, first, count, panels);
      packed_product(w, x.data(), x.stride(), DType::kF32, panels, first, count, bias, accumulate,
                     y);
    }
    return;
  }
  // A panel is a plain [in, 64] matrix; each thread takes some.
  parallel_for(w.panels, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      const float* panel = nullptr;
      if (widen) {
        float* to = scratch<float>(0, w.wide_panel_elements());
        detail::widen_panels(w, p, 1, to);
        panel = to;
      } else {
        panel = w.panel<float>(p);
      }
      const std::int64_t column = p * kPanel;
      detail::MatmulKey key;
      key.m = y.rows();
      key.n = std::min(kPanel, w.out - column);
      key.k = w.in;
      key.a_row = x.stride();
      key.a_col = 1;
      key.b_row = kPanel;
      key.b_col = 1;
      key.c_row = y.stride();
      key.accumulate = accumulate;
      key.bias = bias != nullptr;
      detail::dnnl_matmul(key, x.data(), panel, bias != nullptr ? bias + column : nullptr,
                          y.data() + column);
    }
  });
}

void linear_bf16(MatView<const BF16> x, const Weight::Impl& w, const float* bias, bool accumulate,
                 MatView<float> y) {
  packed_product(w, x.data(), x.stride(), DType::kBF16, w.panel<BF16>(0), 0, w.panels, bias,
                 accumulate, y);
}

}  // namespace

void linear(MatView<const float> x, const Weight& w, std::span<const float> bias, MatView<float> y,
            LinearOptions options) {
  check_linear(x, w, bias, y);
  if (trivial(x.rows(), x.cols(), bias, options.accumulate, y)) return;
  const Weight::Impl& impl = w.impl();
  if (w.compute() == Compute::kBF16) {
    linear(rounded(x, 1), w, bias, y, options);
  } else if (x.rows() <= detail::kFewRows) {
    detail::linear_few_rows(x, impl, pointer(bias), options.accumulate, y);
  } else {
    linear_f32(x, impl, pointer(bias), options.accumulate, y);
  }
}

void linear(MatView<const BF16> x, const Weight& w, std::span<const float> bias, MatView<float> y,
            LinearOptions options) {
  check_linear(x, w, bias, y);
  if (trivial(x.rows(), x.cols(), bias, options.accumulate, y)) return;
  const Weight::Impl& impl = w.impl();
  if (x.rows() <= detail::kFewRows) {
    detail::linear_few_rows(widened(x, 2), impl, pointer(bias), options.accumulate, y);
  } else if (w.stored_dtype() == DType::kBF16 && w.compute() == Compute::kBF16 &&
             machine().packed_bf16) {
    linear_bf16(x, impl, pointer(bias), options.accumulate, y);
  } else {
    // Products of bfloat16 values are exact in float32, so this differs in the order of sums only.
    linear_f32(widened(x, 2), impl, pointer(bias), options.accumulate, y);
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
  if (machine().packed_bf16) {
    matmul_plain(a, trans_a, b, trans_b, c, beta);
  } else {
    matmul_plain<float>(widened(a, 2), trans_a, widened(b, 3), trans_b, c, beta);
  }
}

}  // namespace drrik
