#include "steer/feature_units.h"

#include <cmath>

#include "drrik/ops/convert.h"
#include "drrik/sae/sparse_coder.h"

namespace drrik {

std::vector<float> feature_unit(const Sae& sae, std::int64_t feature) {
  std::vector<float> unit = sae.decoder_direction(feature);
  const auto* coder = dynamic_cast<const SparseCoder*>(&sae);
  if (coder == nullptr || !coder->config().rescale_by_decoder_norm) return unit;
  const double norm = std::sqrt(sum_squares(unit));
  if (norm > 0.0) {
    for (float& v : unit) v = static_cast<float>(static_cast<double>(v) / norm);
  }
  return unit;
}

bool has_row_scale(const Sae& sae) {
  const auto* coder = dynamic_cast<const SparseCoder*>(&sae);
  return coder != nullptr && coder->config().row_normalization != RowNormalization::kNone;
}

double row_scale(const Sae& sae, std::span<const float> row) {
  const auto* coder = dynamic_cast<const SparseCoder*>(&sae);
  if (coder == nullptr || row.empty()) return 1.0;
  const auto n = static_cast<double>(row.size());
  switch (coder->config().row_normalization) {
    case RowNormalization::kNone:
      break;
    case RowNormalization::kLayerNorm: {
      double sum = 0.0;
      for (const float v : row) sum += static_cast<double>(v);
      const double mean = sum / n;
      double squares = 0.0;
      for (const float v : row) {
        const double e = static_cast<double>(v) - mean;
        squares += e * e;
      }
      return std::sqrt(squares / std::max(1.0, n - 1.0));  // the unbiased deviation, as the coder's
    }
    case RowNormalization::kConstantNorm: {
      const double norm = std::sqrt(sum_squares(row));
      return norm > 0.0 ? norm / std::sqrt(n) : 1.0;
    }
  }
  return 1.0;
}

}  // namespace drrik
