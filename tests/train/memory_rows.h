#pragma once
// A matrix in memory as a RowSource, and rows made by seed.

#include <cstdint>
#include <utility>
#include <vector>

#include "drrik/activations/row_source.h"
#include "drrik/base/rng.h"
#include "drrik/tensor/tensor.h"

namespace drrik::testing {

class MemoryRows final : public RowSource {
 public:
  explicit MemoryRows(Tensor rows) : rows_(std::move(rows)) {}
  std::int64_t rows() const override { return rows_.dim(0); }
  std::int64_t dim() const override { return rows_.dim(1); }
  void read(std::int64_t begin, MatView<float> out) const override {
    for (std::int64_t r = 0; r < out.rows(); ++r) copy_row(begin + r, out.row_ptr(r));
  }
  void gather(std::span<const std::int64_t> indices, MatView<float> out) const override {
    for (std::size_t r = 0; r < indices.size(); ++r) {
      copy_row(indices[r], out.row_ptr(static_cast<std::int64_t>(r)));
    }
  }
  Tensor& tensor() { return rows_; }

 private:
  void copy_row(std::int64_t r, float* to) const {
    for (const float v : rows_.mat<float>().row(r)) *to++ = v;
  }
  Tensor rows_;
};

/// Sparse non-negative combinations of random directions plus an offset.
inline Tensor sparse_rows(std::int64_t n, std::int64_t d, std::uint64_t seed) {
  Rng rng(seed);
  const std::int64_t k = 2 * d;
  std::vector<float> directions(static_cast<std::size_t>(k * d));
  for (float& v : directions) v = rng.normal();
  std::vector<float> offset(static_cast<std::size_t>(d));
  for (float& v : offset) v = 0.5F * rng.normal();
  Tensor out = Tensor::zeros<float>({n, d});
  const auto m = out.mutable_mat<float>();
  for (std::int64_t r = 0; r < n; ++r) {
    for (std::int64_t c = 0; c < d; ++c) m(r, c) = offset[static_cast<std::size_t>(c)];
    for (int i = 0; i < 3; ++i) {
      const auto j = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(k)));
      const float a = rng.uniform();
      for (std::int64_t c = 0; c < d; ++c) {
        m(r, c) += a * directions[static_cast<std::size_t>(j * d + c)];
      }
    }
  }
  return out;
}

}  // namespace drrik::testing
