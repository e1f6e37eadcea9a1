// Tokenizer speed on text of the project's own: bytes per second for the two styles of BPE, load
// time.

#include <benchmark/benchmark.h>

#include <filesystem>
#include <string>
#include <vector>

#include "drrik/text/tokenizer.h"

namespace {

/// Some hundred kilobytes of words with a long tail, the same on every run.
std::string sample_text() {
  static const std::vector<std::string> kWords = {
      "the",  "ship",   "and",    "lamp",  "keeper",  "of",   "evening", "counted", "fire", "sea",
      "slow", "answer", "winter", "glass", "they're", "1728", "harbour", "a",       "to",   "in"};
  std::string out;
  std::uint32_t state = 1;
  while (out.size() < 400000) {
    state = state * 1664525u + 1013904223u;
    out += kWords[(state >> 16) % kWords.size()];
    if ((state >> 8) % 7 == 0) out += std::to_string(state % 5000);
    out += (state >> 10) % 13 == 0 ? ".\n" : " ";
  }
  return out;
}

drrik::Tokenizer load(const char* name) {
  const auto root = std::filesystem::path(__FILE__).parent_path().parent_path();
  return drrik::Tokenizer::from_file(root / "tests/data/text" /
                                     (std::string(name) + ".tokenizer.json"));
}

void encode(benchmark::State& state, const char* name) {
  const drrik::Tokenizer tokenizer = load(name);
  const std::string text = sample_text();
  std::vector<std::int32_t> ids;
  for (auto _ : state) {
    ids.clear();
    tokenizer.encode_to(text, {}, ids);
    benchmark::DoNotOptimize(ids.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}
BENCHMARK_CAPTURE(encode, gpt2, "bytes_gpt2");
BENCHMARK_CAPTURE(encode, llama3, "bytes_llama3");
BENCHMARK_CAPTURE(encode, metaspace, "metaspace");

void decode(benchmark::State& state, const char* name) {
  const drrik::Tokenizer tokenizer = load(name);
  const std::vector<std::int32_t> ids = tokenizer.encode(sample_text());
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.decode(ids));
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(ids.size()));
}
BENCHMARK_CAPTURE(decode, gpt2, "bytes_gpt2");
BENCHMARK_CAPTURE(decode, metaspace, "metaspace");

void open(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(load("bytes_llama3"));
}
BENCHMARK(open);

}  // namespace
