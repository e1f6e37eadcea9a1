#include "bench_store.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

#include "drrik/activations/row_source.h"
#include "drrik/activations/row_stream.h"
#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/rng.h"
#include "drrik/io/npy.h"
#include "drrik/tensor/tensor.h"
#include "drrik/train/coder_trainer.h"
#include "drrik/train/recommended.h"
#include "temporary_folder.h"

namespace drrik::cli {
namespace {

constexpr std::int64_t kMemoryRows = 65536;
constexpr std::int64_t kSteps = 40;

class MemoryRows final : public RowSource {
 public:
  explicit MemoryRows(const Tensor& rows) : rows_(rows.mat<float>()) {}
  std::int64_t rows() const override { return rows_.rows(); }
  std::int64_t dim() const override { return rows_.cols(); }
  void read(std::int64_t begin, MatView<float> out) const override {
    for (std::int64_t r = 0; r < out.rows(); ++r) copy(begin + r, out.row_ptr(r));
  }
  void gather(std::span<const std::int64_t> indices, MatView<float> out) const override {
    for (std::size_t r = 0; r < indices.size(); ++r) {
      copy(indices[r], out.row_ptr(static_cast<std::int64_t>(r)));
    }
  }

 private:
  void copy(std::int64_t r, float* to) const {
    std::memcpy(to, rows_.row_ptr(r), static_cast<std::size_t>(dim()) * sizeof(float));
  }
  MatView<const float> rows_;
};

// Anonymous pages of this process; 0 where the system does not tell.
std::int64_t own_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word != "RssAnon:") continue;
    std::int64_t kilobytes = 0;
    status >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}

double rows_a_second(const StoreBench& options, const RowSource& rows) {
  RowSite site;
  site.width = options.d;
  const auto stream = make_store_stream(rows, {site});
  CoderJob job = recommended_job(options.architecture, options.d, options.hidden, kSteps);
  job.name = "bench";
  job.training.compute = options.compute;
  CoderRunOptions run;
  run.batch_size = options.batch;
  run.steps = kSteps;
  run.verbose = false;
  return train_coders({job}, *stream, run).rows_per_second;
}

}  // namespace

StoreRates measure_store(const StoreBench& options) {
  const std::int64_t row_bytes = options.d * 4;
  const std::int64_t blocks =
      std::max<std::int64_t>(options.megabytes * 1'000'000 / (kMemoryRows * row_bytes), 1);
  const TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "rows.npy";
  Tensor some = Tensor::uninitialized(DType::kF32, {kMemoryRows, options.d});
  {
    Rng rng(42);
    NpyWriter writer(file, DType::kF32, {options.d});
    for (std::int64_t b = 0; b < blocks; ++b) {
      check_interrupt("measuring");
      // What the rows hold plays no part in the speed; where they lie does.
      if (b == 0) {
        for (float& v : some.mutable_data<float>()) v = rng.normal();
      }
      writer.append_rows(std::as_const(some).mat<float>());
    }
    writer.commit();
  }
  const std::unique_ptr<RowSource> store = open_row_source(file);
  const MemoryRows memory(some);
  StoreRates out;
  for (int round = 0; round < options.rounds; ++round) {
    check_interrupt("measuring");
    out.memory = std::max(out.memory, rows_a_second(options, memory));
    const std::int64_t before = own_memory();
    out.store = std::max(out.store, rows_a_second(options, *store));
    out.grown = std::max<std::int64_t>(own_memory() - before, 0);
  }
  return out;
}

}  // namespace drrik::cli
