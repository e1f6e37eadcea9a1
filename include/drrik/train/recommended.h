#pragma once
// Settings that the literature and the packages recommend for each architecture.

#include <string>

#include "drrik/train/coder_trainer.h"

namespace drrik {

/// A job of an architecture with its recommended loss, optimizer and schedule, for activations
/// whose mean norm is √d_in (NormalizeActivations "expected_average"; penalties mean nothing
/// without). docs/architectures.md has the table and its sources. d_in, d_sae and steps (of the
/// run; 0: unknown) scale some of them. inputs, targets, seed and name are the caller's. Throws
/// Error(usage) for an unknown architecture.
CoderJob recommended_job(const std::string& architecture, std::int64_t d_in, std::int64_t d_sae,
                         std::int64_t steps);

/// What changes with another penalty of jumprelu: bandwidth, first threshold, coefficient, decoder.
void recommend_jumprelu(SparsityOptions::JumpRelu loss, std::int64_t steps, CoderJob& job);

}  // namespace drrik
