#pragma once
// The loop around panel kernels: cuts a product into tasks, prepares the sums, serves the last
// panel, whose columns end before the panel does.

#include <algorithm>

#include "drrik/base/threads.h"
#include "ops/gate_rows.h"
#include "ops/panel_product.h"

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
  std::int64_t depth = 0;   ///< Inputs of a panel taken at a time.
  std::int64_t stride = 0;  ///< Of copied rows; 0: x is used in place.
};

template <typename X>
Cut cut_product(MatView<const X> x) {
  constexpr std::int64_t kDepthBytes = 256 << 10;  // Of a panel.
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(X));
  Cut cut;
  cut.block = block_rows(x.rows(), x.cols() * kSize);
  cut.blocks = (x.rows() + cut.block - 1) / cut.block;
  cut.depth = kDepthBytes / (kPanel * kSize);
  // Rows a power of two apart fall on the same few lines of a cache.
  const bool copy = x.rows() > 12 && x.stride() * kSize % 2048 == 0;
  cut.stride = copy ? round_up(x.cols(), 64) + 32 : 0;
  return cut;
}

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
/// run(rows of x, panel, first input, from, to) does one piece.
template <typename X, typename F>
void panel_pieces(MatView<const X> rows, std::int64_t panel, std::int64_t depth, SumsIn from,
                  float* between, SumsOut to, const F& run) {
  for (std::int64_t k = 0; k < rows.cols(); k += depth) {
    const std::int64_t count = std::min(depth, rows.cols() - k);
    const bool last = k + count == rows.cols();
    run(rows.cols_range(k, count), panel, k, from, last ? to : SumsOut{between, kPanel});
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
  const std::int64_t sums_size = cut.block * kPanel;
  const std::int64_t grain = task_grain(std::min(cut.block, x.rows()) * w.panel_elements());
  parallel_for(cut.blocks * w.panels, grain, [&](std::int64_t begin, std::int64_t end) {
    std::byte* memory = task_memory(static_cast<std::size_t>(sums_size) * sizeof(float) +
                                    static_cast<std::size_t>(cut.block * cut.stride) * sizeof(X));
    auto* sums = reinterpret_cast<float*>(memory);
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
      panel_pieces(rows, p, cut.depth, from, sums, to, run);
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
  const std::int64_t pairs = w.panels / 2;
  const std::int64_t sums_size = cut.block * kPanel;
  const std::int64_t grain = task_grain(2 * std::min(cut.block, x.rows()) * w.panel_elements());
  parallel_for(cut.blocks * pairs, grain, [&](std::int64_t begin, std::int64_t end) {
    std::byte* memory = task_memory(2 * static_cast<std::size_t>(sums_size) * sizeof(float) +
                                    static_cast<std::size_t>(cut.block * cut.stride) * sizeof(X));
    float* sums[2] = {reinterpret_cast<float*>(memory),
                      reinterpret_cast<float*>(memory) + sums_size};
    BlockRows<X> block_rows_of(x, cut, reinterpret_cast<X*>(sums[1] + sums_size));
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t block = task / pairs;
      const MatView<const X> rows = block_rows_of.get(block);
      const std::int64_t n = rows.rows();
      for (int half = 0; half < 2; ++half) {
        const std::int64_t p = task % pairs + half * pairs;
        alignas(64) float start[kPanel] = {};
        if (bias != nullptr) std::copy_n(bias + p * kPanel, kPanel, start);
        panel_pieces(rows, p, cut.depth, {start, 0}, sums[half], {sums[half], kPanel}, run);
      }
      gate_rows(activation, {sums[0], n, kPanel}, {sums[1], n, kPanel},
                out.rows_range(block * cut.block, n).cols_range(task % pairs * kPanel, kPanel));
    }
  });
}

}  // namespace drrik::detail
