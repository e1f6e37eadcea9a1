// CSV after RFC 4180 and, where that is silent, pandas, which HuggingFace `datasets` uses: blank
// lines are no records, a quote matters only where a field begins, an empty field is no text.

#include <algorithm>
#include <array>
#include <cstring>

#include "data/row_reader.h"
#include "drrik/base/error.h"
#include "drrik/base/utf8.h"

namespace drrik {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 16;
constexpr std::size_t kMaxFields = 100'000;

class CsvReader final : public RowReader {
 public:
  CsvReader(std::unique_ptr<ByteStream> stream, const RowOptions& options, char delimiter)
      : stream_(std::move(stream)), options_(options), delimiter_(delimiter), buffer_(kChunk) {
    for (const char c : {delimiter, '\n', '\r'}) ends_field_[static_cast<unsigned char>(c)] = true;
  }

  bool next(Row& row) override {
    if (!has_header_ && !read_header()) return false;
    std::size_t fields = 0;
    std::string text;
    if (!read_record([&](std::size_t i) { return i == column_ ? &text : nullptr; }, fields)) {
      return false;
    }
    if (fields > columns_) {
      throw_data("line ", record_line_, ": ", fields, " fields, but the header has ", columns_,
                 "; an unquoted delimiter?");
    }
    if (text.empty()) {
      row = Row{{}, false, false};
    } else {
      set_text(row, text);
    }
    return true;
  }

  std::uint64_t consumed() const override { return stream_->consumed(); }
  std::vector<DatasetColumn> columns() override { return read_columns(); }

 private:
  static constexpr int kEnd = -1;

  int peek() {
    if (at_ == end_) {
      end_ = stream_->read(buffer_);
      at_ = 0;
      if (end_ == 0) return kEnd;
    }
    return static_cast<unsigned char>(buffer_[at_]);
  }

  bool read_header() {
    const std::vector<DatasetColumn> columns = read_columns();
    if (columns.empty()) return false;
    const ColumnPath path = choose_column(options_.text_column, columns);
    if (path.size() > 1) {
      throw_data("column '", path.front().name, "' has no members: CSV columns are not nested");
    }
    const auto chosen = std::find_if(columns.begin(), columns.end(), [&](const DatasetColumn& c) {
      return c.name == path.front().name;
    });
    column_ = static_cast<std::size_t>(chosen - columns.begin());
    columns_ = columns.size();
    has_header_ = true;
    return true;
  }

  // The header; empty at the end of the file.
  std::vector<DatasetColumn> read_columns() {
    std::vector<std::string> names;
    std::size_t fields = 0;
    const auto keep = [&](std::size_t i) {
      names.resize(i + 1);
      return &names[i];
    };
    // A byte-order mark would otherwise become a part of the first name.
    skip_mark();
    std::vector<DatasetColumn> columns;
    if (!read_record(keep, fields)) return columns;
    for (const std::string& name : names) {
      columns.push_back({mend_utf8(name), "string", false, true, true});
    }
    return columns;
  }

  void skip_mark() {
    // Three bytes may come in three reads.
    while (end_ < 3) {
      const std::size_t n = stream_->read(std::span(buffer_).subspan(end_));
      if (n == 0) break;
      end_ += n;
    }
    if (end_ >= 3 && std::memcmp(buffer_.data(), "\xEF\xBB\xBF", 3) == 0) at_ = 3;
  }

  // Calls `keep(i)` for each field; a non-null answer receives its text.
  template <typename Keep>
  bool read_record(Keep&& keep, std::size_t& fields) {
    while (peek() == '\n' || peek() == '\r') end_line();
    if (peek() == kEnd) return false;
    record_line_ = line_;
    record_bytes_ = 0;
    for (fields = 0;;) {
      std::string* to = keep(fields);
      if (++fields > kMaxFields) throw_data("line ", record_line_, ": too many fields");
      if (peek() == '"') read_quoted(to);
      read_plain(to);
      const int c = peek();
      if (c == kEnd) return true;
      if (c == static_cast<unsigned char>(delimiter_)) {
        ++at_;
        continue;
      }
      end_line();
      return true;
    }
  }

  void end_line() {
    const bool carriage_return = peek() == '\r';
    ++at_;
    if (carriage_return && peek() == '\n') ++at_;
    ++line_;
  }

  void take(std::size_t count, std::string* to) {
    record_bytes_ += count;
    if (record_bytes_ > options_.max_row_bytes) {
      throw_data("line ", record_line_, ": the record has more than ", options_.max_row_bytes,
                 " bytes; a quote that is not closed?");
    }
    if (to != nullptr) to->append(buffer_.data() + at_, count);
    at_ += count;
  }

  void read_plain(std::string* to) {
    while (peek() != kEnd) {
      std::size_t stop = at_;
      while (stop < end_ && !ends_field_[static_cast<unsigned char>(buffer_[stop])]) ++stop;
      take(stop - at_, to);
      if (at_ < end_) return;
    }
  }

  void read_quoted(std::string* to) {
    const std::int64_t opened = line_;
    ++at_;
    for (;;) {
      if (peek() == kEnd) {
        throw_data("line ", opened, ": a quoted field has no end; incomplete download?");
      }
      const void* quote = std::memchr(buffer_.data() + at_, '"', end_ - at_);
      const std::size_t stop =
          quote == nullptr
              ? end_
              : static_cast<std::size_t>(static_cast<const char*>(quote) - buffer_.data());
      line_ += std::count(buffer_.begin() + static_cast<std::ptrdiff_t>(at_),
                          buffer_.begin() + static_cast<std::ptrdiff_t>(stop), '\n');
      take(stop - at_, to);
      if (quote == nullptr) continue;
      ++at_;
      if (peek() != '"') return;
      take(1, to);
    }
  }

  std::unique_ptr<ByteStream> stream_;
  RowOptions options_;
  char delimiter_;
  std::vector<char> buffer_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;
  std::array<bool, 256> ends_field_{};
  bool has_header_ = false;
  std::size_t column_ = 0;
  std::size_t columns_ = 0;
  std::int64_t line_ = 1;
  std::int64_t record_line_ = 1;
  std::size_t record_bytes_ = 0;
};

}  // namespace

std::unique_ptr<RowReader> open_csv(std::unique_ptr<ByteStream> stream, const RowOptions& options) {
  return std::make_unique<CsvReader>(std::move(stream), options,
                                     options.delimiter == 0 ? ',' : options.delimiter);
}

std::unique_ptr<RowReader> open_tsv(std::unique_ptr<ByteStream> stream, const RowOptions& options) {
  return std::make_unique<CsvReader>(std::move(stream), options,
                                     options.delimiter == 0 ? '\t' : options.delimiter);
}

}  // namespace drrik
