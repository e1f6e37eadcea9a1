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

constexpr std::size_t kMaxListed = 60;
constexpr int kMaxListedDepth = 6;

// Texts inside nested values; of an array, what its first element holds.
void list_nested(const element& value, const std::string& name, int depth,
                 std::vector<DatasetColumn>& out) {
  if (out.size() >= kMaxListed || depth > kMaxListedDepth) return;
  if (depth > 0 && value.is_string()) out.push_back({name, "string", true, true, true});
  simdjson::dom::object object;
  simdjson::dom::array array;
  if (value.get(object) == simdjson::SUCCESS) {
    for (const auto& field : object) {
      list_nested(field.value, name + "." + std::string(field.key), depth + 1, out);
    }
  } else if (value.get(array) == simdjson::SUCCESS && array.begin() != array.end()) {
    list_nested(*array.begin(), name + "[]", depth + 1, out);
  }
}

std::vector<DatasetColumn> columns_of(const simdjson::dom::object& object) {
  std::vector<DatasetColumn> out;
  for (const auto& field : object) {
    std::string type(type_name(field.value));
    type.erase(0, type.find(' ') + 1);  // Without its article; "null" has none.
    const bool text = field.value.is_string();
    out.push_back({std::string(field.key), std::move(type), false, text, text});
  }
  for (const auto& field : object) list_nested(field.value, std::string(field.key), 0, out);
  return out;
}

// Takes the text out of rows; the first row decides the column.
class TextPicker {
 public:
  TextPicker(std::string wanted, bool scalars) : wanted_(std::move(wanted)), scalars_(scalars) {}

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
    if (path_.empty()) choose(object, line);
    row.present = false;
    row.text.clear();
    collect(value, 0, line, row);
  }

  /// The member that a row would be taken from, if the object has one.
  bool find(const simdjson::dom::object& object, element& member) const {
    const std::string_view name = wanted_.empty() ? std::string_view("text") : wanted_;
    return object.at_key(name).get(member) == simdjson::SUCCESS;
  }

 private:
  void choose(const simdjson::dom::object& object, std::int64_t line) {
    try {
      path_ = choose_column(wanted_, columns_of(object));
    } catch (Error& error) {
      throw error.add_context(str("line ", line));
    }
  }

  // How the value that the first `steps` steps lead to is called.
  std::string name_of(std::size_t steps) const {
    std::string name;
    for (std::size_t i = 0; i < steps; ++i) {
      const ColumnStep& step = path_[i];
      if (step.kind == ColumnStep::Kind::kMember) name += (i > 0 ? "." : "") + step.name;
      if (step.kind == ColumnStep::Kind::kAll) name += "[]";
      if (step.kind == ColumnStep::Kind::kAt) name += str("[", step.index, "]");
    }
    return name;
  }

  [[noreturn]] void refuse(const element& value, std::size_t step, std::int64_t line) const {
    std::vector<DatasetColumn> inside;
    if (step == path_.size()) list_nested(value, name_of(step), 0, inside);
    const auto kind = step < path_.size() ? path_[step].kind : ColumnStep::Kind::kMember;
    throw_data("line ", line, ": column '", name_of(step), "' is ", type_name(value), ", wanted ",
               step == path_.size()                ? "a string"
               : kind == ColumnStep::Kind::kMember ? "an object"
                                                   : "an array",
               inside.empty() ? "" : str("; it holds '", inside.front().name, "'"));
  }

  // Nulls, absent members and elements give nothing.
  void collect(const element& value, std::size_t step, std::int64_t line, Row& row) const {
    if (value.is_null()) return;
    if (step == path_.size()) {
      std::string_view text;
      std::string scalar;
      if (value.get(text) != simdjson::SUCCESS) {
        if (!scalars_ || value.is_object() || value.is_array()) refuse(value, step, line);
        scalar = simdjson::to_string(value);
        text = scalar;
      }
      if (row.present) row.text += kTextSeparator;
      row.present = true;
      row.text.append(text);
      return;
    }
    const ColumnStep& wanted = path_[step];
    if (wanted.kind == ColumnStep::Kind::kMember) {
      simdjson::dom::object object;
      element member;
      if (value.get(object) != simdjson::SUCCESS) refuse(value, step, line);
      if (object.at_key(wanted.name).get(member) == simdjson::SUCCESS) {
        collect(member, step + 1, line, row);
      }
      return;
    }
    simdjson::dom::array array;
    if (value.get(array) != simdjson::SUCCESS) refuse(value, step, line);
    if (wanted.kind == ColumnStep::Kind::kAll) {
      for (const element& each : array) collect(each, step + 1, line, row);
      return;
    }
    std::int64_t size = 0;
    if (wanted.index < 0) {
      for ([[maybe_unused]] const element& each : array) ++size;
    }
    const std::int64_t index = wanted.index < 0 ? size + wanted.index : wanted.index;
    element each;
    if (index >= 0 && array.at(static_cast<std::size_t>(index)).get(each) == simdjson::SUCCESS) {
      collect(each, step + 1, line, row);
    }
  }

  std::string wanted_;
  bool scalars_;
  ColumnPath path_;
};

class JsonLinesReader final : public RowReader {
 public:
  JsonLinesReader(std::unique_ptr<ByteStream> stream, const RowOptions& options)
      : lines_(std::move(stream), Newlines::kUnix, options.max_row_bytes),
        picker_(options.text_column, options.scalars) {}

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

  std::vector<DatasetColumn> columns() override {
    std::string_view line;
    do {
      if (!lines_.next(line)) return {};
    } while (line.find_first_not_of(" \t\r") == std::string_view::npos);
    bool mended = false;
    simdjson::dom::object object;
    if (parser_.parse(line, lines_.line_number(), mended).get(object) != simdjson::SUCCESS) {
      return {};
    }
    return columns_of(object);
  }

 private:
  LineReader lines_;
  RowParser parser_;
  TextPicker picker_;
};

class JsonReader final : public RowReader {
 public:
  JsonReader(std::unique_ptr<ByteStream> stream, const RowOptions& options)
      : splitter_(std::move(stream), options.max_row_bytes),
        picker_(options.text_column, options.scalars) {}

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

  std::vector<DatasetColumn> columns() override {
    if (!read()) return {};
    bool mended = false;
    simdjson::dom::object object;
    if (parse(mended).get(object) != simdjson::SUCCESS) return {};
    return columns_of(object);
  }

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

std::unique_ptr<RowReader> open_json_lines(std::unique_ptr<ByteStream> stream,
                                           const RowOptions& options) {
  return std::make_unique<JsonLinesReader>(std::move(stream), options);
}

std::unique_ptr<RowReader> open_json(std::unique_ptr<ByteStream> stream,
                                     const RowOptions& options) {
  return std::make_unique<JsonReader>(std::move(stream), options);
}

}  // namespace drrik
