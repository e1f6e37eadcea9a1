#pragma once
// New directions for dead latents from the rows that are reconstructed worst.

#include <cstdint>
#include <span>
#include <vector>

#include "drrik/base/rng.h"
#include "drrik/sae/sparse_coder.h"
#include "drrik/tensor/mat_view.h"
#include "drrik/tensor/tensor.h"

namespace drrik {

/// A sample of rows without replacement, each drawn with probability ∝ the square of its loss, from
/// rows that come one batch at a time (Efraimidis & Spirakis, "Weighted random sampling with a
/// reservoir", 2006: the rows with the largest u^(1/weight)).
class RowReservoir {
 public:
  RowReservoir() = default;
  /// Keeps at most min(latents, 8192) rows of width d.
  RowReservoir(std::int64_t d, std::int64_t latents);

  void offer(MatView<const float> rows, std::span<const double> losses, Rng& rng);
  void clear() { size_ = 0; }
  std::int64_t size() const { return size_; }
  /// By falling key: the order in which they were drawn.
  std::vector<std::int64_t> order() const;
  std::span<const float> row(std::int64_t i) const { return rows_.mat<float>().row(i); }

  /// For checkpoints: rows [capacity, d] and keys [capacity], of which the first size() count.
  Tensor& rows() { return rows_; }
  Tensor& keys() { return keys_; }
  void set_size(std::int64_t n) { size_ = n; }

 private:
  std::int64_t size_ = 0;
  Tensor rows_;
  Tensor keys_;  // log(u) / weight, float64
};

/// Stream numbers of the generators that a run derives from its seed.
constexpr std::uint64_t kReservoirStream = 5;

/// Each latent takes a row, in the order drawn (again from the start when they are too few):
/// decoder row = the row normalised; encoder row = that direction × 0.2 × the mean norm of the
/// other encoder rows (0.1 × 0.2 when there are none); encoder bias 0. Rows are centred ones where
/// the coder centres. A decoder that is not kept at norm 1 takes the mean norm of the other decoder
/// rows. Nothing happens without rows. Of the architecture's own parameters none changes.
void resample_latents(SparseCoder& coder, std::span<const std::int64_t> latents,
                      const RowReservoir& rows);

}  // namespace drrik
