#pragma once
// drrik bench load: from a model's files to its first token.

#include <cstdint>
#include <string>
#include <vector>

#include "drrik/ops/gemm.h"

namespace drrik::cli {

struct LoadTimes {
  std::string name;         ///< "load float32 file, float32 products, cold"
  std::uint64_t bytes = 0;  ///< Of the file, all of which the first token needs.
  double load_seconds = 0;  ///< From Model::load to the logits behind a prompt of 8 tokens.
  double read_seconds = 0;  ///< read() of the same file, 1 MiB at a time, from the same state.
};

/// Writes a random Llama of about `megabytes` into a temporary folder, and measures reading it and
/// loading it in turn, the best of `rounds` each: cold (just before each of the two, all pages of
/// the file leave the page cache: posix_fadvise DONTNEED) and warm (all of them are in it). Cold is
/// left out, with a warning, where pages will not leave (a file system in memory). Throws Error(io)
/// when the disk is full, Error(interrupted).
std::vector<LoadTimes> measure_load(Compute compute, DType stored, std::int64_t megabytes,
                                    int rounds);

}  // namespace drrik::cli
