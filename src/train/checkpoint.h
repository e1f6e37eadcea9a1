#pragma once
// One file that holds a run: weights and moments as tensors, everything else as JSON in the
// safetensors metadata. Written atomically, so a killed run finds the last whole one.

#include <cstdint>
#include <filesystem>
#include <vector>

#include "drrik/train/trainer.h"
#include "train/stepper.h"

namespace drrik {

/// Where a run is. Doubles survive the file exactly.
struct TrainState {
  std::int64_t step = 0;   ///< Steps done.
  std::int64_t epoch = 0;  ///< Epochs finished.
  // Of the epoch that is going on.
  std::int64_t epoch_steps = 0;
  double epoch_loss = 0.0;  ///< Sum over its steps, as epoch_l0.
  double epoch_l0 = 0.0;
  SaeHistory history;
  std::vector<std::int64_t> last_active;  ///< [h], step number; -1 never.
  std::int64_t window_start = 0;          ///< The activity window does not look before this step.
  std::int64_t resampled = 0;
  std::int64_t median_rows = 0;
};

/// What must be the same for a run to be continued.
struct RunIdentity {
  ReluSaeConfig sae;
  FitOptions options;
  std::int64_t train_rows = 0;
};

void write_checkpoint(const std::filesystem::path& path, const RunIdentity& identity,
                      const TrainState& state, Stepper& stepper);
/// Throws Error(data) naming the path and what does not fit.
void read_checkpoint(const std::filesystem::path& path, const RunIdentity& identity,
                     TrainState& state, Stepper& stepper);

}  // namespace drrik
