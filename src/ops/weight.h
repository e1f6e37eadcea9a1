#pragma once
// What a prepared weight is made of.
//
// Panels of 64 outputs: panel p holds [in_padded][64] elements, the columns of W's rows
// 64p..64p+63 (zero beyond `out` and `in`). In bfloat16 two consecutive inputs are interleaved,
// [in_padded / 2][64][2], as the processors' bf16 dot products take them. One layout serves
// everything: large products read a panel from cache, single rows stream it once from start to end.
//
// A weight may also be kept as its tensors hold it; products then make the panels piece by piece in
// the first-level cache (panel_fill.h), or for few rows in registers (row_product.h). The same
// numbers meet in the same order, so that results are the same to the bit.

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "drrik/ops/gemm.h"

namespace drrik {

constexpr std::int64_t kPanel = 64;

constexpr std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

namespace detail {

/// Where W [out, in] lies: runs of its rows, evenly spaced in memory that someone else holds.
struct StoredRows {
  struct Run {
    std::int64_t begin = 0;  ///< Its first row; it ends where the next run begins.
    const std::byte* data = nullptr;
    std::int64_t row_step = 0;  ///< Bytes from row to row,
    std::int64_t in_step = 0;   ///< and from input to input.
    DType dtype = DType::kF32;

    const std::byte* at(std::int64_t row, std::int64_t k) const {
      return data + (row - begin) * row_step + k * in_step;
    }
  };

  std::int64_t in = 0;
  std::int64_t out = 0;
  WeightLayout layout = WeightLayout::kOutIn;
  std::vector<Run> runs;

  /// The position in `runs` of the one that row `row` lies in, and the row behind its last.
  std::size_t run_of(std::int64_t row) const;
  std::int64_t end_of(std::size_t run) const {
    return run + 1 < runs.size() ? runs[run + 1].begin : out;
  }
};

/// Rows and the tensors they lie in, whose pages go back to the kernel with the last user.
struct KeptRows {
  std::vector<Tensor> parts;
  StoredRows rows;
  KeptRows(std::vector<Tensor> held, StoredRows places)
      : parts(std::move(held)), rows(std::move(places)) {}
  ~KeptRows();
  KeptRows(const KeptRows&) = delete;
  KeptRows& operator=(const KeptRows&) = delete;
};

/// What one product works from: one of the two.
struct WeightForm {
  std::shared_ptr<const AlignedBuffer> packed;
  std::shared_ptr<const KeptRows> kept;
};

}  // namespace detail

struct Weight::Impl {
  std::int64_t in = 0;
  std::int64_t out = 0;
  std::int64_t in_padded = 0;  ///< To a multiple of 16, in bfloat16 of 32.
  std::int64_t panels = 0;
  Compute compute = Compute::kF32;
  DType dtype = DType::kF32;  ///< kF32, kBF16 or kF16 (the last laid out like float32).

  std::int64_t panel_elements() const { return in_padded * kPanel; }
  std::size_t packed_bytes() const {
    return static_cast<std::size_t>(panels * panel_elements()) * dtype_size(dtype);
  }

  /// The form for a product that goes over all panels `passes` times. Kept rows are packed here
  /// once what making panels from them has cost would have paid for it; who comes meanwhile works
  /// from the rows. Thread-safe.
  detail::WeightForm form_for(std::int64_t passes) const;
  /// As it is now.
  detail::WeightForm form() const;

  mutable std::mutex mutex;  ///< Guards what follows.
  mutable detail::WeightForm now;
  mutable std::int64_t passes_made = 0;
  mutable bool packing = false;  ///< Somebody is, or nobody can.
};

}  // namespace drrik
