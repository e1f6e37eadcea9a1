#pragma once
// One file that holds a run of any number of coders: weights, moments, reservoirs and the stream's
// buffer as tensors, everything else as JSON in the safetensors metadata. Written atomically.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "drrik/train/coder_trainer.h"
#include "train/coder_stepper.h"
#include "train/resampling.h"

namespace drrik {

/// Where one coder is.
struct CoderJobState {
  std::vector<std::int64_t> last_active;  ///< [h], step number; -1 never.
  std::vector<std::int64_t> fires;        ///< [h], rows active of the last fire_rows.
  std::int64_t fire_rows = 0;
  CoderLoss sum;  ///< Over the `since` steps after the last record.
  std::int64_t since = 0;
  CoderRecord last;  ///< Not kept in checkpoints but for its loss.
  RowReservoir reservoir;
  std::int64_t resamplings = 0;
  std::int64_t resampled = 0;  ///< Latents.
};

/// Where the run is.
struct CoderRunState {
  std::int64_t step = 0;
  std::int64_t rows = 0;
  std::int64_t pass = 0;  ///< Passes finished.
};

/// What must be the same for a run to be continued.
struct CoderRunIdentity {
  std::vector<const CoderJob*> jobs;
  CoderRunOptions options;
  std::int64_t steps = 0;
};

struct CoderPart {
  std::string name;
  CoderStepper* stepper = nullptr;
  CoderJobState* state = nullptr;
};

void write_coder_checkpoint(const std::filesystem::path& path, const CoderRunIdentity& identity,
                            const CoderRunState& state, const std::vector<CoderPart>& parts,
                            const RowStream& stream);
/// Throws Error(data) naming the path and what does not fit; nothing is changed then but weights
/// that were read before.
void read_coder_checkpoint(const std::filesystem::path& path, const CoderRunIdentity& identity,
                           CoderRunState& state, const std::vector<CoderPart>& parts,
                           RowStream& stream);

}  // namespace drrik
