// Rows of datasets from files in the page cache, and tensor headers. bytes_per_second is of the
// file as it lies on disk, decompressed for the compressed ones.

#include <benchmark/benchmark.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "drrik/base/file.h"
#include "drrik/base/rng.h"
#include "drrik/data/source.h"
#include "drrik/io/safetensors.h"

namespace drrik {
namespace {

// Wikipedia-like rows: 200 to 2000 characters with some escapes, a few other columns.
std::string prose(Rng& rng) {
  std::string text;
  const auto words = 40 + rng.below(300);
  for (std::uint64_t w = 0; w < words; ++w) {
    const auto length = 1 + rng.below(9);
    for (std::uint64_t i = 0; i < length; ++i) text += static_cast<char>('a' + rng.below(26));
    text += w % 23 == 22 ? '\n' : ' ';
  }
  return text;
}

std::string replaced(const std::string& text, char from, const std::string& to) {
  std::string out;
  for (const char c : text) {
    if (c == from) {
      out += to;
    } else {
      out += c;
    }
  }
  return out;
}

std::string dataset(const std::string& kind) {
  Rng rng(1);
  std::string out = kind == "csv" ? "id,text\n" : kind == "json" ? "[" : "";
  for (int i = 0; out.size() < (std::size_t{64} << 20); ++i) {
    const std::string text = prose(rng);
    if (kind == "csv") {
      out += std::to_string(i) + ",\"" + text + "\"\n";
    } else if (kind == "txt") {
      out += text + "\n";
    } else {
      out += kind == "json" && i > 0 ? "," : "";
      out += "{\"id\": " + std::to_string(i) + ", \"title\": \"row\", \"text\": \"" +
             replaced(text, '\n', "\\n") + "\"}\n";
    }
  }
  return out + (kind == "json" ? "]" : "");
}

void read_rows(benchmark::State& state, const std::string& kind) {
  const auto path = std::filesystem::temp_directory_path() /
                    ("drrik_bench_" + std::to_string(getpid()) + "." + kind);
  const std::string content = dataset(kind);
  write_file_atomic(path, std::string_view(content));
  DatasetOptions options;
  options.path = path.string();
  std::int64_t rows = 0;
  for (auto iteration : state) {
    const auto source = open_dataset(options);
    while (const auto sample = source->next()) {
      benchmark::DoNotOptimize(sample->text.data());
      ++rows;
    }
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(content.size()));
  state.SetItemsProcessed(rows);
  std::filesystem::remove(path);
}
BENCHMARK_CAPTURE(read_rows, jsonl, "jsonl")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(read_rows, json, "json")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(read_rows, csv, "csv")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(read_rows, text, "txt")->Unit(benchmark::kMillisecond);

void open_safetensors(benchmark::State& state) {
  const auto path = std::filesystem::temp_directory_path() /
                    ("drrik_bench_" + std::to_string(getpid()) + ".safetensors");
  const Tensor shared(DType::kF32, {1});
  std::vector<Tensor> tensors;
  std::vector<NamedTensor> named;
  for (std::int64_t i = 0; i < state.range(0); ++i) tensors.push_back(shared.clone());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    named.push_back({"model.layers." + std::to_string(i) + ".weight", &tensors[i]});
  }
  write_safetensors(path, named);
  for (auto iteration : state) benchmark::DoNotOptimize(SafetensorsFile::open(path).entries());
  state.SetItemsProcessed(state.iterations() * state.range(0));
  std::filesystem::remove(path);
}
BENCHMARK(open_safetensors)->Arg(300)->Arg(10000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace drrik
