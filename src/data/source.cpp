#include "drrik/data/source.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "data/files.h"
#include "data/row_reader.h"
#include "drrik/base/error.h"
#include "drrik/base/log.h"

namespace drrik {
namespace {

constexpr std::size_t kWindowBytes = std::size_t{256} << 20;

RowOptions row_options(const DatasetOptions& options, char delimiter) {
  RowOptions out;
  out.text_column = options.text_column;
  out.scalars = options.scalars;
  out.sample_by = options.sample_by;
  out.max_row_bytes = options.max_row_bytes;
  out.delimiter = delimiter;
  return out;
}

// Calls f; its Error(data) then names the file. Messages of the operating system do already.
template <typename F>
auto in_file(const std::string& name, F&& f) {
  try {
    return f();
  } catch (Error& error) {
    if (error.kind() == ErrorKind::kIo) throw;
    throw error.add_context(name);
  }
}

// The rows of several files, one after another.
class FileRows {
 public:
  FileRows(const DatasetOptions& options, std::optional<Rng>& rng) : rng_(rng) {
    DataFiles found = find_data_files(options);
    files_ = std::move(found.files);
    options_ = row_options(options, found.delimiter);
    if (rng_) rng_->shuffle(std::span(files_));
    for (const DataFile& file : files_) {
      names_.push_back(file.name());
      std::error_code error;
      const auto size = file.fetch ? file.bytes : std::filesystem::file_size(file.path, error);
      const auto sharers = std::count_if(files_.begin(), files_.end(), [&](const DataFile& other) {
        return !file.member.empty() && other.path == file.path;
      });
      sizes_.push_back(error ? 0 : size / static_cast<std::uint64_t>(std::max<long>(sharers, 1)));
      total_ += sizes_.back();
    }
  }

  bool next(Row& row) {
    for (; open(); close()) {
      if (in_file(names_[file_], [&] { return reader_->next(row); })) return true;
    }
    return false;
  }

  /// Leaves out up to `rows` rows where that is quicker than reading them; says how many.
  std::int64_t skip(std::int64_t rows) {
    std::int64_t done = 0;
    while (done < rows && open()) {
      const std::int64_t n = in_file(names_[file_], [&] { return reader_->skip(rows - done); });
      done += n;
      if (done == rows || n == 0) break;
    }
    return done;
  }

  /// Of the row that next() gave last.
  const std::string& file() const { return names_[std::min(file_, names_.size() - 1)]; }
  const std::vector<std::string>& names() const { return names_; }

  double fraction() const {
    std::uint64_t done = done_;
    if (reader_ != nullptr) done += std::min(reader_->consumed(), sizes_[file_]);
    return total_ == 0 ? 0 : static_cast<double>(done) / static_cast<double>(total_);
  }

 private:
  bool open() {
    if (file_ == files_.size()) return false;
    if (reader_ != nullptr) return true;
    files_[file_].bring();  // of a dataset from the Hub: only now
    reader_ = in_file(names_[file_], [&] { return open_rows(files_[file_], options_); });
    if (rng_) reader_->shuffle(*rng_);
    return true;
  }
  void close() {
    done_ += sizes_[file_];
    reader_.reset();
    ++file_;
  }

  std::optional<Rng>& rng_;
  RowOptions options_;
  std::vector<DataFile> files_;
  std::vector<std::string> names_;
  std::vector<std::uint64_t> sizes_;
  std::uint64_t total_ = 0;
  std::uint64_t done_ = 0;
  std::size_t file_ = 0;
  std::unique_ptr<RowReader> reader_;
};

class DatasetSource final : public TextSource {
 public:
  explicit DatasetSource(DatasetOptions options) : options_(std::move(options)) {
    if (options_.skip < 0) throw_usage("dataset: skip is ", options_.skip, ", wanted >= 0");
    if (options_.num_samples == 0) throw_usage("dataset: 0 samples are asked for");
    if (options_.max_row_bytes == 0) throw_usage("dataset: max_row_bytes is 0");
    if (options_.shuffle_buffer <= 0) {
      throw_usage("dataset: shuffle_buffer is ", options_.shuffle_buffer, ", wanted > 0");
    }
    if (options_.shuffle_seed) rng_.emplace(*options_.shuffle_seed);
    rows_.emplace(options_, rng_);
    first_ = read();
    if (!first_) {
      if (index_ > 0 && options_.skip >= index_) {
        throw_data("dataset '", options_.path, "': leaving out ", options_.skip,
                   " rows leaves none of ", index_);
      }
      throw_data("dataset '", options_.path, "': no samples in ", files().size(),
                 files().size() == 1 ? " file" : " files",
                 index_ > 0 ? " (every text is null or absent)" : "");
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

  double fraction() const override { return finished_ ? 1 : rows_->fraction(); }
  const std::vector<std::string>& files() const override { return rows_->names(); }

 private:
  std::optional<Sample> read() {
    if (options_.num_samples > 0 && given_ == options_.num_samples) finish();
    if (!finished_ && !rng_ && index_ < options_.skip)
      index_ += rows_->skip(options_.skip - index_);
    Row row;
    while (!finished_ && read_row(row)) {
      const std::int64_t index = index_++;
      if (index < options_.skip) {
        // The next file may skip faster than this one.
        if (!rng_) index_ += rows_->skip(options_.skip - index_);
        continue;
      }
      note(row);
      if (!row.present) continue;
      ++given_;
      return Sample{index, std::move(row.text)};
    }
    finish();
    return std::nullopt;
  }

  bool read_row(Row& row) {
    if (!rng_) return rows_->next(row);
    while (!drained_ && window_bytes_ < kWindowBytes &&
           static_cast<std::int64_t>(window_.size()) < options_.shuffle_buffer) {
      Row added;
      drained_ = !rows_->next(added);
      if (drained_) break;
      window_bytes_ += added.text.size();
      window_.push_back(std::move(added));
    }
    if (window_.empty()) return false;
    std::swap(window_[static_cast<std::size_t>(rng_->below(window_.size()))], window_.back());
    row = std::move(window_.back());
    window_.pop_back();
    window_bytes_ -= row.text.size();
    return true;
  }

  // A shuffled row's file is not known any more.
  std::string where() const { return rng_ ? options_.path : rows_->file(); }

  void note(const Row& row) {
    if (row.mended && mended_++ == 0) {
      log_warning(where(), ": row ", index_ - 1,
                  " is not valid UTF-8; broken bytes are replaced (more such rows are counted)");
    }
    if (!row.present && absent_++ == 0) {
      log_warning(where(), ": row ", index_ - 1,
                  " has no text and is left out (more such rows are counted)");
    }
  }

  void finish() {
    if (finished_) return;
    finished_ = true;
    window_.clear();
    if (mended_ > 1) log_warning("dataset: ", mended_, " rows were not valid UTF-8");
    if (absent_ > 1) log_warning("dataset: ", absent_, " rows without text were left out");
  }

  DatasetOptions options_;
  std::optional<Rng> rng_;
  std::optional<FileRows> rows_;
  std::vector<Row> window_;
  std::size_t window_bytes_ = 0;
  bool drained_ = false;
  std::int64_t index_ = 0;  ///< Of the next row.
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
  return std::make_unique<DatasetSource>(options);
}

DatasetInfo inspect_dataset(const DatasetOptions& options) {
  DataFiles found = find_data_files(options);
  const RowOptions rows = row_options(options, found.delimiter);
  DatasetInfo info;
  info.configs = found.configs;
  info.splits = found.splits;
  std::set<std::filesystem::path> paths;
  for (const DataFile& file : found.files) {
    info.files.push_back(file.name());
    std::error_code error;
    const auto size = file.fetch ? file.bytes : std::filesystem::file_size(file.path, error);
    if (paths.insert(file.path).second && !error) info.bytes += size;
  }
  if (found.files.empty()) return info;
  DataFile& first = found.files.front();
  first.bring();
  info.format = first.format->family;
  info.columns = in_file(info.files.front(), [&] { return open_rows(first, rows)->columns(); });
  try {
    choose_column(options.text_column, info.columns);
    const auto is_text = [](const DatasetColumn& c) { return !c.nested && c.name == "text"; };
    const auto is_string = [](const DatasetColumn& c) { return !c.nested && c.string; };
    info.text_column = options.text_column;
    if (info.text_column.empty()) {
      auto chosen = std::find_if(info.columns.begin(), info.columns.end(), is_text);
      if (chosen == info.columns.end()) {
        chosen = std::find_if(info.columns.begin(), info.columns.end(), is_string);
      }
      if (chosen != info.columns.end()) info.text_column = chosen->name;
    }
  } catch (const Error&) {
    info.text_column.clear();
  }
  info.rows = 0;
  for (std::size_t i = 0; i < found.files.size() && info.rows; ++i) {
    if (found.files[i].fetch) {  // not worth a download
      info.rows = std::nullopt;
      break;
    }
    const auto counted =
        in_file(info.files[i], [&] { return open_rows(found.files[i], rows)->count_rows(); });
    info.rows = counted ? std::optional(*info.rows + *counted) : std::nullopt;
  }
  return info;
}

std::unique_ptr<TextSource> make_text_source(std::vector<std::string> texts) {
  return std::make_unique<MemorySource>(std::move(texts));
}

}  // namespace drrik
