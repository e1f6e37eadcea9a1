#include "bench_load.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/log.h"
#include "drrik/base/system.h"
#include "drrik/model/model.h"
#include "drrik/model/random_model.h"
#include "temporary_folder.h"

namespace drrik::cli {
namespace {

namespace fs = std::filesystem;

UniqueFd open_file(const fs::path& file) {
  UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) throw_io("cannot open '", file.string(), "'");
  return fd;
}

/// The share of the file's pages that are in the page cache.
double share_in_memory(const fs::path& file) {
  const auto mapped = MappedFile::open(file);
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> flags((mapped->bytes().size() + page - 1) / page);
  if (flags.empty()) return 0.0;
  auto* data = const_cast<std::byte*>(mapped->bytes().data());
  if (mincore(data, mapped->bytes().size(), flags.data()) != 0) return 1.0;
  const auto in = std::ranges::count_if(flags, [](unsigned char f) { return (f & 1U) != 0; });
  return static_cast<double>(in) / static_cast<double>(flags.size());
}

/// The file's pages leave the page cache (they are clean: the file was flushed when written).
void forget(const fs::path& file) {
  posix_fadvise(open_file(file).get(), 0, 0, POSIX_FADV_DONTNEED);
}

double read_seconds(const fs::path& file) {
  const UniqueFd fd = open_file(file);
  std::vector<char> buffer(std::size_t{1} << 20);
  const double start = monotonic_seconds();
  while (::read(fd.get(), buffer.data(), buffer.size()) > 0) {
  }
  return monotonic_seconds() - start;
}

double load_seconds(const fs::path& folder, Compute compute) {
  TokenBatch batch;
  const std::vector<std::int32_t> prompt = {1, 2, 3, 4, 5, 6, 7, 8};
  batch.append(prompt);
  ForwardOptions options;
  options.logits = ForwardOptions::Logits::kLast;
  const double start = monotonic_seconds();
  const Model model = Model::load(folder, {.compute = compute, .residency = Residency::kResident});
  model.forward(batch, options);
  return monotonic_seconds() - start;
}

}  // namespace

std::vector<LoadTimes> measure_load(Compute compute, DType stored, std::int64_t megabytes,
                                    int rounds) {
  // The head is tied, so that every byte of the file is needed.
  ModelConfig config = bench_llama_config();
  config.tied_head = true;
  config.d_model = 1024;
  config.n_heads = config.n_kv_heads = 16;
  config.d_mlp = 2816;
  const std::int64_t wanted = megabytes * 1'000'000 / static_cast<std::int64_t>(dtype_size(stored));
  config.n_layers = 1;
  const std::int64_t one = config.parameter_count();
  config.n_layers = 2;
  const std::int64_t layer = config.parameter_count() - one;
  config.n_layers = std::max<std::int64_t>(1, (wanted - one) / layer + 1);
  const TemporaryFolder folder;
  write_random_model(config, 42, stored, folder.path());
  const fs::path file = folder.path() / "model.safetensors";
  std::vector<LoadTimes> out;
  for (const bool cold : {true, false}) {
    LoadTimes times;
    times.name = str("load ", dtype_name(stored), " file, ",
                     compute == Compute::kF32 ? "float32" : "bfloat16", " products, ",
                     cold ? "cold" : "warm");
    if (cold) {
      forget(file);
      if (const double share = share_in_memory(file); share > 0.01) {
        log_warning(file.string(), ": ", static_cast<int>(100.0 * share),
                    " % of its pages stay in memory, so that a cold start cannot be measured in "
                    "this folder; set TMPDIR to one on a disk");
        continue;
      }
    }
    times.bytes = fs::file_size(file);
    times.load_seconds = times.read_seconds = 1e300;
    for (int round = 0; round < rounds; ++round) {
      check_interrupt("measuring");
      if (cold) forget(file);
      times.read_seconds = std::min(times.read_seconds, read_seconds(file));
      check_interrupt("measuring");
      if (cold) forget(file);
      times.load_seconds = std::min(times.load_seconds, load_seconds(folder.path(), compute));
    }
    out.push_back(times);
  }
  return out;
}

}  // namespace drrik::cli
