#pragma once
// From pre-activations to the entries that can be active: by thresholds, or the k largest.

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "drrik/ops/sae_kernels.h"
#include "drrik/tensor/mat_view.h"

namespace drrik {

/// Which entries h = p + bias of a row or batch are let through.
struct SaeSelection {
  enum class Kind : std::uint8_t {
    kThreshold,  ///< h_j > threshold[j]
    kTopK,       ///< the k largest h_j · scale[j] of each row, of those above `floor`
    kBatchTopK   ///< the k · B largest of the batch's B rows, of those above `floor`
  };
  Kind kind = Kind::kThreshold;
  std::vector<float> threshold;  ///< [h]; kThreshold only
  std::int64_t k = 0;
  float floor = 0.0F;        ///< 0: as behind a ReLU; −inf: any.
  std::vector<float> scale;  ///< [h] >= 0, or empty: 1
  /// kBatchTopK: wanted of the whole batch where the B rows are a part of it; 0: k · B.
  std::int64_t total = 0;
};

/// Where the best of a batch end: scaled values above `last` are in, and of those equal to it the
/// first `equal`.
struct SaeCut {
  float last = 0.0F;
  std::int64_t equal = 0;
};
/// Finds the cut of a batch that lies in several parts, from the values of this part.
using SaeFindCut = std::function<SaeCut(std::span<const float> scaled)>;

/// One row: pre [h], bias [h]. Writes latents (ascending) and h to `latent` and `value`, which need
/// room for h entries and 64 bytes more. Of equal values the earlier latents are taken. Returns how
/// many. kBatchTopK is not for one row (Error(usage)).
std::int64_t sae_select_row(std::span<const float> pre, std::span<const float> bias,
                            const SaeSelection& selection, std::int32_t* latent, float* value);

/// A batch, by chunks of latents, transposed as in sae_kernels.h. What can no longer be among the
/// k largest is dropped on the way: the k-th largest of some latents bounds that of all from below.
/// Keeps its buffers from batch to batch. Results do not depend on chunks or threads; of equal
/// values the earlier latents are taken, then the earlier rows.
class SaeSelector {
 public:
  /// Both are kept until finish(). Throws Error(usage) when B or h exceed 2^31 - 1, Error(data)
  /// when a threshold or scale is missing.
  void begin(const SaeSelection& selection, std::int64_t rows, std::int64_t latents,
             ActiveEntries& entries);
  /// pre_t [latents of the chunk, B] without bias; bias of the chunk; chunks come in order.
  void add(MatView<const float> pre_t, std::span<const float> bias, std::int64_t first);
  /// entries then holds start, row, pre (h) and, where by_row, row_start, latent and position;
  /// value and grad have room. kBatchTopK: `cut` is asked, where given, always and only here.
  void finish(bool by_row = true, const SaeFindCut& cut = {});

 private:
  void raise_floors();
  void group();
  std::int64_t wanted() const;
  void keep_best(const SaeFindCut& cut);
  template <typename Keep>
  void compact(const Keep& keep);

  const SaeSelection* selection_ = nullptr;
  ActiveEntries* entries_ = nullptr;
  std::int64_t done_ = 0;        // latents added
  std::int64_t next_raise_ = 0;  // latents after which the floors are raised next
  bool grouped_ = false;         // the order by row is that of the entries
  std::vector<float> floors_;    // [B]: scaled values at most this are out
  std::vector<float> scratch_;
  ActiveEntries::Block kept_;
  std::vector<std::int64_t> kept_start_;
};

}  // namespace drrik
