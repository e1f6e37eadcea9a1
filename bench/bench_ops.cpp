// The loops around the products, each as a share of the memory bandwidth measured in the same run
// (bytes read and written at least once; a share over 1 says that the operands stay in cache).
// Attention as a share of the rate of a product of the bench shapes.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <vector>

#include "drrik/base/rng.h"
#include "drrik/base/system.h"
#include "drrik/ops/activation.h"
#include "drrik/ops/attention.h"
#include "drrik/ops/gemm.h"
#include "drrik/ops/norm.h"

namespace drrik {
namespace {

constexpr std::int64_t kRows = 2048;
constexpr std::int64_t kWidth = 2048;

double bandwidth() {
  static const double measured = measure_stream_bandwidth(std::size_t{512} << 20, 0.5);
  return measured;
}

Tensor random(std::int64_t rows, std::int64_t cols) {
  Rng rng(42);
  Tensor t = Tensor::uninitialized(DType::kF32, {rows, cols});
  for (float& v : t.mutable_data<float>()) v = rng.normal();
  return t;
}

// Runs f and reports what share of the bandwidth `bytes` a call are.
template <typename F>
void stream(benchmark::State& state, double bytes, const F& f) {
  double best = 1e300;
  for (auto _ : state) {
    const double start = monotonic_seconds();
    f();
    best = std::min(best, monotonic_seconds() - start);
  }
  state.counters["GB/s"] = bytes / best / 1e9;
  state.counters["of_stream"] = bytes / best / bandwidth();
}

void norm_rms(benchmark::State& state) {
  const Tensor x = random(kRows, kWidth);
  Tensor y(DType::kF32, {kRows, kWidth});
  const std::vector<float> gamma(kWidth, 1.0F);
  stream(state, 8.0 * kRows * kWidth,
         [&] { rms_norm(x.mat<float>(), gamma, {.eps = 1e-5F}, y.mutable_mat<float>()); });
}
BENCHMARK(norm_rms)->UseRealTime();

void norm_layer(benchmark::State& state) {
  const Tensor x = random(kRows, kWidth);
  Tensor y(DType::kF32, {kRows, kWidth});
  const std::vector<float> gamma(kWidth, 1.0F);
  const std::vector<float> beta(kWidth, 0.0F);
  stream(state, 8.0 * kRows * kWidth,
         [&] { layer_norm(x.mat<float>(), gamma, beta, 1e-5F, y.mutable_mat<float>()); });
}
BENCHMARK(norm_layer)->UseRealTime();

/// range: the Activation.
void activation(benchmark::State& state) {
  const Tensor x = random(kRows, kWidth);
  Tensor y(DType::kF32, {kRows, kWidth});
  const auto kind = static_cast<Activation>(state.range(0));
  stream(state, 8.0 * kRows * kWidth,
         [&] { activate(kind, x.mat<float>(), y.mutable_mat<float>()); });
}
BENCHMARK(activation)
    ->Arg(static_cast<int>(Activation::kRelu))
    ->Arg(static_cast<int>(Activation::kGelu))
    ->Arg(static_cast<int>(Activation::kSilu))
    ->UseRealTime();

/// range: tokens of one text; heads of 64, 12 of them.
void causal_attention(benchmark::State& state) {
  constexpr std::int64_t kHeads = 12;
  constexpr std::int64_t kDim = 64;
  const std::int64_t n = state.range(0);
  const Tensor q = random(n, kHeads * kDim);
  const Tensor k = random(n, kHeads * kDim);
  const Tensor v = random(n, kHeads * kDim);
  Tensor out(DType::kF32, {n, kHeads * kDim});
  const std::vector<std::int64_t> boundaries = {0, n};
  AttentionOptions options;
  options.scale = 0.125F;
  const GemmShape shape{2048, 768, 2304, 1};
  const double rate = measure_gemm_rate({&shape, 1}, Compute::kF32, 0.3);
  double best = 1e300;
  for (auto _ : state) {
    const double start = monotonic_seconds();
    attention(Heads<const float>(q.mat<float>(), kHeads),
              Heads<const float>(k.mat<float>(), kHeads),
              Heads<const float>(v.mat<float>(), kHeads), boundaries, options,
              Heads<float>(out.mutable_mat<float>(), kHeads));
    best = std::min(best, monotonic_seconds() - start);
  }
  // Two products over the lower triangle.
  const double flop = 2.0 * static_cast<double>(n * n * kHeads * kDim);
  state.counters["of_products"] = flop / best / rate;
}
BENCHMARK(causal_attention)->Arg(128)->Arg(512)->Arg(2048)->UseRealTime();

}  // namespace
}  // namespace drrik
