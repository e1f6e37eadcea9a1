#include "drrik/sae/statistics.h"

#include <algorithm>
#include <memory>

#include "drrik/base/error.h"

namespace drrik {
namespace {

// "a comes before b" among top examples.
bool before(const TopExample& a, const TopExample& b) {
  return a.value != b.value ? a.value > b.value : a.row < b.row;
}

}  // namespace

RowBlocks blocks_of(MatView<const float> rows, std::int64_t block_rows) {
  auto next = std::make_shared<std::int64_t>(0);
  const std::int64_t step = std::max<std::int64_t>(block_rows, 1);
  return [rows, step, next]() -> MatView<const float> {
    const std::int64_t begin = *next;
    const std::int64_t count = std::min(step, rows.rows() - begin);
    if (count <= 0) return {};
    *next += count;
    return rows.rows_range(begin, count);
  };
}

std::vector<double> get_feature_density(const Sae& sae, const RowBlocks& next) {
  std::vector<std::int64_t> active(static_cast<std::size_t>(sae.d_sae()), 0);
  std::int64_t rows = 0;
  SparseRows features;
  for (MatView<const float> block = next(); block.rows() > 0; block = next()) {
    sae.encode(block, features);
    for (const std::int32_t latent : features.latent) ++active[static_cast<std::size_t>(latent)];
    rows += block.rows();
  }
  std::vector<double> density(active.size(), 0.0);
  for (std::size_t j = 0; j < active.size() && rows > 0; ++j) {
    density[j] = static_cast<double>(active[j]) / static_cast<double>(rows);
  }
  return density;
}

std::vector<double> get_feature_density(const Sae& sae, MatView<const float> rows) {
  return get_feature_density(sae, blocks_of(rows));
}

std::vector<TopExample> get_top_activating_examples(const Sae& sae, const RowBlocks& next,
                                                    std::int64_t feature, std::int64_t k) {
  if (feature < 0 || feature >= sae.d_sae()) {
    throw_usage("feature ", feature, " is outside [0, ", sae.d_sae(), ")");
  }
  if (k < 0) throw_usage("top examples: k is ", k, ", wanted >= 0");
  // A heap whose top is the worst example kept.
  std::vector<TopExample> heap;
  const auto offer = [&](TopExample example) {
    if (static_cast<std::int64_t>(heap.size()) < k) {
      heap.push_back(example);
      std::push_heap(heap.begin(), heap.end(), before);
    } else if (k > 0 && before(example, heap.front())) {
      std::pop_heap(heap.begin(), heap.end(), before);
      heap.back() = example;
      std::push_heap(heap.begin(), heap.end(), before);
    }
  };
  std::int64_t first = 0;
  SparseRows features;
  for (MatView<const float> block = next(); block.rows() > 0; block = next()) {
    sae.encode(block, features);
    for (std::int64_t r = 0; r < block.rows(); ++r) {
      const auto begin = features.latent.begin() + features.row_start[static_cast<std::size_t>(r)];
      const auto end =
          features.latent.begin() + features.row_start[static_cast<std::size_t>(r) + 1];
      const auto found = std::lower_bound(begin, end, static_cast<std::int32_t>(feature));
      const bool hit = found != end && *found == feature;
      offer(
          {first + r,
           hit ? features.value[static_cast<std::size_t>(found - features.latent.begin())] : 0.0F});
    }
    first += block.rows();
  }
  std::sort(heap.begin(), heap.end(), before);
  return heap;
}

std::vector<TopExample> get_top_activating_examples(const Sae& sae, MatView<const float> rows,
                                                    std::int64_t feature, std::int64_t k) {
  return get_top_activating_examples(sae, blocks_of(rows), feature, k);
}

}  // namespace drrik
