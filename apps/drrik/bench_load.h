#pragma once
// drrik bench load: from a model's files to its first token.

#include <cstdint>
#include <string>
#include <vector>

#include "drrik/ops/gemm.h"

namespace drrik::cli {

struct LoadTimes {
  std::string name;         ///< "load float32, cold"
  std::uint64_t bytes = 0;  ///< Of the file, all of which the first token needs.
  double load_seconds = 0;  ///< Opening, preparing the weights, a prompt of 8 tokens.
  double read_seconds = 0;  ///< read() of the same file from the same state.
};

/// Writes a random Llama of about `megabytes` into a temporary folder, and measures reading it and
/// loading it in turn, the best of `rounds` each: cold (its pages given back to the disk before)
/// and warm. Throws Error(io) when the disk is full, Error(interrupted).
std::vector<LoadTimes> measure_load(Compute compute, DType stored, std::int64_t megabytes,
                                    int rounds);

}  // namespace drrik::cli
