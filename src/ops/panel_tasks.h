#pragma once
// The loop around panel kernels: cuts a product into tasks, prepares the sums, serves the last
// panel, whose columns end before the panel does.

#include <algorithm>

#include "drrik/base/threads.h"
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

/// run(rows of x, panel, first input, from, to) adds the products of x's rows and the panel from
/// that input on to 64-wide sums.
template <typename X, typename F>
void run_panels(MatView<const X> x, const Weight::Impl& w, const float* bias, bool accumulate,
                MatView<float> y, const F& run) {
  // Bytes of a panel taken at a time.
  constexpr std::int64_t kDepthBytes = 256 << 10;
  const std::int64_t depth = kDepthBytes / (kPanel * static_cast<std::int64_t>(sizeof(X)));
  const std::int64_t block = block_rows(x.rows(), x.cols() * static_cast<std::int64_t>(sizeof(X)));
  const std::int64_t blocks = (x.rows() + block - 1) / block;
  // Rows a power of two apart fall on the same few lines of a cache.
  const std::int64_t stride_bytes = x.stride() * static_cast<std::int64_t>(sizeof(X));
  const bool copy = x.rows() > 12 && stride_bytes % 2048 == 0;
  const std::int64_t copy_stride = round_up(x.cols(), 64) + 32;
  // A thread is worth its start for some 65,000 multiply-adds.
  const std::int64_t work = std::min(block, x.rows()) * w.panel_elements();
  const std::int64_t grain = std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(work, 1));
  parallel_for(blocks * w.panels, grain, [&](std::int64_t begin, std::int64_t end) {
    std::byte* memory = task_memory(
        static_cast<std::size_t>(block) *
        (kPanel * sizeof(float) + (copy ? static_cast<std::size_t>(copy_stride) * sizeof(X) : 0)));
    auto* sums = reinterpret_cast<float*>(memory);
    auto* copied = reinterpret_cast<X*>(memory + block * kPanel * std::int64_t{sizeof(float)});
    std::int64_t copied_row = -1;
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t row = task / w.panels * block;
      const std::int64_t n = std::min(block, x.rows() - row);
      const std::int64_t p = task % w.panels;
      const std::int64_t column = p * kPanel;
      const std::int64_t width = std::min(kPanel, w.out - column);
      MatView<const X> rows = x.rows_range(row, n);
      if (copy) {
        const MatView<X> to(copied, n, x.cols(), copy_stride);
        if (copied_row != row) {
          for (std::int64_t r = 0; r < n; ++r)
            std::copy_n(rows.row_ptr(r), x.cols(), to.row_ptr(r));
          copied_row = row;
        }
        rows = to;
      }
      const MatView<float> out = y.rows_range(row, n).cols_range(column, width);
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
      for (std::int64_t k = 0; k < x.cols(); k += depth) {
        const std::int64_t count = std::min(depth, x.cols() - k);
        const bool last = k + count == x.cols() && width == kPanel;
        const SumsOut to = last ? SumsOut{out.data(), out.stride()} : SumsOut{sums, kPanel};
        run(rows.cols_range(k, count), p, k, from, to);
        from = {sums, kPanel};
      }
      if (width < kPanel) {
        for (std::int64_t r = 0; r < n; ++r) std::copy_n(sums + r * kPanel, width, out.row_ptr(r));
      }
    }
  });
}

}  // namespace drrik::detail
