#include "drrik/activations/row_source.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>
#include <vector>

#include "activations/metadata.h"
#include "drrik/activations/store.h"
#include "drrik/base/log.h"
#include "drrik/base/threads.h"
#include "drrik/io/npy.h"

namespace drrik {
namespace {

// Rows a thread copies before a second one is worth waking.
constexpr std::int64_t kGrain = 256;
// Rows ahead of the copy whose first cache lines are asked for.
constexpr std::int64_t kAhead = 4;
// Stores beyond this give their pages back as they are read.
constexpr std::uint64_t kKeepMapped = std::uint64_t{256} << 20;
// What one touched row may bring in: the kernel maps this many bytes around a fault.
constexpr std::uint64_t kFaultAround = std::uint64_t{64} << 10;
// Columns a thread gathers at a time from a file in Fortran order: a cache line of the output.
constexpr std::int64_t kColumns = 16;

void check_range(std::int64_t rows, std::int64_t dim, std::int64_t begin, MatView<float> out) {
  if (out.cols() != dim) throw_usage("rows have ", dim, " columns, got room for ", out.cols());
  if (begin < 0 || out.rows() > rows || begin > rows - out.rows()) {
    throw_usage("rows [", begin, ", ", begin + out.rows(), ") asked for, there are ", rows);
  }
}

void check_gather(std::int64_t rows, std::int64_t dim, std::span<const std::int64_t> indices,
                  MatView<float> out) {
  if (out.cols() != dim) throw_usage("rows have ", dim, " columns, got room for ", out.cols());
  if (out.rows() != static_cast<std::int64_t>(indices.size())) {
    throw_usage(indices.size(), " rows asked for, got room for ", out.rows());
  }
  for (const std::int64_t index : indices) {
    if (index < 0 || index >= rows) throw_usage("row ", index, " asked for, there are ", rows);
  }
}

void prefetch_row(const std::byte* row, std::int64_t bytes) {
  for (std::int64_t i = 0; i < std::min<std::int64_t>(bytes, 512); i += 64) {
    __builtin_prefetch(row + i);
  }
}

class MatSource : public RowSource {
 public:
  explicit MatSource(MatView<const float> rows) : view_(rows) {}
  explicit MatSource(Tensor rows) : tensor_(std::move(rows)), view_(matrix(tensor_)) {}

  std::int64_t rows() const override { return view_.rows(); }
  std::int64_t dim() const override { return view_.cols(); }
  MatView<const float> view() const override {
    return view_.contiguous() ? view_ : MatView<const float>{};
  }

  void read(std::int64_t begin, MatView<float> out) const override {
    check_range(rows(), dim(), begin, out);
    parallel_for(out.rows(), kGrain, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t r = first; r < last; ++r) {
        std::copy_n(view_.row_ptr(begin + r), dim(), out.row_ptr(r));
      }
    });
  }

  void gather(std::span<const std::int64_t> indices, MatView<float> out) const override {
    check_gather(rows(), dim(), indices, out);
    parallel_for(out.rows(), kGrain, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t r = first; r < last; ++r) {
        if (r + kAhead < last) {
          const float* next = view_.row_ptr(indices[static_cast<std::size_t>(r + kAhead)]);
          prefetch_row(reinterpret_cast<const std::byte*>(next), dim() * 4);
        }
        std::copy_n(view_.row_ptr(indices[static_cast<std::size_t>(r)]), dim(), out.row_ptr(r));
      }
    });
  }

 private:
  static MatView<const float> matrix(const Tensor& tensor) {
    if (tensor.rank() != 2 || tensor.dtype() != DType::kF32) {
      throw_data("activations: a ", dtype_name(tensor.dtype()), " tensor of shape ",
                 shape_string(tensor.shape()), ", wanted float32 [rows, dim]");
    }
    return tensor.mat<float>();
  }
  Tensor tensor_;
  MatView<const float> view_;
};

/// Mapped .npy files end to end.
class MappedSource : public RowSource {
 public:
  explicit MappedSource(std::vector<NpyFile> files) : files_(std::move(files)) {
    starts_.push_back(0);
    for (const NpyFile& file : files_) {
      starts_.push_back(starts_.back() + file.rows());
      bytes_ += file.header().data_bytes;
      fortran_ = fortran_ || file.header().fortran_order;
    }
    if (fortran_ && bytes_ > kKeepMapped) {
      log_warning("'", files_[0].path().string(),
                  "' is in Fortran order, its rows lie scattered; "
                  "numpy.save(numpy.ascontiguousarray(x)) reads faster");
    }
    if (files_.size() == 1 && bytes_ <= kKeepMapped && files_[0].dtype() == DType::kF32 &&
        files_[0].mapped_as_rows()) {
      tensor_ = files_[0].tensor();
      if (tensor_.aligned()) view_ = tensor_.mat<float>();
    }
  }

  std::int64_t rows() const override { return starts_.back(); }
  std::int64_t dim() const override { return files_[0].cols(); }
  MatView<const float> view() const override { return view_; }

  void read(std::int64_t begin, MatView<float> out) const override {
    check_range(rows(), dim(), begin, out);
    parallel_for(out.rows(), kGrain, [&](std::int64_t first, std::int64_t last) {
      while (first < last) {
        const std::size_t f = file_of(begin + first);
        const std::int64_t count = std::min(last - first, starts_[f + 1] - (begin + first));
        files_[f].read_rows(begin + first - starts_[f], out.rows_range(first, count));
        first += count;
      }
    });
    const auto count = static_cast<std::uint64_t>(out.rows());
    account(fortran_ ? column_touch(count * element()) * static_cast<std::uint64_t>(dim())
                     : count * row_bytes());
  }

  void gather(std::span<const std::int64_t> indices, MatView<float> out) const override {
    check_gather(rows(), dim(), indices, out);
    if (fortran_) return gather_columns(indices, out);
    parallel_for(out.rows(), kGrain, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t r = first; r < last; ++r) {
        if (r + kAhead < last) {
          const std::int64_t next = indices[static_cast<std::size_t>(r + kAhead)];
          const std::size_t f = file_of(next);
          prefetch_row(files_[f].row_bytes(next - starts_[f]),
                       static_cast<std::int64_t>(row_bytes()));
        }
        const std::int64_t index = indices[static_cast<std::size_t>(r)];
        const std::size_t f = file_of(index);
        files_[f].read_rows(index - starts_[f], out.rows_range(r, 1));
      }
    });
    account(static_cast<std::uint64_t>(out.rows()) * std::max(row_bytes(), kFaultAround));
  }

 private:
  std::size_t file_of(std::int64_t row) const {
    if (files_.size() == 1) return 0;
    const auto after = std::upper_bound(starts_.begin(), starts_.end(), row);
    return static_cast<std::size_t>(after - starts_.begin()) - 1;
  }
  std::uint64_t element() const { return dtype_size(files_[0].dtype()); }
  std::uint64_t row_bytes() const { return static_cast<std::uint64_t>(dim()) * element(); }
  // What reading `bytes` of a column, in one place or several, brings in at most.
  std::uint64_t column_touch(std::uint64_t bytes) const {
    return std::min(std::max(bytes, kFaultAround), static_cast<std::uint64_t>(rows()) * element());
  }
  // Row by row each value would come from another page, and from all over the file before the
  // first page is met again. By columns, a few of them at a time are in use.
  void gather_columns(std::span<const std::int64_t> indices, MatView<float> out) const {
    parallel_for(dim(), kColumns, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t c = first; c < last; c += kColumns) {
        const std::int64_t count = std::min(kColumns, last - c);
        for (std::int64_t r = 0; r < out.rows(); ++r) {
          const std::int64_t index = indices[static_cast<std::size_t>(r)];
          const std::size_t f = file_of(index);
          files_[f].read_block(index - starts_[f], c, out.rows_range(r, 1).cols_range(c, count));
        }
        account(column_touch(indices.size() * kFaultAround) * static_cast<std::uint64_t>(count));
      }
    });
  }
  // Mapped pages count as this process's memory although the kernel could take them back at any
  // time. Dropping them now and then keeps the count bounded; a row that another thread is copying
  // meanwhile is simply mapped again.
  void account(std::uint64_t touched) const {
    if (bytes_ <= kKeepMapped) return;
    if (touched_.fetch_add(touched, std::memory_order_relaxed) + touched < kKeepMapped) return;
    touched_.store(0, std::memory_order_relaxed);
    for (const NpyFile& file : files_) file.drop_rows(0, file.rows());
  }

  std::vector<NpyFile> files_;
  std::vector<std::int64_t> starts_;
  std::uint64_t bytes_ = 0;
  bool fortran_ = false;  // some file
  mutable std::atomic<std::uint64_t> touched_{0};
  Tensor tensor_;
  MatView<const float> view_;
};

NpyFile open_rows(const std::filesystem::path& path, bool bfloat16) {
  NpyFile file = NpyFile::open(path, {.bfloat16 = bfloat16});
  if (file.shape().size() != 2) {
    throw_data("'", path.string(), "' has shape ", shape_string(file.shape()),
               ", wanted [rows, dim]");
  }
  if (file.shape()[1] == 0) throw_data("'", path.string(), "' has rows without columns");
  const DType dtype = file.dtype();
  if (dtype == DType::kU16) {
    throw_data("'", path.string(),
               "' holds uint16; bfloat16 activations need the metadata.json "
               "that says so beside them");
  }
  if (!is_floating(dtype)) {
    throw_data("'", path.string(), "' holds ", dtype_name(dtype), ", wanted floating numbers");
  }
  return file;
}

std::unique_ptr<RowSource> source_of(std::vector<NpyFile> files, const std::string& what) {
  std::int64_t rows = 0;
  for (const NpyFile& file : files) {
    if (file.cols() != files[0].cols() || file.dtype() != files[0].dtype()) {
      throw_data("'", file.path().string(), "' has ", file.cols(), " columns of ",
                 dtype_name(file.dtype()), ", the files before it ", files[0].cols(), " of ",
                 dtype_name(files[0].dtype()));
    }
    rows += file.rows();
  }
  if (rows == 0) throw_data("'", what, "' holds no rows");
  return std::make_unique<MappedSource>(std::move(files));
}

std::vector<NpyFile> open_store(const std::filesystem::path& folder) {
  const detail::StoreHead head = detail::read_store(folder);
  const auto& metadata = head.metadata;
  std::vector<NpyFile> files;
  for (const detail::StoreFile& entry : head.files) {
    NpyFile file = open_rows(folder / entry.file, metadata.dtype == DType::kBF16);
    if (file.rows() != entry.rows || file.cols() != metadata.row_dim() ||
        file.dtype() != metadata.dtype) {
      throw_data("'", file.path().string(), "' is ", dtype_name(file.dtype()), " ",
                 shape_string(file.shape()), ", metadata.json says ", dtype_name(metadata.dtype),
                 " [", entry.rows, ", ", metadata.row_dim(), "]");
    }
    files.push_back(std::move(file));
  }
  if (files.empty()) {
    throw_data("'", folder.string(), "' holds no rows yet: the extraction was cut short");
  }
  if (!metadata.complete) {
    log_warning("'", folder.string(), "' is an extraction that was cut short: using its ",
                metadata.num_rows, " rows");
  }
  return files;
}

// A folder that somebody filled by other means.
std::vector<NpyFile> open_plain_folder(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / detail::kSingleFile)) {
    std::vector<NpyFile> files;
    files.push_back(open_rows(folder / detail::kSingleFile, false));
    return files;
  }
  std::vector<NpyFile> files;
  while (std::filesystem::exists(folder /
                                 detail::shard_name(static_cast<std::int64_t>(files.size())))) {
    files.push_back(
        open_rows(folder / detail::shard_name(static_cast<std::int64_t>(files.size())), false));
  }
  if (files.empty()) {
    throw_data("'", folder.string(), "' holds no activations: neither ", detail::kMetadataFile,
               " nor ", detail::kSingleFile, " nor ", detail::shard_name(0));
  }
  return files;
}

std::vector<NpyFile> open_single_file(const std::filesystem::path& path) {
  bool bfloat16 = false;
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  if (detail::is_store_file(path.filename().string()) && is_activation_store(folder)) {
    // A store's own file: its metadata says what uint16 means. Broken metadata is no reason to
    // refuse an array that speaks for itself.
    try {
      for (const auto& entry : detail::read_store(folder).files) {
        if (entry.file != path.filename()) continue;
        bfloat16 = detail::read_store(folder).metadata.dtype == DType::kBF16;
      }
    } catch (const Error& error) {
      log_warning(error.what());
    }
  }
  std::vector<NpyFile> files;
  files.push_back(open_rows(path, bfloat16));
  return files;
}

}  // namespace

std::unique_ptr<RowSource> make_row_source(MatView<const float> rows) {
  return std::make_unique<MatSource>(rows);
}

std::unique_ptr<RowSource> make_row_source(Tensor rows) {
  return std::make_unique<MatSource>(std::move(rows));
}

std::unique_ptr<RowSource> open_row_source(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw_io("'", path.string(), "' does not exist; wanted an activation folder or a .npy file");
  }
  if (!std::filesystem::is_directory(path, ignored)) {
    return source_of(open_single_file(path), path.string());
  }
  return source_of(is_activation_store(path) ? open_store(path) : open_plain_folder(path),
                   path.string());
}

bool is_activation_store(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path / detail::kMetadataFile, ignored);
}

}  // namespace drrik
