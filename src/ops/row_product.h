#pragma once
// Products of few rows with outputs whose inputs lie one after another, as PyTorch stores them: the
// rows of W are turned into a panel's columns in registers on their way from memory, and nothing is
// written. Each element is the same chain of fused multiply-adds as in panel_product.h.

#include <cstddef>
#include <cstdint>

#include "ops/panel_product.h"

namespace drrik::detail {

/// 64 rows of W: [64][in] of the panels' own type, evenly spaced.
struct RowsInPlace {
  const std::byte* data = nullptr;  ///< Of any alignment.
  std::int64_t row_step = 0;        ///< In bytes.
  std::int64_t in = 0;
};

/// Rows of x that these kernels take.
constexpr std::int64_t kRowsAtOnce = 8;

/// to[n][64] = from[n][64] + x[n][in] · Wᵀ, n <= kRowsAtOnce. dtype: kF32 or kBF16.
void row_product(MatView<const float> x, const RowsInPlace& w, DType dtype, SumsIn from,
                 SumsOut to);
/// With the processor's bfloat16 dot products (has_bf16_dot()). x may have one column more than W,
/// where that is odd.
void row_product_bf16(MatView<const BF16> x, const RowsInPlace& w, SumsIn from, SumsOut to);

}  // namespace drrik::detail
