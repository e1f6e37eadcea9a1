#pragma once
// What a step needs to know of the batch's rows on all ranks.

#include <cstdint>
#include <span>

#include "drrik/base/communicator.h"
#include "drrik/ops/sae_select.h"
#include "drrik/tensor/mat_view.h"

namespace drrik {

/// ⟨‖y − ⟨y⟩‖²⟩ over the `rows` rows of all ranks, of which y [n, d] are this one's, in double.
double variance_of(MatView<const float> y, std::int64_t rows, Communicator& ranks);

/// Where the `wanted` largest values of all ranks end. Four rounds settle a byte of the value each,
/// by counts that are summed over the ranks. Of equal values the lower ranks' are taken.
SaeCut find_cut(std::span<const float> values, std::int64_t wanted, Communicator& ranks);

}  // namespace drrik
