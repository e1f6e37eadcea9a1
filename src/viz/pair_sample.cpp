#include "viz/pair_sample.h"

#include <algorithm>

#include "drrik/base/interrupt.h"
#include "drrik/base/threads.h"

namespace drrik::detail {
namespace {

// Of a row's record, in entries, so that rows on which nothing fires are bounded as well.
constexpr std::int64_t kRowEntries = 6;

}  // namespace

PairSample::PairSample(std::int64_t d_sae, const FeatureExamplesOptions& options)
    : d_sae_(d_sae),
      seed_(mix(options.seed ^ 0x70616972ULL)),
      max_entries_(options.pair_entries),
      max_pairs_(options.pair_count) {}

void PairSample::add(std::int64_t row, std::span<const std::int32_t> latents) {
  const std::uint64_t key = mix(seed_ + static_cast<std::uint64_t>(row));
  if (key > limit_) return;
  const auto count = static_cast<std::int64_t>(latents.size());
  rows_.push_back({key, static_cast<std::int64_t>(latents_.size()), count});
  latents_.insert(latents_.end(), latents.begin(), latents.end());
  entries_ += count + kRowEntries;
  pairs_ += count * count;
  while (over() && limit_ > 0) shrink();
}

void PairSample::shrink() {
  limit_ >>= 1U;
  std::size_t kept = 0;
  std::int64_t end = 0;
  entries_ = pairs_ = 0;
  for (const Row& row : rows_) {
    if (row.key > limit_) continue;
    std::copy_n(latents_.begin() + row.begin, row.count, latents_.begin() + end);
    rows_[kept++] = {row.key, end, row.count};
    end += row.count;
    entries_ += row.count + kRowEntries;
    pairs_ += row.count * row.count;
  }
  rows_.resize(kept);
  latents_.resize(static_cast<std::size_t>(end));
}

std::int64_t PairSample::memory() const {
  return static_cast<std::int64_t>(rows_.capacity() * sizeof(Row) +
                                   latents_.capacity() * sizeof(std::int32_t));
}

std::int64_t PairSample::memory_bound(const FeatureExamplesOptions& options) {
  // Vectors double; the entries of one more row come before they are thinned out.
  return 2 * 4 * (options.pair_entries + (std::int64_t{1} << 20));
}

std::vector<std::vector<Coactivation>> PairSample::coactive(std::int64_t k) const {
  const auto h = static_cast<std::size_t>(d_sae_);
  // Rows of each latent.
  std::vector<std::int64_t> start(h + 1, 0);
  for (const std::int32_t latent : latents_) ++start[static_cast<std::size_t>(latent) + 1];
  for (std::size_t f = 0; f < h; ++f) start[f + 1] += start[f];
  std::vector<std::int32_t> rows_of(latents_.size());
  std::vector<std::int64_t> next(start.begin(), start.end() - 1);
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    for (std::int64_t i = 0; i < rows_[r].count; ++i) {
      const auto f =
          static_cast<std::size_t>(latents_[static_cast<std::size_t>(rows_[r].begin + i)]);
      rows_of[static_cast<std::size_t>(next[f]++)] = static_cast<std::int32_t>(r);
    }
  }

  std::vector<std::vector<Coactivation>> out(h);
  parallel_for(d_sae_, 64, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::int32_t> together(h, 0);
    std::vector<std::int32_t> seen;
    std::vector<Coactivation> found;
    for (std::int64_t f = begin; f < end; ++f) {
      const std::int64_t first = start[static_cast<std::size_t>(f)];
      const std::int64_t last = start[static_cast<std::size_t>(f) + 1];
      seen.clear();
      for (std::int64_t i = first; i < last; ++i) {
        const Row& row = rows_[static_cast<std::size_t>(rows_of[static_cast<std::size_t>(i)])];
        for (std::int64_t j = row.begin; j < row.begin + row.count; ++j) {
          const std::int32_t other = latents_[static_cast<std::size_t>(j)];
          if (together[static_cast<std::size_t>(other)]++ == 0) seen.push_back(other);
        }
      }
      found.clear();
      for (const std::int32_t other : seen) {
        const auto o = static_cast<std::size_t>(other);
        const std::int64_t both = together[o];
        together[o] = 0;
        if (other == f || both < 2) continue;
        const std::int64_t either = last - first + start[o + 1] - start[o] - both;
        found.push_back({other, static_cast<double>(both) / static_cast<double>(either), both});
      }
      const auto count =
          std::min(static_cast<std::size_t>(std::max<std::int64_t>(k, 0)), found.size());
      std::partial_sort(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(count),
                        found.end(), [](const Coactivation& a, const Coactivation& b) {
                          return a.jaccard != b.jaccard ? a.jaccard > b.jaccard
                                                        : a.feature < b.feature;
                        });
      out[static_cast<std::size_t>(f)].assign(found.begin(),
                                              found.begin() + static_cast<std::ptrdiff_t>(count));
    }
  });
  return out;
}

}  // namespace drrik::detail
