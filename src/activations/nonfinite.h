#pragma once
// What is said of a NaN, Inf or value too large among activations, the same wherever rows pass.

#include <cmath>
#include <cstdint>
#include <string>

#include "drrik/base/error.h"
#include "drrik/ops/convert.h"
#include "drrik/tensor/mat_view.h"

namespace drrik::detail {

/// As operator<< prints it, but "NaN" without the sign that means nothing.
inline std::string number_text(double value) { return std::isnan(value) ? "NaN" : str(value); }

/// Throws Error(data) naming the first NaN or Inf of a block, if there is one. `number` says what
/// row of the source a row of the block is. Encoders cannot be trusted with it: NaN > 0 is false,
/// so a sparse one drops it. One pass over the block; thread-safe.
template <typename F>
void refuse_nonfinite(MatView<const float> block, F&& number, const std::string& where) {
  if (!has_nonfinite(block)) return;
  for (std::int64_t r = 0; r < block.rows(); ++r) {
    for (std::int64_t c = 0; c < block.cols(); ++c) {
      const auto value = static_cast<double>(block(r, c));
      if (std::isfinite(value)) continue;
      throw_data("activations: row ", number(r), ", column ", c, " is ", number_text(value), where);
    }
  }
}

/// The same for a block of consecutive rows that begins at row `first`.
inline void refuse_nonfinite(MatView<const float> block, std::int64_t first) {
  refuse_nonfinite(
      block, [first](std::int64_t r) { return first + r; }, "");
}

/// Throws Error(numeric) when a value does not fit float16 (or is NaN).
inline void refuse_beyond_half(MatView<const float> rows) {
  constexpr float kLargestHalf = 65504.0F;
  for (std::int64_t r = 0; r < rows.rows(); ++r) {
    for (const float value : rows.row(r)) {
      if (std::fabs(value) <= kLargestHalf) continue;
      throw_numeric("activation ", value, " does not fit float16 (at most ", kLargestHalf,
                    "); store bfloat16 or float32");
    }
  }
}

}  // namespace drrik::detail
