#pragma once
// Activations that are no numbers are a fault of the file: one message for all who read rows.

#include <cmath>
#include <cstdint>

#include "drrik/base/error.h"
#include "drrik/ops/convert.h"
#include "drrik/tensor/mat_view.h"

namespace drrik::detail {

/// Throws Error(data) naming the first row (the block's first is number `first`) and column that is
/// NaN or infinite. Encoders cannot be trusted with it: NaN > 0 is false, so a sparse one drops it.
inline void check_rows(MatView<const float> x, std::int64_t first) {
  if (!has_nonfinite(x)) return;
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    for (std::int64_t c = 0; c < x.cols(); ++c) {
      if (!std::isfinite(x(r, c))) {
        throw_data("activations: row ", first + r, ", column ", c, " is ", x(r, c));
      }
    }
  }
}

}  // namespace drrik::detail
