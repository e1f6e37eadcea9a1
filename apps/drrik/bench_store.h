#pragma once
// drrik bench store: training from a mapped store beside training from rows in memory.

#include <cstdint>
#include <string>

#include "drrik/ops/gemm.h"

namespace drrik::cli {

struct StoreBench {
  std::int64_t d = 512;
  std::int64_t hidden = 4096;
  std::int64_t batch = 4096;
  std::string architecture = "topk";
  Compute compute = Compute::kF32;
  std::int64_t megabytes = 1000;  ///< Of the store.
  int rounds = 5;
};

struct StoreRates {
  double store =
      0;  ///< Rows a second, shuffled over the whole store, whose pages are in the page cache.
  double memory = 0;  ///< The same from 65,536 rows in memory.
  /// Memory of its own (not the mapping's pages) that the process took on while it trained from the
  /// store the last time, bytes.
  std::int64_t grown = 0;
};

/// Writes a store into a temporary folder and trains from it and from memory in turn, the best of
/// `rounds` each. Throws Error(io) when the disk is full, Error(interrupted).
StoreRates measure_store(const StoreBench& options);

}  // namespace drrik::cli
