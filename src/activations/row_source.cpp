#include "drrik/activations/row_source.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "activations/metadata.h"
#include "drrik/activations/store.h"
#include "drrik/base/log.h"
#include "drrik/base/threads.h"
#include "drrik/io/npy.h"
#include "io/npy_layout.h"

namespace drrik {
namespace {

// Rows a thread copies before a second one is worth waking.
constexpr std::int64_t kGrain = 256;
// The same where each row is a system call.
constexpr std::int64_t kGatherGrain = 64;
// Rows ahead of the copy whose first cache lines are asked for.
constexpr std::int64_t kAhead = 4;
// Stores beyond this are read, not mapped.
constexpr std::uint64_t kKeepMapped = std::uint64_t{256} << 20;
// Columns a thread gathers at a time from a file in Fortran order: a cache line of the output.
constexpr std::int64_t kColumns = 16;
// Bytes that a thread reads at a time when they cannot go straight to where they are wanted.
constexpr std::int64_t kReadBytes = std::int64_t{256} << 10;

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

// The file that holds a row. `starts` has the first row of each, then the number of rows.
std::size_t file_of(const std::vector<std::int64_t>& starts, std::int64_t row) {
  if (starts.size() == 2) return 0;
  const auto after = std::upper_bound(starts.begin(), starts.end(), row);
  return static_cast<std::size_t>(after - starts.begin()) - 1;
}

/// Mapped .npy files end to end: small ones, and those in Fortran order, whose rows lie scattered.
class MappedSource : public RowSource {
 public:
  explicit MappedSource(std::vector<NpyFile> files) : files_(std::move(files)) {
    starts_.push_back(0);
    for (const NpyFile& file : files_) {
      starts_.push_back(starts_.back() + file.rows());
      fortran_ = fortran_ || file.header().fortran_order;
    }
    if (files_.size() == 1 && files_[0].dtype() == DType::kF32 && files_[0].mapped_as_rows()) {
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
        const std::size_t f = file_of(starts_, begin + first);
        const std::int64_t count = std::min(last - first, starts_[f + 1] - (begin + first));
        files_[f].read_rows(begin + first - starts_[f], out.rows_range(first, count));
        first += count;
      }
    });
  }

  void gather(std::span<const std::int64_t> indices, MatView<float> out) const override {
    check_gather(rows(), dim(), indices, out);
    if (fortran_) {
      gather_columns(indices, out);
      return;
    }
    parallel_for(out.rows(), kGrain, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t r = first; r < last; ++r) {
        if (r + kAhead < last) {
          const std::int64_t next = indices[static_cast<std::size_t>(r + kAhead)];
          const std::size_t f = file_of(starts_, next);
          prefetch_row(files_[f].row_bytes(next - starts_[f]),
                       static_cast<std::int64_t>(row_bytes()));
        }
        const std::int64_t index = indices[static_cast<std::size_t>(r)];
        const std::size_t f = file_of(starts_, index);
        files_[f].read_rows(index - starts_[f], out.rows_range(r, 1));
      }
    });
  }

 private:
  std::uint64_t row_bytes() const {
    return static_cast<std::uint64_t>(dim()) * dtype_size(files_[0].dtype());
  }

  // Row by row each value would come from another page, and from all over the file before the
  // first page is met again. By columns, a few of them at a time are in use.
  void gather_columns(std::span<const std::int64_t> indices, MatView<float> out) const {
    parallel_for(dim(), kColumns, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t c = first; c < last; c += kColumns) {
        const std::int64_t count = std::min(kColumns, last - c);
        for (std::int64_t r = 0; r < out.rows(); ++r) {
          const std::int64_t index = indices[static_cast<std::size_t>(r)];
          const std::size_t f = file_of(starts_, index);
          files_[f].read_block(index - starts_[f], c, out.rows_range(r, 1).cols_range(c, count));
        }
      }
    });
  }

  std::vector<NpyFile> files_;
  std::vector<std::int64_t> starts_;
  bool fortran_ = false;  // some file
  Tensor tensor_;
  MatView<const float> view_;
};

/// A .npy file whose rows are read with pread.
class ReadFile {
 public:
  explicit ReadFile(const NpyFile& file)
      : path_(file.path()), header_(file.header()), rows_(file.rows()), cols_(file.cols()) {
    fd_ = UniqueFd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd_.get() < 0) throw_io("cannot open '", path_.string(), "': ", reason());
    row_bytes_ = cols_ * static_cast<std::int64_t>(dtype_size(header_.dtype));
  }

  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }

  /// Rows [begin, begin + out.rows()), which are in the file. `scratch` is the calling thread's.
  void read(std::int64_t begin, MatView<float> out, std::vector<std::byte>& scratch) const {
    const bool plain = header_.dtype == DType::kF32 && !header_.big_endian;
    if (plain && (out.contiguous() || out.rows() == 1)) {
      read_bytes(begin, out.rows(), reinterpret_cast<std::byte*>(out.data()));
      return;
    }
    const std::int64_t step = std::max<std::int64_t>(1, kReadBytes / row_bytes_);
    for (std::int64_t r = 0; r < out.rows(); r += step) {
      const std::int64_t count = std::min(step, out.rows() - r);
      scratch.resize(static_cast<std::size_t>(count * row_bytes_));
      read_bytes(begin + r, count, scratch.data());
      if (header_.big_endian) swap_bytes(scratch, dtype_size(header_.dtype));
      for (std::int64_t i = 0; i < count; ++i) {
        const std::byte* from = scratch.data() + i * row_bytes_;
        if (header_.dtype == DType::kF32) {
          std::memcpy(out.row_ptr(r + i), from, static_cast<std::size_t>(row_bytes_));
        } else {
          convert_to_float(from, header_.dtype, cols_, out.row_ptr(r + i));
        }
      }
    }
  }

 private:
  static std::string reason() { return std::error_code(errno, std::generic_category()).message(); }

  void read_bytes(std::int64_t begin, std::int64_t rows, std::byte* to) const {
    auto left = static_cast<std::size_t>(rows * row_bytes_);
    auto offset = static_cast<off_t>(header_.data_offset) + begin * row_bytes_;
    while (left > 0) {
      const ssize_t n = ::pread(fd_.get(), to, left, offset);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw_io("cannot read '", path_.string(), "': ", reason());
      if (n == 0) {
        throw_io("'", path_.string(), "' ended at byte ", offset,
                 " while it was read; did something write to it?");
      }
      to += n;
      left -= static_cast<std::size_t>(n);
      offset += n;
    }
  }

  std::filesystem::path path_;
  UniqueFd fd_;
  NpyHeader header_;
  std::int64_t rows_;
  std::int64_t cols_;
  std::int64_t row_bytes_ = 0;
};

/// Large .npy files end to end. Pages of a mapping count as the process's memory, and the kernel
/// maps far more of them around a touched row than the row takes (its page cache holds large folios
/// now), so that the count comes near the store's size however soon they are dropped. Rows that are
/// read leave nothing behind but themselves.
class ReadSource : public RowSource {
 public:
  explicit ReadSource(const std::vector<NpyFile>& files) {
    starts_.push_back(0);
    for (const NpyFile& file : files) {
      starts_.push_back(starts_.back() + file.rows());
      files_.emplace_back(file);
    }
  }

  std::int64_t rows() const override { return starts_.back(); }
  std::int64_t dim() const override { return files_[0].cols(); }

  void read(std::int64_t begin, MatView<float> out) const override {
    check_range(rows(), dim(), begin, out);
    parallel_for(out.rows(), kGrain, [&](std::int64_t first, std::int64_t last) {
      std::vector<std::byte> scratch;
      while (first < last) {
        const std::size_t f = file_of(starts_, begin + first);
        const std::int64_t count = std::min(last - first, starts_[f + 1] - (begin + first));
        files_[f].read(begin + first - starts_[f], out.rows_range(first, count), scratch);
        first += count;
      }
    });
  }

  void gather(std::span<const std::int64_t> indices, MatView<float> out) const override {
    check_gather(rows(), dim(), indices, out);
    parallel_for(out.rows(), kGatherGrain, [&](std::int64_t first, std::int64_t last) {
      std::vector<std::byte> scratch;
      for (std::int64_t r = first; r < last; ++r) {
        const std::int64_t index = indices[static_cast<std::size_t>(r)];
        const std::size_t f = file_of(starts_, index);
        files_[f].read(index - starts_[f], out.rows_range(r, 1), scratch);
      }
    });
  }

 private:
  std::vector<ReadFile> files_;
  std::vector<std::int64_t> starts_;
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
  std::uint64_t bytes = 0;
  bool fortran = false;
  for (const NpyFile& file : files) {
    fortran = fortran || file.header().fortran_order;
    if (file.cols() != files[0].cols() || file.dtype() != files[0].dtype()) {
      throw_data("'", file.path().string(), "' has ", file.cols(), " columns of ",
                 dtype_name(file.dtype()), ", the files before it ", files[0].cols(), " of ",
                 dtype_name(files[0].dtype()));
    }
    rows += file.rows();
    bytes += file.header().data_bytes;
  }
  if (rows == 0) throw_data("'", what, "' holds no rows");
  if (bytes > kKeepMapped && fortran) {
    log_warning("'", what,
                "' is in Fortran order, its rows lie scattered; "
                "numpy.save(numpy.ascontiguousarray(x)) reads faster and in less memory");
  } else if (bytes > kKeepMapped) {
    return std::make_unique<ReadSource>(files);
  }
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
  if (detail::path_exists(folder / detail::kSingleFile)) {
    std::vector<NpyFile> files;
    files.push_back(open_rows(folder / detail::kSingleFile, false));
    return files;
  }
  std::vector<NpyFile> files;
  for (;;) {
    const auto path = folder / detail::shard_name(static_cast<std::int64_t>(files.size()));
    if (!detail::path_exists(path)) break;
    files.push_back(open_rows(path, false));
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
