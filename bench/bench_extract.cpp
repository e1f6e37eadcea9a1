// Forward passes of the 134M-parameter Llama shape: extraction at a layer, and one decoding step.
// The counter `of_products` is the share of the time that the matrix products alone would take,
// measured in turns with the pass; `of_stream` the share of the measured memory bandwidth.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <vector>

#include "drrik/base/rng.h"
#include "drrik/base/system.h"
#include "drrik/model/kv_cache.h"
#include "drrik/model/random_model.h"

namespace drrik {
namespace {

constexpr std::uint64_t kSeed = 42;

Compute compute_of(const benchmark::State& state) {
  return state.range(0) == 0 ? Compute::kF32 : Compute::kBF16;
}

TokenBatch texts(std::int64_t count, std::int64_t length, std::int64_t vocab) {
  Rng rng(kSeed);
  TokenBatch batch;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(length));
  for (std::int64_t s = 0; s < count; ++s) {
    for (auto& id : ids)
      id = static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(vocab)));
    batch.append(ids);
  }
  return batch;
}

/// range: precision (0 float32, 1 bfloat16), layer of the hook, texts of 512 tokens in a batch.
void extract(benchmark::State& state) {
  const ModelConfig config = bench_llama_config();
  const std::int64_t layer = state.range(1);
  const Model model =
      make_random_model(config, kSeed, {.compute = compute_of(state), .skip_head = true});
  const TokenBatch batch = texts(state.range(2), 512, config.vocab_size);
  ForwardOptions options;
  options.hooks = {{HookPoint::kMlpOut, layer}};
  options.on_hook = [](const Hook&, MatView<float> x) { benchmark::DoNotOptimize(x.data()); };
  std::vector<GemmShape> products = forward_products(config, batch.rows());
  double flop = 0.0;
  for (GemmShape& product : products) {
    product.count = layer + 1;
    flop += 2.0 * static_cast<double>(product.rows * product.in * product.out * product.count);
  }
  model.forward(batch, options);
  double rate = 0.0;
  double best = 1e300;
  for (auto _ : state) {
    state.PauseTiming();
    rate = std::max(rate, measure_gemm_rate(products, compute_of(state), 0.3));
    state.ResumeTiming();
    const double start = monotonic_seconds();
    model.forward(batch, options);
    best = std::min(best, monotonic_seconds() - start);
  }
  state.counters["tokens_per_s"] = static_cast<double>(batch.rows()) / best;
  state.counters["of_products"] = flop / rate / best;
  state.counters["GFLOPs"] = rate / 1e9;
  state.counters["peak_MB"] = static_cast<double>(peak_resident_bytes()) / 1e6;
}
BENCHMARK(extract)
    ->ArgNames({"bf16", "layer", "texts"})
    ->Args({0, 11, 4})
    ->Args({1, 11, 4})
    ->Args({0, 0, 4})
    ->Args({1, 0, 4})
    ->Args({0, 11, 1})
    ->Args({1, 11, 1})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

/// range: precision, positions in the cache.
void decode(benchmark::State& state) {
  const ModelConfig config = bench_llama_config();
  const Model model = make_random_model(config, kSeed, {.compute = compute_of(state)});
  const std::int64_t past = state.range(1);
  KvCache cache = model.make_cache(past + 1);
  model.forward(texts(1, past, config.vocab_size).ids, cache);
  const std::vector<std::int32_t> next = {7};
  double best = 1e300;
  double bandwidth = 0.0;
  for (auto _ : state) {
    state.PauseTiming();
    if (bandwidth == 0.0) bandwidth = measure_stream_bandwidth(std::size_t{512} << 20, 0.5);
    cache.truncate(past);
    state.ResumeTiming();
    const double start = monotonic_seconds();
    benchmark::DoNotOptimize(model.forward(next, cache).raw());
    best = std::min(best, monotonic_seconds() - start);
  }
  state.counters["tokens_per_s"] = 1.0 / best;
  state.counters["of_stream"] =
      static_cast<double>(model.weight_bytes_per_token()) / best / bandwidth;
}
BENCHMARK(decode)
    ->ArgNames({"bf16", "past"})
    ->Args({0, 16})
    ->Args({1, 16})
    ->Args({1, 1000})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace drrik
