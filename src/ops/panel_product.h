#pragma once
// Products with a weight's panels on our own kernels: any strides, any number of rows, nothing
// copied.

#include "ops/weight.h"

namespace drrik::detail {

/// y = (y +) (bias +) x Wᵀ. Each element is one chain of fused multiply-adds over ascending inputs,
/// so a row's result depends neither on the other rows nor on the threads. bias may be null.
void panel_product(MatView<const float> x, const Weight::Impl& w, const float* bias,
                   bool accumulate, MatView<float> y);

/// The same through f(gate) · up, where w stacks gate above up and w.out is a multiple of 128.
void gated_panel_product(MatView<const float> x, const Weight::Impl& w, const float* bias,
                         Activation activation, MatView<float> out);

/// Whether the kernels run with AVX-512 (a test may restrict them to less).
bool kernels_use_avx512();

/// Whether this machine has bfloat16 dot products that panel_product_bf16 can use.
bool has_bf16_dot();

/// The same with the processor's bfloat16 dot products, for a bfloat16 weight. x.cols() must be
/// even.
void panel_product_bf16(MatView<const BF16> x, const Weight::Impl& w, const float* bias,
                        bool accumulate, MatView<float> y);

void gated_panel_product_bf16(MatView<const BF16> x, const Weight::Impl& w, const float* bias,
                              Activation activation, MatView<BF16> out);

/// Where a tile's sums come from and go to: rows of 64 floats. A stride of 0 repeats one row.
struct SumsIn {
  const float* data;
  std::int64_t stride;
};
struct SumsOut {
  float* data;
  std::int64_t stride;
};

}  // namespace drrik::detail
