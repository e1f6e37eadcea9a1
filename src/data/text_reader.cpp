// Plain text: a row a line, a paragraph or a file.

#include "data/line_reader.h"
#include "data/row_reader.h"
#include "drrik/base/error.h"
#include "drrik/base/utf8.h"

namespace drrik {
namespace {

bool blank(std::string_view line) {
  return line.find_first_not_of(" \t\v\f\r") == std::string_view::npos;
}

class TextReader final : public RowReader {
 public:
  TextReader(std::unique_ptr<ByteStream> stream, const RowOptions& options)
      : options_(options), lines_(std::move(stream), Newlines::kUniversal, options.max_row_bytes) {}

  bool next(Row& row) override {
    std::string_view line;
    if (options_.sample_by == SampleBy::kLine) {
      do {
        if (!lines_.next(line)) return false;
      } while (blank(line));
      set_text(row, line);
      return true;
    }
    std::string text;
    bool any = false;
    while (lines_.next(line)) {
      const bool is_blank = blank(line);
      if (options_.sample_by == SampleBy::kParagraph && is_blank) {
        if (any) break;
        continue;
      }
      if (text.size() + line.size() > options_.max_row_bytes) {
        throw_data("line ", lines_.line_number(), ": the sample has more than ",
                   options_.max_row_bytes, " bytes");
      }
      if (!text.empty() || started_) text += '\n';
      started_ = true;
      text += line;
      any = any || !is_blank;
    }
    started_ = false;
    if (!any) return false;
    set_text(row, text);
    return true;
  }

  std::uint64_t consumed() const override { return lines_.stream().consumed(); }
  std::vector<DatasetColumn> columns() override { return {{"text", "string", false, true, true}}; }

 private:
  RowOptions options_;
  LineReader lines_;
  bool started_ = false;  ///< The sample has a line already, perhaps an empty one.
};

}  // namespace

void set_text(Row& row, std::string_view text) {
  row.present = true;
  row.mended = !is_valid_utf8(text);
  if (row.mended) {
    row.text = mend_utf8(text);
  } else {
    row.text.assign(text);
  }
}

std::unique_ptr<RowReader> open_text(std::unique_ptr<ByteStream> stream,
                                     const RowOptions& options) {
  return std::make_unique<TextReader>(std::move(stream), options);
}

}  // namespace drrik
