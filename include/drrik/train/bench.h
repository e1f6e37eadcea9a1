#pragma once
// How fast a training step is here, by phase, against the roofline of dense steps.

#include <cstdint>
#include <string>
#include <vector>

#include "drrik/ops/gemm.h"

namespace drrik {

struct TrainBenchOptions {
  std::int64_t d = 512;
  std::int64_t hidden = 4096;
  std::int64_t batch = 256;
  double seconds = 2.0;  ///< Of measurement.
  /// Mean active latents a row. The weights are made so that a batch has about so many.
  double l0 = 32.0;
  /// "relu" (the described one) or one of sparse_coder_architectures(), whose k is l0.
  std::string architecture = "relu";
  Compute compute = Compute::kF32;  ///< Of the encoder product; relu has kF32 only.
  double dead_share = 0.0;          ///< Latents that count as dead, for the auxiliary loss.
};

struct TrainBenchResult {
  std::string name;
  double value = 0.0;
  std::string unit;
  double limit = 0.0;  ///< In the same unit; 0: none.
  std::string limit_is;
};

/// Rows per second of whole steps (metrics and dead-latent bookkeeping on) against the dense
/// roofline, i.e. 10·B·d·h FLOP a step at the rate of the matrix products alone measured in the
/// same run; then milliseconds by phase. Throws Error(usage) for impossible sizes.
std::vector<TrainBenchResult> run_train_bench(const TrainBenchOptions& options = {});

}  // namespace drrik
