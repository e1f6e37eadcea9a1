#pragma once
// The point with the least sum of distances to the rows.

#include <vector>

#include "drrik/tensor/mat_view.h"

namespace drrik {

/// Weiszfeld's iterations from the mean, at most 100, until the point moves by less than 1e-5 (as
/// dictionary_learning takes it). O(iterations · n · d).
std::vector<float> geometric_median(MatView<const float> rows);

}  // namespace drrik
