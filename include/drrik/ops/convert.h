#pragma once
// Element-wise helpers: dtype conversion, gathers, sums of vectors, checks.
//
// Functions over MatView run in parallel over rows, those over span in parallel over fixed blocks;
// sums are over fixed blocks too, so they do not depend on the number of threads.

#include <cstdint>
#include <span>

#include "drrik/tensor/dtype.h"
#include "drrik/tensor/mat_view.h"
#include "drrik/tensor/tensor.h"

namespace drrik {

/// Rounds to nearest even; NaN stays NaN. Sizes must agree (Error(data)).
void convert(std::span<const float> from, std::span<BF16> to);
void convert(std::span<const float> from, std::span<F16> to);
void convert(std::span<const BF16> from, std::span<float> to);
void convert(std::span<const F16> from, std::span<float> to);
void convert(MatView<const float> from, MatView<BF16> to);
void convert(MatView<const float> from, MatView<F16> to);
void convert(MatView<const BF16> from, MatView<float> to);
void convert(MatView<const F16> from, MatView<float> to);
void copy(MatView<const float> from, MatView<float> to);

/// out[r] = scale · table[ids[r]], widened to float32. table [vocabulary, dim] of float32,
/// bfloat16 or float16, possibly borrowed. Throws Error(data) naming the first id outside it.
void embedding(const Tensor& table, std::span<const std::int32_t> ids, MatView<float> out,
               float scale = 1.0F);
/// out[r] += table[ids[r]] (learned positions).
void add_embedding(const Tensor& table, std::span<const std::int32_t> ids, MatView<float> out);

/// y += x.
void add(MatView<const float> x, MatView<float> y);
/// y += a · x.
void axpy(float a, MatView<const float> x, MatView<float> y);
void axpy(float a, std::span<const float> x, std::span<float> y);
/// Every row of y += v.
void add_row(std::span<const float> v, MatView<float> y);
/// x *= a.
void scale(float a, MatView<float> x);
/// Clamps every element to [-limit, limit]; NaN stays NaN.
void clamp(float limit, MatView<float> x);
/// Adds the columns up: out[c] = Σ_r x(r, c).
void sum_rows(MatView<const float> x, std::span<float> out);

/// Σ a·b and Σ a², accumulated in double over blocks.
double dot(std::span<const float> a, std::span<const float> b);
double sum_squares(std::span<const float> a);

/// Whether any element is NaN or infinite.
bool has_nonfinite(std::span<const float> x);
bool has_nonfinite(MatView<const float> x);

}  // namespace drrik
