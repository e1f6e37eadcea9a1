#include "bench_load.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/system.h"
#include "drrik/model/model.h"
#include "drrik/model/random_model.h"

namespace drrik::cli {
namespace {

namespace fs = std::filesystem;

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "drrik-bench-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw_io("cannot make a folder in ", name);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

UniqueFd open_file(const fs::path& file) {
  UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) throw_io("cannot open '", file.string(), "'");
  return fd;
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
    times.name = str("load ", dtype_name(stored), " for ",
                     compute == Compute::kF32 ? "float32" : "bfloat16", cold ? ", cold" : ", warm");
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
