#pragma once
// Matrix products. linear(), over weights packed once, runs on our own panel kernels; matmul(),
// whose operands change, on oneDNN. Matrices are row-major; products accumulate in float32.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "drrik/ops/activation.h"
#include "drrik/tensor/mat_view.h"
#include "drrik/tensor/tensor.h"

namespace drrik {

/// Precision of the factors of a product; sums are float32 in both.
enum class Compute : std::uint8_t {
  kF32,
  kBF16  ///< Both factors are rounded to bfloat16 (nearest even) before they are multiplied.
};

/// Whether an operand of matmul() is used as stored or transposed.
enum class Trans : std::uint8_t { kNo, kYes };

/// How a checkpoint stores the matrix of y = x Wᵀ.
enum class WeightLayout : std::uint8_t {
  kOutIn,  ///< [out, in]: PyTorch Linear.
  kInOut   ///< [in, out]: GPT-2's Conv1D.
};

/// A matrix W [out, in] for products y = x Wᵀ: packed into panels, or kept as its file holds it and
/// packed once that pays. Neither its values nor the results of products ever change, so concurrent
/// const use is safe; cheap to move, copies share the same memory.
class Weight {
 public:
  Weight() = default;

  /// Prepares one matrix: float32, bfloat16 or float16, owned or borrowed from a mapped file (of
  /// which it then drops the pages, piece by piece, so that the weights are never in memory twice).
  /// Throws Error(data) when the tensor is not a matrix of a floating type.
  ///
  /// What is kept: under Compute::kF32 a bfloat16 matrix stays bfloat16 (the widening is exact, and
  /// generation then reads half the bytes); other types become float32. Under kBF16 everything
  /// becomes bfloat16.
  static Weight pack(const Tensor& tensor, Compute compute,
                     WeightLayout layout = WeightLayout::kOutIn);

  /// Several matrices of equal `in` stacked along `out`, in order (fused QKV, gate above up).
  static Weight stack(std::span<const Tensor* const> parts, Compute compute,
                      WeightLayout layout = WeightLayout::kOutIn);

  /// Rows `order` of one matrix, out = order.size() (to undo per-head interleaving). Throws
  /// Error(usage) when an index is out of range.
  static Weight pack_rows(const Tensor& tensor, std::span<const std::int64_t> order,
                          Compute compute, WeightLayout layout = WeightLayout::kOutIn);

  /// The same as stack() and pack_rows(), errors included, but of tensors borrowed from mapped
  /// files nothing is read yet: products work from the mapping, converting and rearranging on the
  /// way, until they have lost by that what packing costs (a long prompt, or some twenty tokens of
  /// generation; never a short prompt). Then the matrix is packed within the product at hand and
  /// the tensors are let go. The results of all products are the same to the bit, before and after.
  /// Tensors that own their memory are packed at once.
  static Weight keep(std::vector<Tensor> parts, Compute compute,
                     WeightLayout layout = WeightLayout::kOutIn);
  static Weight keep_rows(Tensor tensor, std::span<const std::int64_t> order, Compute compute,
                          WeightLayout layout = WeightLayout::kOutIn);

  bool defined() const { return impl_ != nullptr; }
  std::int64_t in() const;
  std::int64_t out() const;
  Compute compute() const;
  /// kF32 or kBF16: what is streamed from memory.
  DType stored_dtype() const;
  /// Bytes of the packed matrix.
  std::size_t bytes() const;
  /// Whether it is packed by now.
  bool packed() const;
  /// Row `r` of W widened to float32: out[in] (an embedding that is tied to the output head).
  void row(std::int64_t r, std::span<float> out) const;

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  std::shared_ptr<const Impl> impl_;
};

struct LinearOptions {
  bool accumulate = false;  ///< y += x Wᵀ + bias instead of y = (float32 output only).
};

/// y = x Wᵀ + bias.
///
/// x [n, in], y [n, out], any row stride, no overlap; bias [out] or empty. n may be 0.
/// A float32 x is rounded to bfloat16 where w.compute() is kBF16; a bfloat16 x is exact in both.
/// Results do not depend on the number of threads. A row's result may differ in the last bits
/// between calls with different n, as other kernels serve few rows.
/// Throws Error(data) naming the shapes when they do not fit. Thread-safe.
void linear(MatView<const float> x, const Weight& w, std::span<const float> bias, MatView<float> y,
            LinearOptions options = {});
void linear(MatView<const BF16> x, const Weight& w, std::span<const float> bias, MatView<float> y,
            LinearOptions options = {});

/// out = f(x Gᵀ + bias_g) · (x Uᵀ + bias_u), where w stacks G above U (SwiGLU, GeGLU): the
/// products' tiles go through the non-linearity in cache, and what lies between is never written
/// out.
///
/// x [n, in], out [n, w.out() / 2], any row strides, no overlap; bias [w.out()] or empty. Throws
/// Error(data) when the shapes do not fit or w.out() is odd. Thread-safe.
void gated_linear(MatView<const float> x, const Weight& w, std::span<const float> bias,
                  Activation activation, MatView<float> out);
void gated_linear(MatView<const BF16> x, const Weight& w, std::span<const float> bias,
                  Activation activation, MatView<BF16> out);

/// c = op(a) op(b) + beta c, for operands that change from call to call.
///
/// op(a) [m, k], op(b) [k, n], c [m, n], any row strides, c overlaps neither factor. beta is 0 (c
/// is not read) or 1. kBF16 rounds both factors first. Throws Error(data) when the shapes do not
/// fit, Error(usage) for another beta. Thread-safe.
void matmul(MatView<const float> a, Trans trans_a, MatView<const float> b, Trans trans_b,
            MatView<float> c, float beta = 0.0F, Compute compute = Compute::kF32);
/// The same with factors that are bfloat16 already.
void matmul(MatView<const BF16> a, Trans trans_a, MatView<const BF16> b, Trans trans_b,
            MatView<float> c, float beta = 0.0F);

/// {rows, in, out} of one product, and how many of it a pass does.
struct GemmShape {
  std::int64_t rows = 0;
  std::int64_t in = 0;
  std::int64_t out = 0;
  std::int64_t count = 1;
};

/// FLOP/s (2·rows·in·out each) that linear() reaches on these shapes with packed random weights,
/// alone: the limit that `drrik bench` holds extraction against. The best of at least three timed
/// passes within about `seconds`.
double measure_gemm_rate(std::span<const GemmShape> shapes, Compute compute, double seconds = 1.0);

/// Bytes/s of a sequential read by all threads of a buffer far larger than any cache (`bytes`,
/// default 512 MiB), best of several passes: the limit of generation.
double measure_stream_bandwidth(std::size_t bytes = std::size_t{512} << 20, double seconds = 1.0);

}  // namespace drrik
