// Parquet and Arrow files through the plug-in.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "data/arrow_plugin.h"
#include "data/row_reader.h"
#include "drrik/base/error.h"
#include "drrik/base/file.h"

namespace drrik {
namespace {

class FileInput final : public ColumnarInput {
 public:
  explicit FileInput(const std::filesystem::path& path)
      : path_(path), fd_(open_regular_file(path)) {
    struct stat status {};
    if (fstat(fd_.get(), &status) != 0) fail();
    size_ = static_cast<std::uint64_t>(status.st_size);
  }
  std::uint64_t size() const override { return size_; }
  std::size_t read_at(std::uint64_t offset, std::span<char> to) override {
    std::size_t done = 0;
    while (done < to.size() && offset + done < size_) {
      const ssize_t n =
          ::pread(fd_.get(), to.data() + done, to.size() - done, static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail();
      if (n == 0) break;
      done += static_cast<std::size_t>(n);
    }
    return done;
  }
  const std::byte* memory() const override { return nullptr; }
  void done_with(std::uint64_t) override {}

 private:
  [[noreturn]] void fail() const {
    throw_io("cannot read '", path_.string(),
             "': ", std::error_code(errno, std::generic_category()).message());
  }
  std::filesystem::path path_;
  UniqueFd fd_;
  std::uint64_t size_ = 0;
};

class MappedInput final : public ColumnarInput {
 public:
  explicit MappedInput(const std::filesystem::path& path) : file_(MappedFile::open(path)) {}
  std::uint64_t size() const override { return file_->bytes().size(); }
  std::size_t read_at(std::uint64_t, std::span<char>) override { return 0; }
  const std::byte* memory() const override { return file_->bytes().data(); }
  void done_with(std::uint64_t offset) override {
    // Now and then: pages that were read would stay counted against the process.
    constexpr std::uint64_t kStep = std::uint64_t{32} << 20;
    if (offset < dropped_ + kStep) return;
    file_->drop(dropped_, offset - dropped_);
    dropped_ = offset;
  }

 private:
  std::shared_ptr<const MappedFile> file_;
  std::uint64_t dropped_ = 0;
};

class MemoryInput final : public ColumnarInput {
 public:
  explicit MemoryInput(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::uint64_t size() const override { return bytes_.size(); }
  std::size_t read_at(std::uint64_t, std::span<char>) override { return 0; }
  const std::byte* memory() const override { return bytes_.data(); }
  void done_with(std::uint64_t) override {}

 private:
  std::span<const std::byte> bytes_;
};

// Arrow's errors are the file's; ours pass as they are.
template <typename F>
auto as_data_error(F&& f) {
  try {
    return f();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw_data("needs more memory than there is; damaged?");
  } catch (const std::exception& error) {
    throw_data(error.what());
  }
}

class ColumnarReader final : public RowReader {
 public:
  ColumnarReader(std::unique_ptr<ColumnarFile> file, std::uint64_t size, const ByteStream* stream,
                 const RowOptions& options)
      : file_(std::move(file)), size_(size), stream_(stream), text_column_(options.text_column) {}

  bool next(Row& row) override {
    start();
    while (at_ == rows_.size()) {
      at_ = 0;
      rows_.clear();
      if (!as_data_error([&] { return file_->next(rows_); })) return false;
    }
    const TextRow& from = rows_[at_++];
    if (from.present) {
      set_text(row, {from.data, from.size});
    } else {
      row = Row{{}, false, false};
    }
    return true;
  }

  std::uint64_t consumed() const override {
    if (stream_ != nullptr) return stream_->consumed();
    return static_cast<std::uint64_t>(file_->fraction() * static_cast<double>(size_));
  }

  std::int64_t skip(std::int64_t rows) override {
    start();
    const auto here = std::min<std::int64_t>(rows, static_cast<std::int64_t>(rows_.size() - at_));
    at_ += static_cast<std::size_t>(here);
    if (here == rows) return here;
    return here + as_data_error([&] { return file_->skip(rows - here); });
  }

  void shuffle(Rng& rng) override {
    std::vector<std::size_t> order(file_->groups());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    if (order.empty()) return;
    rng.shuffle(std::span(order));
    file_->set_order(std::move(order));
  }

  std::vector<DatasetColumn> columns() override {
    std::vector<DatasetColumn> out;
    for (const ColumnarColumn& column : file_->columns()) {
      out.push_back({column.name, column.type, !column.top_level, column.string, column.text});
    }
    return out;
  }

  std::optional<std::int64_t> count_rows() override {
    return as_data_error([&] { return file_->count_rows(); });
  }

 private:
  // The column is chosen late: whoever asks for columns() needs none.
  void start() {
    if (started_) return;
    started_ = true;
    const ColumnPath path = choose_column(text_column_, columns());
    as_data_error([&] { file_->select(path); });
  }

  std::unique_ptr<ColumnarFile> file_;
  std::uint64_t size_;
  const ByteStream* stream_;  ///< Owned by file_.
  std::string text_column_;
  bool started_ = false;
  std::vector<TextRow> rows_;
  std::size_t at_ = 0;
};

ColumnarOptions columnar_options(const RowOptions& options) {
  ColumnarOptions out;
  out.memory_limit = options.arrow_memory;
  out.max_row_bytes = options.max_row_bytes;
  out.scalars = options.scalars;
  return out;
}

std::unique_ptr<RowReader> open_input(std::unique_ptr<ColumnarInput> input, ColumnarFormat format,
                                      const RowOptions& options) {
  const std::uint64_t size = input->size();
  auto file = as_data_error(
      [&] { return arrow_plugin().open(std::move(input), format, columnar_options(options)); });
  return std::make_unique<ColumnarReader>(std::move(file), size, nullptr, options);
}

std::unique_ptr<RowReader> open_compressed(std::unique_ptr<ByteStream> stream, Magic inside,
                                           const RowOptions& options) {
  if (inside == Magic::kParquet || inside == Magic::kArrowFile) {
    throw_data("a ", magic_name(inside),
               " file inside a compression, which is read from both ends; undo the compression "
               "first (Parquet and Arrow compress by themselves)");
  }
  const ByteStream* raw = stream.get();
  auto file = as_data_error(
      [&] { return arrow_plugin().open_stream(std::move(stream), columnar_options(options)); });
  return std::make_unique<ColumnarReader>(std::move(file), 0, raw, options);
}

ColumnarFormat format_of(Magic magic) {
  switch (magic) {
    case Magic::kParquet:
      return ColumnarFormat::kParquet;
    case Magic::kArrowFile:
      return ColumnarFormat::kArrowFile;
    case Magic::kArrowStream:
      return ColumnarFormat::kArrowStream;
    case Magic::kEncryptedParquet:
      throw_data("an encrypted Parquet file, which is not read");
    case Magic::kFeather1:
      throw_data("a Feather file of version 1, which is not read; write it as Arrow IPC");
    default:
      throw_data("neither Parquet nor Arrow: the first bytes are not theirs; incomplete download?");
  }
}

}  // namespace

std::unique_ptr<RowReader> open_columnar(const std::filesystem::path& path,
                                         const RowOptions& options) {
  const Magic magic = find_magic(path);
  if (is_compression(magic)) {
    auto stream = open_byte_stream(path, BinaryFormats::kAllow);
    Magic inside = Magic::kNone;
    stream = look_inside(std::move(stream), inside);
    return open_compressed(std::move(stream), inside, options);
  }
  const ColumnarFormat format = format_of(magic);
  // Parquet is read in pieces. Arrow's layout is that of memory: mapped, only what is used of the
  // chosen column is ever read.
  if (format == ColumnarFormat::kParquet) {
    return open_input(std::make_unique<FileInput>(path), format, options);
  }
  return open_input(std::make_unique<MappedInput>(path), format, options);
}

std::unique_ptr<RowReader> open_columnar(std::span<const std::byte> bytes,
                                         const RowOptions& options) {
  const Magic magic = find_magic(bytes);
  if (is_compression(magic)) {
    Magic inside = Magic::kNone;
    auto stream = look_inside(open_byte_stream(bytes, BinaryFormats::kAllow), inside);
    return open_compressed(std::move(stream), inside, options);
  }
  return open_input(std::make_unique<MemoryInput>(bytes), format_of(magic), options);
}

}  // namespace drrik
