#include "drrik/data/source.h"

#include <algorithm>
#include <filesystem>

#include "data/files.h"
#include "data/row_reader.h"
#include "drrik/base/error.h"
#include "drrik/base/log.h"

namespace drrik {
namespace {

class DatasetSource final : public TextSource {
 public:
  explicit DatasetSource(DatasetOptions options) : options_(std::move(options)) {
    if (options_.skip < 0) throw_usage("dataset: skip is ", options_.skip, ", wanted >= 0");
    if (options_.num_samples == 0) throw_usage("dataset: 0 samples are asked for");
    if (options_.max_row_bytes == 0) throw_usage("dataset: max_row_bytes is 0");
    data_files_ = find_data_files(options_.path, options_.split);
    for (const DataFile& file : data_files_) {
      files_.push_back(file.path.string());
      std::error_code error;
      const auto size = std::filesystem::file_size(file.path, error);
      sizes_.push_back(error ? 0 : size);
      total_ += sizes_.back();
    }
    first_ = read();
    if (!first_) {
      if (rows_ > 0 && options_.skip >= rows_) {
        throw_data("dataset '", options_.path, "': leaving out ", options_.skip,
                   " rows leaves none of ", rows_);
      }
      throw_data("dataset '", options_.path, "': no samples in ", files_.size(),
                 files_.size() == 1 ? " file" : " files",
                 rows_ > 0 ? " (every text is null or absent)" : "");
    }
  }

  std::optional<Sample> next() override {
    if (first_) {
      std::optional<Sample> out = std::move(first_);
      first_.reset();
      return out;
    }
    return read();
  }

  double fraction() const override {
    if (finished_) return 1;
    std::uint64_t done = done_;
    if (reader_ != nullptr) done += std::min(reader_->consumed(), sizes_[file_]);
    return total_ == 0 ? 0 : static_cast<double>(done) / static_cast<double>(total_);
  }

  const std::vector<std::string>& files() const override { return files_; }

 private:
  std::optional<Sample> read() {
    if (options_.num_samples > 0 && given_ == options_.num_samples) finish();
    Row row;
    while (!finished_ && read_row(row)) {
      const std::int64_t index = rows_++;
      if (index < options_.skip) continue;
      note(row);
      if (!row.present) continue;
      ++given_;
      return Sample{index, std::move(row.text)};
    }
    finish();
    return std::nullopt;
  }

  bool read_row(Row& row) {
    for (; file_ < data_files_.size(); next_file()) {
      try {
        if (reader_ == nullptr) {
          const DataFile& file = data_files_[file_];
          RowOptions options;
          options.text_column = options_.text_column;
          options.sample_by = options_.sample_by;
          options.max_row_bytes = options_.max_row_bytes;
          reader_ = file.format->open(open_byte_stream(file.path), options);
        }
        if (reader_->next(row)) return true;
      } catch (Error& error) {
        // Messages of the operating system name the file already.
        if (error.kind() == ErrorKind::kIo) throw;
        throw error.add_context(files_[file_]);
      }
    }
    return false;
  }

  void next_file() {
    done_ += sizes_[file_];
    reader_.reset();
    ++file_;
  }

  void note(const Row& row) {
    if (row.mended && mended_++ == 0) {
      log_warning(files_[file_], ": row ", rows_ - 1,
                  " is not valid UTF-8; broken bytes are replaced (more such rows are counted)");
    }
    if (!row.present && absent_++ == 0) {
      log_warning(files_[file_], ": row ", rows_ - 1,
                  " has no text and is left out (more such rows are counted)");
    }
  }

  void finish() {
    if (finished_) return;
    finished_ = true;
    reader_.reset();
    if (mended_ > 1) log_warning("dataset: ", mended_, " rows were not valid UTF-8");
    if (absent_ > 1) log_warning("dataset: ", absent_, " rows without text were left out");
  }

  DatasetOptions options_;
  std::vector<DataFile> data_files_;
  std::vector<std::string> files_;
  std::vector<std::uint64_t> sizes_;
  std::uint64_t total_ = 0;
  std::uint64_t done_ = 0;
  std::size_t file_ = 0;
  std::unique_ptr<RowReader> reader_;
  std::int64_t rows_ = 0;
  std::int64_t given_ = 0;
  std::int64_t mended_ = 0;
  std::int64_t absent_ = 0;
  bool finished_ = false;
  std::optional<Sample> first_;
};

class MemorySource final : public TextSource {
 public:
  explicit MemorySource(std::vector<std::string> texts) : texts_(std::move(texts)) {}
  std::optional<Sample> next() override {
    if (at_ == texts_.size()) return std::nullopt;
    Sample out{static_cast<std::int64_t>(at_), texts_[at_]};
    ++at_;
    return out;
  }
  double fraction() const override {
    return texts_.empty() ? 1 : static_cast<double>(at_) / static_cast<double>(texts_.size());
  }
  const std::vector<std::string>& files() const override { return files_; }

 private:
  std::vector<std::string> texts_;
  std::vector<std::string> files_;
  std::size_t at_ = 0;
};

}  // namespace

SampleBy parse_sample_by(const std::string& name) {
  const std::vector<std::string> names = {"line", "paragraph", "document"};
  if (name == names[0]) return SampleBy::kLine;
  if (name == names[1]) return SampleBy::kParagraph;
  if (name == names[2]) return SampleBy::kDocument;
  throw_usage("sample by '", name, "': wanted ", join(names), did_you_mean(name, names));
}

std::unique_ptr<TextSource> open_dataset(const DatasetOptions& options) {
  if (!options.config.empty()) {
    throw_usage("dataset '", options.path, "': got configuration '", options.config,
                "'; local files have none, datasets from the Hub do");
  }
  return std::make_unique<DatasetSource>(options);
}

std::unique_ptr<TextSource> make_text_source(std::vector<std::string> texts) {
  return std::make_unique<MemorySource>(std::move(texts));
}

}  // namespace drrik
