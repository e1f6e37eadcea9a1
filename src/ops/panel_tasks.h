#pragma once
// The loop around panel kernels: cuts a product into tasks, prepares the sums, serves the last
// panel, whose columns end before the panel does.

#include <algorithm>
#include <optional>

#include "drrik/base/threads.h"
#include "ops/gate_rows.h"
#include "ops/panel_fill.h"
#include "ops/panel_product.h"
#include "ops/row_product.h"

namespace drrik::detail {

/// Rows of a task: their inputs stay in the second-level cache while the panels go by.
inline std::int64_t block_rows(std::int64_t rows, std::int64_t row_bytes) {
  constexpr std::int64_t kBlockBytes = 512 << 10;
  constexpr std::int64_t kTileRows = 6;
  const std::int64_t fit =
      std::clamp<std::int64_t>(kBlockBytes / std::max<std::int64_t>(row_bytes, 1), 48, 384);
  const std::int64_t blocks = (rows + fit - 1) / fit;
  // Even blocks, so that the last is not a sliver.
  return round_up((rows + blocks - 1) / blocks, kTileRows);
}

/// Memory of this thread for a task, kept between calls.
inline std::byte* task_memory(std::size_t bytes) {
  static thread_local AlignedBuffer buffer;
  if (buffer.size() < bytes) {
    buffer = AlignedBuffer();
    buffer = AlignedBuffer(bytes, AlignedBuffer::Init::kNone);
  }
  return buffer.data();
}

/// How a product is cut: blocks of rows, in each of which the panels go by.
struct Cut {
  std::int64_t block = 0;  ///< Rows of a block.
  std::int64_t blocks = 0;
  std::int64_t stride = 0;  ///< Of copied rows; 0: x is used in place.
};

template <typename X>
Cut cut_product(MatView<const X> x) {
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(X));
  Cut cut;
  cut.block = block_rows(x.rows(), x.cols() * kSize);
  cut.blocks = (x.rows() + cut.block - 1) / cut.block;
  // Rows a power of two apart fall on the same few lines of a cache.
  const bool copy = x.rows() > 12 && x.stride() * kSize % 2048 == 0;
  cut.stride = copy ? round_up(x.cols(), 64) + 32 : 0;
  return cut;
}

/// The panels of a weight for one product: read where they are packed, or made as they go by, or
/// for few rows of x not made at all.
class Panels {
 public:
  Panels(const Weight::Impl& w, std::int64_t rows, std::int64_t passes)
      : w_(w), form_(w.form_for(passes)), few_(rows <= kRowsAtOnce) {
    // Kept float16 is widened on the way.
    dtype_ = !form_.packed && w.dtype == DType::kF16 ? DType::kF32 : w.dtype;
    const auto size = static_cast<std::int64_t>(dtype_size(dtype_));
    constexpr std::int64_t kDepthBytes = 256 << 10;
    depth_ = form_.packed ? kDepthBytes / (kPanel * size) : kPieceWords * 4 / size;
  }

  /// The rows behind panel p, where they can be multiplied as they lie.
  std::optional<RowsInPlace> in_place(std::int64_t p) const {
    if (!few_ || form_.packed) return std::nullopt;
    const StoredRows& rows = form_.kept->rows;
    const std::size_t position = rows.run_of(p * kPanel);
    const StoredRows::Run& run = rows.runs[position];
    if (rows.layout != WeightLayout::kOutIn || run.dtype != dtype_ ||
        rows.end_of(position) < (p + 1) * kPanel) {
      return std::nullopt;
    }
    return RowsInPlace{run.at(p * kPanel, 0), run.row_step, rows.in};
  }

  /// Of the elements of pieces.
  DType dtype() const { return dtype_; }
  /// Inputs that a piece holds at most.
  std::int64_t depth() const { return depth_; }
  /// Bytes of memory that piece() wants, aligned to 64.
  std::size_t memory() const { return form_.packed ? 0 : kPieceBytes; }

  /// Inputs [k, k + count) of panel p, count <= depth(). In bfloat16, count may be one more than
  /// there are.
  const std::byte* piece(std::int64_t p, std::int64_t k, std::int64_t count,
                         std::byte* memory) const {
    if (form_.packed) {
      return form_.packed->data() +
             static_cast<std::size_t>((p * w_.in_padded + k) * kPanel) * dtype_size(dtype_);
    }
    const StoredRows& rows = form_.kept->rows;
    if (dtype_ == DType::kBF16) {
      fill_panel(rows, p, k, count, reinterpret_cast<BF16*>(memory));
    } else {
      fill_panel(rows, p, k, count, reinterpret_cast<float*>(memory));
    }
    return memory;
  }

 private:
  const Weight::Impl& w_;
  WeightForm form_;
  bool few_;
  DType dtype_ = DType::kF32;
  std::int64_t depth_ = 0;
};

/// The rows of the block that this thread works on, copied where the cut says so.
template <typename X>
class BlockRows {
 public:
  BlockRows(MatView<const X> x, const Cut& cut, X* memory) : x_(x), cut_(cut), memory_(memory) {}

  MatView<const X> get(std::int64_t block) {
    const std::int64_t row = block * cut_.block;
    const MatView<const X> rows = x_.rows_range(row, std::min(cut_.block, x_.rows() - row));
    if (cut_.stride == 0) return rows;
    const MatView<X> copied(memory_, rows.rows(), rows.cols(), cut_.stride);
    if (block != held_) {
      for (std::int64_t r = 0; r < rows.rows(); ++r) {
        std::copy_n(rows.row_ptr(r), rows.cols(), copied.row_ptr(r));
      }
      held_ = block;
    }
    return copied;
  }

 private:
  MatView<const X> x_;
  const Cut& cut_;
  X* memory_;
  std::int64_t held_ = -1;
};

/// One panel's products for some rows of x, its inputs taken in pieces. The sums start at `from`
/// (which may be `to`, or may be `between`), rest in `between` [rows][64] and end in `to`.
/// run.piece(rows of x, the panel's piece and its type, from, to) does one piece, run.rows() the
/// whole panel from the rows behind it.
template <typename X, typename F>
void panel_pieces(MatView<const X> rows, const Panels& panels, std::int64_t p,
                  std::byte* piece_memory, SumsIn from, float* between, SumsOut to, const F& run) {
  if (const std::optional<RowsInPlace> w = panels.in_place(p)) {
    run.rows(rows, *w, panels.dtype(), from, to);
    return;
  }
  for (std::int64_t k = 0; k < rows.cols(); k += panels.depth()) {
    const std::int64_t count = std::min(panels.depth(), rows.cols() - k);
    const bool last = k + count == rows.cols();
    run.piece(rows.cols_range(k, count), panels.piece(p, k, count, piece_memory), panels.dtype(),
              from, last ? to : SumsOut{between, kPanel});
    from = {between, kPanel};
  }
}

/// A thread is worth its start for some 65,000 multiply-adds.
inline std::int64_t task_grain(std::int64_t multiply_adds) {
  return std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(multiply_adds, 1));
}

/// y = (y +) (bias +) x Wᵀ by way of `run` (see panel_pieces).
template <typename X, typename F>
void run_panels(MatView<const X> x, const Weight::Impl& w, const float* bias, bool accumulate,
                MatView<float> y, const F& run) {
  const Cut cut = cut_product(x);
  const Panels panels(w, x.rows(), cut.blocks);
  const std::int64_t sums_size = cut.block * kPanel;
  const std::int64_t grain = task_grain(std::min(cut.block, x.rows()) * w.panel_elements());
  parallel_for(cut.blocks * w.panels, grain, [&](std::int64_t begin, std::int64_t end) {
    std::byte* piece =
        task_memory(panels.memory() + static_cast<std::size_t>(sums_size) * sizeof(float) +
                    static_cast<std::size_t>(cut.block * cut.stride) * sizeof(X));
    auto* sums = reinterpret_cast<float*>(piece + panels.memory());
    BlockRows<X> block_rows_of(x, cut, reinterpret_cast<X*>(sums + sums_size));
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t block = task / w.panels;
      const std::int64_t p = task % w.panels;
      const MatView<const X> rows = block_rows_of.get(block);
      const std::int64_t n = rows.rows();
      const std::int64_t column = p * kPanel;
      const std::int64_t width = std::min(kPanel, w.out - column);
      const MatView<float> out = y.rows_range(block * cut.block, n).cols_range(column, width);
      // Where the first sums come from: y itself, the bias, or zero.
      alignas(64) float start[kPanel] = {};
      SumsIn from{start, 0};
      if (bias != nullptr) std::copy_n(bias + column, width, start);
      if (accumulate && (bias != nullptr || width < kPanel)) {
        for (std::int64_t r = 0; r < n; ++r) {
          for (std::int64_t j = 0; j < kPanel; ++j) {
            sums[r * kPanel + j] = start[j] + (j < width ? out(r, j) : 0.0F);
          }
        }
        from = {sums, kPanel};
      } else if (accumulate) {
        from = {out.data(), out.stride()};
      }
      // The last panel may be wider than what is left of y.
      const SumsOut to =
          width == kPanel ? SumsOut{out.data(), out.stride()} : SumsOut{sums, kPanel};
      panel_pieces(rows, panels, p, piece, from, sums, to, run);
      if (width < kPanel) {
        for (std::int64_t r = 0; r < n; ++r) std::copy_n(sums + r * kPanel, width, out.row_ptr(r));
      }
    }
  });
}

/// out = f(gate) · up for panels p of the gate and p + panels / 2 of what it lets through. The
/// panels must divide evenly: w.out a multiple of 128.
template <typename X, typename F>
void run_gated_panels(MatView<const X> x, const Weight::Impl& w, const float* bias,
                      Activation activation, MatView<X> out, const F& run) {
  const Cut cut = cut_product(x);
  const Panels panels(w, x.rows(), cut.blocks);
  const std::int64_t pairs = w.panels / 2;
  const std::int64_t sums_size = cut.block * kPanel;
  const std::int64_t grain = task_grain(2 * std::min(cut.block, x.rows()) * w.panel_elements());
  parallel_for(cut.blocks * pairs, grain, [&](std::int64_t begin, std::int64_t end) {
    std::byte* piece =
        task_memory(panels.memory() + 2 * static_cast<std::size_t>(sums_size) * sizeof(float) +
                    static_cast<std::size_t>(cut.block * cut.stride) * sizeof(X));
    auto* first_sums = reinterpret_cast<float*>(piece + panels.memory());
    float* sums[2] = {first_sums, first_sums + sums_size};
    BlockRows<X> block_rows_of(x, cut, reinterpret_cast<X*>(sums[1] + sums_size));
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t block = task / pairs;
      const MatView<const X> rows = block_rows_of.get(block);
      const std::int64_t n = rows.rows();
      for (int half = 0; half < 2; ++half) {
        const std::int64_t p = task % pairs + half * pairs;
        alignas(64) float start[kPanel] = {};
        if (bias != nullptr) std::copy_n(bias + p * kPanel, kPanel, start);
        panel_pieces(rows, panels, p, piece, {start, 0}, sums[half], {sums[half], kPanel}, run);
      }
      gate_rows(activation, {sums[0], n, kPanel}, {sums[1], n, kPanel},
                out.rows_range(block * cut.block, n).cols_range(task % pairs * kPanel, kPanel));
    }
  });
}

}  // namespace drrik::detail
