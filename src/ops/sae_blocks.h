#pragma once
// Collecting entries latent by latent, in parallel, behind those that are there.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "drrik/base/threads.h"
#include "drrik/ops/sae_kernels.h"
#include "ops/grain.h"

namespace drrik::detail {

inline std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

template <typename T>
void grow(std::vector<T>& v, std::int64_t n) {
  if (v.size() < at(n)) v.resize(at(n + n / 4));
}

/// Entries of one latent with pre[r] + bias > threshold, rows ascending. Writes whole vectors: the
/// outputs need room for n entries and a vector more. Returns how many.
std::int64_t latent_above(const float* pre, std::int64_t n, float bias, float threshold,
                          std::int32_t* row, float* value);
/// Entries of one row with (pre[j] + bias[j]) · scale[j] > floor (scale null: 1) over latents
/// [first, last), in the same manner.
std::int64_t row_above(const float* pre, const float* bias, const float* scale, float floor,
                       std::int64_t first, std::int64_t last, std::int32_t* latent, float* value);

constexpr std::int64_t kLatentBlock = 16;  // collected apart, then put behind each other

/// Appends latents [first, first + pre_t.rows()) to `entries`, their numbers to `values`:
/// found = f(j, row, value) writes the entries of latent j of the chunk, by whole vectors.
template <typename F>
void collect_latents(MatView<const float> pre_t, std::int64_t first, ActiveEntries& entries,
                     std::vector<float>& values, const F& f) {
  constexpr std::int64_t kRoom = 64;  // behind the last entry: as many floats as a vector may have
  const std::int64_t n = pre_t.cols();
  const std::int64_t blocks = (pre_t.rows() + kLatentBlock - 1) / kLatentBlock;
  if (entries.blocks.size() < at(blocks)) entries.blocks.resize(at(blocks));
  std::int64_t* start = entries.start.data() + first;
  const std::int64_t grain = row_grain(kLatentBlock * n);
  parallel_for(blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      ActiveEntries::Block& block = entries.blocks[at(b)];
      block.count = 0;
      const std::int64_t stop = std::min(pre_t.rows(), (b + 1) * kLatentBlock);
      for (std::int64_t j = b * kLatentBlock; j < stop; ++j) {
        const std::int64_t room = block.count + n + kRoom;
        if (block.row.size() < at(room)) {
          block.row.resize(at(room + room / 2));
          block.value.resize(at(room + room / 2));
        }
        const std::int64_t found =
            f(j, block.row.data() + block.count, block.value.data() + block.count);
        start[j + 1] = found;
        block.count += found;
      }
    }
  });
  start[0] = entries.count;
  for (std::int64_t j = 0; j < pre_t.rows(); ++j) start[j + 1] += start[j];
  entries.count = start[pre_t.rows()];
  grow(entries.row, entries.count);
  grow(values, entries.count);
  parallel_for(blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const ActiveEntries::Block& block = entries.blocks[at(b)];
      const std::int64_t to = start[b * kLatentBlock];
      std::copy_n(block.row.data(), block.count, entries.row.data() + to);
      std::copy_n(block.value.data(), block.count, values.data() + to);
    }
  });
}

}  // namespace drrik::detail
