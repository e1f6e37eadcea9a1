// JSON Lines and JSON files. simdjson parses and validates every row; what it will not take but
// real datasets have (broken UTF-8, lone surrogates) is mended and counted.

#include <simdjson.h>

#include <deque>

#include "data/json_splitter.h"
#include "data/line_reader.h"
#include "data/row_reader.h"
#include "data/surrogates.h"
#include "drrik/base/error.h"
#include "drrik/base/utf8.h"

namespace drrik {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

std::string_view type_name(const element& value) {
  switch (value.type()) {
    case element_type::ARRAY:
      return "an array";
    case element_type::OBJECT:
      return "an object";
    case element_type::STRING:
      return "a string";
    case element_type::BOOL:
      return "a boolean";
    case element_type::NULL_VALUE:
      return "null";
    default:
      return "a number";
  }
}

// Parses one row's text; the element lives until the next call.
class RowParser {
 public:
  /// `text` is followed by LineReader::kPadding readable bytes.
  element parse(std::string_view text, std::int64_t line, bool& mended) {
    static_assert(LineReader::kPadding >= simdjson::SIMDJSON_PADDING);
    mended = false;
    element out;
    auto error =
        parser_.parse(reinterpret_cast<const std::uint8_t*>(text.data()), text.size(), false)
            .get(out);
    if (error == simdjson::UTF8_ERROR || error == simdjson::STRING_ERROR) {
      mended = true;
      copy_ = mend_surrogates(is_valid_utf8(text) ? std::string(text) : mend_utf8(text));
      error = parser_.parse(copy_).get(out);
    }
    if (error != simdjson::SUCCESS) {
      throw_data("line ", line, ": malformed JSON (", simdjson::error_message(error), ")");
    }
    return out;
  }

 private:
  simdjson::dom::parser parser_;
  std::string copy_;
};

// Takes the text out of rows; the first row decides the column.
class TextPicker {
 public:
  explicit TextPicker(std::string wanted) : column_(std::move(wanted)) {}

  void pick(const element& value, std::int64_t line, Row& row) {
    std::string_view text;
    if (value.get(text) == simdjson::SUCCESS) {
      row.present = true;
      row.text.assign(text);
      return;
    }
    simdjson::dom::object object;
    if (value.get(object) != simdjson::SUCCESS) {
      throw_data("line ", line, ": the row is ", type_name(value),
                 ", wanted an object or a string");
    }
    if (!chosen_) choose(object, line);
    element member;
    row.present = false;
    row.text.clear();
    if (object.at_key(column_).get(member) != simdjson::SUCCESS || member.is_null()) return;
    if (member.get(text) != simdjson::SUCCESS) {
      throw_data("line ", line, ": column '", column_, "' is ", type_name(member),
                 ", wanted a string");
    }
    row.present = true;
    row.text.assign(text);
  }

  /// The member that a row would be taken from, if the object has one.
  bool find(const simdjson::dom::object& object, element& member) const {
    const std::string_view name = column_.empty() ? std::string_view("text") : column_;
    return object.at_key(name).get(member) == simdjson::SUCCESS;
  }

 private:
  void choose(const simdjson::dom::object& object, std::int64_t line) {
    std::vector<std::string> columns;
    std::vector<std::string> strings;
    for (const auto& field : object) {
      columns.emplace_back(field.key);
      if (field.value.is_string()) strings.emplace_back(field.key);
    }
    try {
      column_ = choose_column(column_, columns, strings);
    } catch (Error& error) {
      throw error.add_context(str("line ", line));
    }
    chosen_ = true;
  }

  std::string column_;
  bool chosen_ = false;
};

class JsonLinesReader final : public RowReader {
 public:
  JsonLinesReader(std::unique_ptr<ByteStream> stream, const RowOptions& options)
      : lines_(std::move(stream), Newlines::kUnix, options.max_row_bytes),
        picker_(options.text_column) {}

  bool next(Row& row) override {
    std::string_view line;
    do {
      if (!lines_.next(line)) return false;
    } while (line.find_first_not_of(" \t\r") == std::string_view::npos);
    const element value = parser_.parse(line, lines_.line_number(), row.mended);
    picker_.pick(value, lines_.line_number(), row);
    return true;
  }
  std::uint64_t consumed() const override { return lines_.stream().consumed(); }

 private:
  LineReader lines_;
  RowParser parser_;
  TextPicker picker_;
};

class JsonReader final : public RowReader {
 public:
  JsonReader(std::unique_ptr<ByteStream> stream, const RowOptions& options)
      : splitter_(std::move(stream), options.max_row_bytes), picker_(options.text_column) {}

  bool next(Row& row) override {
    if (!started_) start();
    if (!pending_.empty()) {
      row = std::move(pending_.front());
      pending_.pop_front();
      return true;
    }
    if (!read()) return false;
    picker_.pick(parse(row.mended), splitter_.line(), row);
    return true;
  }
  std::uint64_t consumed() const override { return splitter_.stream().consumed(); }

 private:
  bool read() { return splitter_.next(value_); }

  element parse(bool& mended) {
    value_.reserve(value_.size() + LineReader::kPadding);
    return parser_.parse(value_, splitter_.line(), mended);
  }

  // A file of one object may be a row, a table of columns, or a wrapper around rows.
  void start() {
    started_ = true;
    if (!read()) return;
    bool mended = false;
    const element value = parse(mended);
    const std::int64_t line = splitter_.line();
    simdjson::dom::object object;
    element member;
    simdjson::dom::array rows;
    if (!splitter_.in_array() && value.get(object) == simdjson::SUCCESS && !has_strings(object)) {
      if (picker_.find(object, member)) {
        if (member.get(rows) == simdjson::SUCCESS) return add_all(rows, line, mended);
      } else if (object.at_key("data").get(rows) == simdjson::SUCCESS) {
        return add_all(rows, line, mended);
      }
    }
    add(value, line, mended);
  }

  // True when the object is a row by itself: its text column is a string.
  bool has_strings(const simdjson::dom::object& object) const {
    element member;
    return picker_.find(object, member) && member.is_string();
  }

  void add_all(const simdjson::dom::array& rows, std::int64_t line, bool mended) {
    for (const element& row : rows) add(row, line, mended);
  }

  void add(const element& value, std::int64_t line, bool mended) {
    Row row;
    if (value.is_null()) {
      row.present = false;
    } else {
      picker_.pick(value, line, row);
    }
    row.mended = mended;
    pending_.push_back(std::move(row));
  }

  JsonSplitter splitter_;
  RowParser parser_;
  TextPicker picker_;
  std::string value_;
  std::deque<Row> pending_;
  bool started_ = false;
};

}  // namespace

std::string choose_column(const std::string& wanted, const std::vector<std::string>& columns,
                          const std::vector<std::string>& string_columns) {
  const std::string name = wanted.empty() ? "text" : wanted;
  for (const std::string& column : columns) {
    if (column == name) return name;
  }
  if (wanted.empty() && string_columns.size() == 1) return string_columns.front();
  throw_data("no column '", name, "'; there are: ", columns.empty() ? "none" : join(columns),
             did_you_mean(name, columns),
             wanted.empty() ? "; name the one that holds the text" : "");
}

std::unique_ptr<RowReader> open_json_lines(std::unique_ptr<ByteStream> stream,
                                           const RowOptions& options) {
  return std::make_unique<JsonLinesReader>(std::move(stream), options);
}

std::unique_ptr<RowReader> open_json(std::unique_ptr<ByteStream> stream,
                                     const RowOptions& options) {
  return std::make_unique<JsonReader>(std::move(stream), options);
}

}  // namespace drrik
