#pragma once
// What one unit of a feature is worth in the activations of the model.
//
// An autoencoder's reconstruction changes by  r(x) · u_f  for each unit of feature f, where u_f is
// the decoder column (over its norm, where the coder measures its features by that) and r(x) undoes
// the row's normalisation (1 where there is none).

#include <cstdint>
#include <span>
#include <vector>

#include "drrik/sae/sae.h"

namespace drrik {

/// u_f, [d_out]. Throws Error(usage) when the feature is outside [0, d_sae).
std::vector<float> feature_unit(const Sae& sae, std::int64_t feature);

/// Whether r(x) is not 1 for every row.
bool has_row_scale(const Sae& sae);
/// r(x) of a row that the autoencoder reads.
double row_scale(const Sae& sae, std::span<const float> row);

}  // namespace drrik
