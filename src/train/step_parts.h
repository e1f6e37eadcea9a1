#pragma once
// What the files of a training step share: buffers, time, a batch packed for products.

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "drrik/base/system.h"
#include "drrik/base/threads.h"
#include "drrik/ops/convert.h"
#include "drrik/ops/gemm.h"
#include "drrik/ops/sae_kernels.h"
#include "drrik/tensor/tensor.h"

namespace drrik::step {

/// Above this share of active entries products are faster (docs/performance.md).
inline constexpr double kSparseBelow = 0.125;

inline std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// A buffer [rows, cols] that is made anew only when the shape changes.
inline MatView<float> shaped(Tensor& tensor, std::int64_t rows, std::int64_t cols) {
  if (!tensor.defined() || tensor.dim(0) != rows || tensor.dim(1) != cols) {
    tensor = Tensor();
    tensor = Tensor::uninitialized(DType::kF32, {rows, cols});
  }
  return tensor.mutable_mat<float>();
}

/// Room for n elements, kept from batch to batch.
template <typename T>
void grow(std::vector<T>& v, std::int64_t n) {
  if (v.size() < at(n)) v.resize(at(n + n / 4));
}

/// Rows of `cols` elements that are worth a thread.
inline std::int64_t rows_grain(std::int64_t cols) {
  return std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(cols, 1));
}

inline double sum_of(std::span<const double> values) {
  double sum = 0.0;
  for (const double v : values) sum += v;
  return sum;
}

/// out = x − row, where `out` may be x.
inline void subtract_row(MatView<const float> x, std::span<const float> row, MatView<float> out) {
  parallel_for(x.rows(), rows_grain(x.cols()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const float* from = x.row_ptr(r);
      float* to = out.row_ptr(r);
      for (std::size_t c = 0; c < row.size(); ++c) to[c] = from[c] - row[c];
    }
  });
}

/// A batch as the packed factor of products with latents on the left: y [latents, B].
inline Weight packed(MatView<const float> x, Tensor& holder, Compute compute = Compute::kF32) {
  copy(x, shaped(holder, x.rows(), x.cols()));
  return Weight::pack(holder, compute);
}

/// Calls f(i, e) for each entry e of latents first + i, i < count, in parallel over latents, after
/// start(i).
template <typename Start, typename F>
void each_entry(const ActiveEntries& entries, std::int64_t first, std::int64_t count,
                const Start& start, const F& f) {
  parallel_for(count, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      start(i);
      const std::int64_t stop = entries.start[at(first + i + 1)];
      for (std::int64_t e = entries.start[at(first + i)]; e < stop; ++e) f(i, e);
    }
  });
}

/// Values of the entries of latents [first, first + out.rows()) as a dense matrix [latents, B].
inline void scatter(const ActiveEntries& entries, std::int64_t first, std::span<const float> values,
                    MatView<float> out) {
  each_entry(
      entries, first, out.rows(),
      [&](std::int64_t i) { std::fill_n(out.row_ptr(i), out.cols(), 0.0F); },
      [&](std::int64_t i, std::int64_t e) { out(i, entries.row[at(e)]) = values[at(e)]; });
}

/// The entries' places of such a matrix, back.
inline void gather(const ActiveEntries& entries, std::int64_t first, MatView<const float> from,
                   std::span<float> values) {
  each_entry(
      entries, first, from.rows(), [](std::int64_t) {},
      [&](std::int64_t i, std::int64_t e) { values[at(e)] = from(i, entries.row[at(e)]); });
}

/// Adds the seconds between laps to the phases of a step.
class Stopwatch {
 public:
  /// Seconds since the last call are added to `to`.
  void lap(double& to) {
    const double now = monotonic_seconds();
    to += now - last_;
    last_ = now;
  }

 private:
  double last_ = monotonic_seconds();
};

}  // namespace drrik::step
