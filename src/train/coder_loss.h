#pragma once
// The numbers of a CoderLoss by name, for sums and checkpoints.

#include <array>
#include <utility>

#include "drrik/train/coder_training.h"

namespace drrik {

/// All but `dead`, which is a count and no sum.
inline constexpr std::array<std::pair<const char*, double CoderLoss::*>, 9> kLossFields = {
    {{"loss", &CoderLoss::loss},
     {"reconstruction", &CoderLoss::reconstruction},
     {"sparsity", &CoderLoss::sparsity},
     {"aux", &CoderLoss::aux},
     {"mse", &CoderLoss::mse},
     {"fvu", &CoderLoss::fvu},
     {"l0", &CoderLoss::l0},
     {"l1", &CoderLoss::l1},
     {"gradient_norm", &CoderLoss::gradient_norm}}};

}  // namespace drrik
