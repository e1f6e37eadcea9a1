// The limits that `drrik bench` holds extraction and generation against.

#include <algorithm>
#include <vector>

#include "drrik/base/rng.h"
#include "drrik/base/system.h"
#include "drrik/base/threads.h"
#include "drrik/ops/convert.h"
#include "drrik/ops/gemm.h"

namespace drrik {
namespace {

// Uniform in [-0.5, 0.5): no denormals, no NaN.
Tensor random_matrix(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  Tensor t = Tensor::uninitialized(DType::kF32, {rows, cols});
  const auto values = t.mutable_data<float>();
  parallel_for(
      static_cast<std::int64_t>(values.size()), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          auto h = (static_cast<std::uint64_t>(i) + seed) * 0x9E3779B97F4A7C15U;
          h ^= h >> 32;
          values[static_cast<std::size_t>(i)] = static_cast<float>(h & 0xFFFFFFU) * 0x1p-24F - 0.5F;
        }
      });
  return t;
}

}  // namespace

double measure_gemm_rate(std::span<const GemmShape> shapes, Compute compute, double seconds) {
  struct Product {
    GemmShape shape;
    Weight weight;
    Tensor x, y;
    std::vector<BF16> x_bf16;
  };
  std::vector<Product> products;
  double work = 0.0;
  for (const GemmShape& s : shapes) {
    Product p;
    p.shape = s;
    p.weight = Weight::pack(random_matrix(s.out, s.in, 1), compute);
    p.x = random_matrix(s.rows, s.in, 2);
    p.y = Tensor(DType::kF32, {s.rows, s.out});
    if (compute == Compute::kBF16) {
      p.x_bf16.resize(static_cast<std::size_t>(p.x.elements()));
      convert(p.x.data<float>(), std::span<BF16>(p.x_bf16));
    }
    work += 2.0 * static_cast<double>(s.rows) * static_cast<double>(s.in) *
            static_cast<double>(s.out) * static_cast<double>(s.count);
    products.push_back(std::move(p));
  }
  const auto pass = [&] {
    for (Product& p : products) {
      const MatView<float> y = p.y.mutable_mat<float>();
      for (std::int64_t i = 0; i < p.shape.count; ++i) {
        if (compute == Compute::kBF16) {
          linear(MatView<const BF16>(p.x_bf16.data(), p.shape.rows, p.shape.in), p.weight, {}, y);
        } else {
          linear(p.x.mat<float>(), p.weight, {}, y);
        }
      }
    }
  };
  pass();
  double best = 1e30;
  const double start = monotonic_seconds();
  for (int n = 0; n < 3 || monotonic_seconds() - start < seconds; ++n) {
    const double before = monotonic_seconds();
    pass();
    best = std::min(best, monotonic_seconds() - before);
  }
  return work / best;
}

double measure_stream_bandwidth(std::size_t bytes, double seconds) {
  // Summing floats is the cheapest read that cannot be optimised away; `dot` of a buffer with
  // itself reads it once.
  Tensor buffer = Tensor::zeros<float>({static_cast<std::int64_t>(bytes / sizeof(float))});
  for (float& value : buffer.mutable_data<float>()) value = 1.0F;
  double best = 1e30;
  double sink = 0.0;
  const double start = monotonic_seconds();
  for (int n = 0; n < 3 || monotonic_seconds() - start < seconds; ++n) {
    const double before = monotonic_seconds();
    sink += sum_squares(buffer.data<float>());
    best = std::min(best, monotonic_seconds() - before);
  }
  return sink > 0.0 ? static_cast<double>(buffer.bytes()) / best : 0.0;
}

}  // namespace drrik
