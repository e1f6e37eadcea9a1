#include "data/arrow/texts.h"

#include <arrow/extension_type.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "data/arrow/fail.h"

namespace drrik {
namespace {

using arrow::ArrayData;
using arrow::DataType;
using arrow::Type;
using Kind = TextPlan::Step::Kind;

constexpr std::size_t kMaxListed = 60;
constexpr int kMaxListedDepth = 6;
constexpr std::size_t kMaxTypeText = 120;
// A piece of rows: enough to make the calls cheap, little enough to stay in cache.
constexpr std::int64_t kPieceRows = 4096;
constexpr std::size_t kPieceBytes = std::size_t{1} << 20;
// Lists may name the same elements again and again; an honest batch stays far below this.
constexpr std::int64_t kMaxVisits = std::int64_t{1} << 28;

std::string short_name(const DataType& type) {
  std::string text = type.ToString();
  if (text.size() > kMaxTypeText) text = text.substr(0, kMaxTypeText) + "...";
  return text;
}

bool is_list(Type::type id) {
  return id == Type::LIST || id == Type::LARGE_LIST || id == Type::FIXED_SIZE_LIST ||
         id == Type::LIST_VIEW || id == Type::LARGE_LIST_VIEW || id == Type::MAP;
}

bool is_string_id(Type::type id) {
  return id == Type::STRING || id == Type::LARGE_STRING || id == Type::STRING_VIEW;
}

bool is_scalar(Type::type id) {
  return id == Type::BOOL || (id >= Type::UINT8 && id <= Type::INT64) || id == Type::FLOAT ||
         id == Type::DOUBLE;
}

bool is_binary_id(Type::type id) {
  return id == Type::BINARY || id == Type::LARGE_BINARY || id == Type::BINARY_VIEW;
}

// A dictionary of strings is a column of strings.
const DataType& value_type(const DataType& type) {
  const DataType& storage = storage_type(type);
  if (storage.id() != Type::DICTIONARY) return storage;
  return storage_type(*static_cast<const arrow::DictionaryType&>(storage).value_type());
}

void list_nested(const DataType& type, const std::string& name, int depth,
                 std::vector<ColumnarColumn>& out) {
  if (out.size() >= kMaxListed) return;
  const DataType& inner = value_type(type);
  if (depth > 0 && is_text(inner)) {
    out.push_back({name, short_name(inner), false, is_string(inner), true});
  }
  if (depth == kMaxListedDepth) return;
  if (inner.id() == Type::STRUCT) {
    for (const auto& child : inner.fields()) {
      list_nested(*child->type(), name + "." + child->name(), depth + 1, out);
    }
  } else if (is_list(inner.id())) {
    list_nested(*inner.field(0)->type(), name + "[]", depth + 1, out);
  }
}

// Values of any type from anywhere in a buffer: files may place them at odd addresses.
template <typename T>
T load(const ArrayData& data, std::size_t buffer, std::int64_t index) {
  T value{};
  if (buffer >= data.buffers.size() || data.buffers[buffer] == nullptr || index < 0 ||
      index >= data.buffers[buffer]->size() / static_cast<std::int64_t>(sizeof(T))) {
    fail("an array is shorter than its rows; damaged?");
  }
  std::memcpy(&value, data.buffers[buffer]->data() + static_cast<std::size_t>(index) * sizeof(T),
              sizeof(T));
  return value;
}

struct Bytes {
  const std::uint8_t* data;
  std::int64_t size;
};

Bytes slice(const ArrayData& data, std::size_t buffer, std::int64_t begin, std::int64_t size) {
  static constexpr std::uint8_t kNothing = 0;
  if (size == 0) return {&kNothing, 0};
  const std::int64_t all = buffer < data.buffers.size() && data.buffers[buffer] != nullptr
                               ? data.buffers[buffer]->size()
                               : 0;
  if (begin < 0 || size < 0 || begin > all || size > all - begin) {
    fail("a text lies outside its array; damaged?");
  }
  return {data.buffers[buffer]->data() + begin, size};
}

template <typename Offset>
Bytes text_at(const ArrayData& data, std::int64_t at) {
  const auto begin = static_cast<std::int64_t>(load<Offset>(data, 1, at));
  const auto end = static_cast<std::int64_t>(load<Offset>(data, 1, at + 1));
  if (end < begin) fail("a text has a negative size; damaged?");
  return slice(data, 2, begin, end - begin);
}

Bytes view_at(const ArrayData& data, std::int64_t at) {
  struct View {
    std::int32_t size;
    std::int32_t prefix;
    std::int32_t buffer;
    std::int32_t offset;
  };
  constexpr std::int32_t kInline = 12;
  const auto view = load<View>(data, 1, at);
  if (view.size < 0) fail("a text has a negative size; damaged?");
  if (view.size <= kInline) {
    return slice(data, 1, at * static_cast<std::int64_t>(sizeof(View)) + 4, view.size);
  }
  if (view.buffer < 0) fail("a text lies outside its array; damaged?");
  return slice(data, static_cast<std::size_t>(view.buffer) + 2, view.offset, view.size);
}

std::int64_t dictionary_index(const ArrayData& data, const DataType& index, std::int64_t at) {
  switch (index.id()) {
    case Type::INT8:
      return load<std::int8_t>(data, 1, at);
    case Type::UINT8:
      return load<std::uint8_t>(data, 1, at);
    case Type::INT16:
      return load<std::int16_t>(data, 1, at);
    case Type::UINT16:
      return load<std::uint16_t>(data, 1, at);
    case Type::INT32:
      return load<std::int32_t>(data, 1, at);
    case Type::UINT32:
      return load<std::uint32_t>(data, 1, at);
    default:
      return load<std::int64_t>(data, 1, at);  // What does not fit is negative, so refused.
  }
}

bool is_null(const ArrayData& data, std::int64_t at) {
  if (data.buffers.empty() || data.buffers[0] == nullptr) return false;
  const auto byte = load<std::uint8_t>(data, 0, at / 8);
  return (byte >> (at % 8) & 1) == 0;
}

template <typename T>
std::string number_text(const ArrayData& data, std::int64_t at) {
  char digits[40];
  const auto end = std::to_chars(digits, digits + sizeof digits, load<T>(data, 1, at)).ptr;
  return {digits, end};
}

// A number or boolean as JSON writes it.
std::string scalar_text(const ArrayData& data, Type::type id, std::int64_t at) {
  switch (id) {
    case Type::BOOL:
      return (load<std::uint8_t>(data, 1, at / 8) >> (at % 8) & 1) != 0 ? "true" : "false";
    case Type::INT8:
      return number_text<std::int8_t>(data, at);
    case Type::UINT8:
      return number_text<std::uint8_t>(data, at);
    case Type::INT16:
      return number_text<std::int16_t>(data, at);
    case Type::UINT16:
      return number_text<std::uint16_t>(data, at);
    case Type::INT32:
      return number_text<std::int32_t>(data, at);
    case Type::UINT32:
      return number_text<std::uint32_t>(data, at);
    case Type::INT64:
      return number_text<std::int64_t>(data, at);
    case Type::UINT64:
      return number_text<std::uint64_t>(data, at);
    case Type::FLOAT:
      return number_text<float>(data, at);
    default:
      return number_text<double>(data, at);
  }
}

struct Range {
  std::int64_t begin;
  std::int64_t end;
};

template <typename Offset>
Range list_at(const ArrayData& data, std::int64_t at) {
  return {static_cast<std::int64_t>(load<Offset>(data, 1, at)),
          static_cast<std::int64_t>(load<Offset>(data, 1, at + 1))};
}

template <typename Offset>
Range list_view_at(const ArrayData& data, std::int64_t at) {
  const auto begin = static_cast<std::int64_t>(load<Offset>(data, 1, at));
  const auto size = static_cast<std::int64_t>(load<Offset>(data, 2, at));
  if (begin < 0 || size < 0 || begin > INT64_MAX - size) {
    fail("a list lies outside its array; damaged?");
  }
  return {begin, begin + size};
}

Range range_at(const ArrayData& data, const DataType& type, std::int64_t at) {
  switch (type.id()) {
    case Type::LARGE_LIST:
      return list_at<std::int64_t>(data, at);
    case Type::LIST_VIEW:
      return list_view_at<std::int32_t>(data, at);
    case Type::LARGE_LIST_VIEW:
      return list_view_at<std::int64_t>(data, at);
    case Type::FIXED_SIZE_LIST: {
      const std::int64_t size = static_cast<const arrow::FixedSizeListType&>(type).list_size();
      std::int64_t begin = 0;
      std::int64_t end = 0;
      // Lists of nothing would let a few bytes claim any number of rows.
      if (size <= 0 || __builtin_mul_overflow(at, size, &begin) ||
          __builtin_add_overflow(begin, size, &end)) {
        fail("a fixed-size list of ", size, " elements; damaged?");
      }
      return {begin, end};
    }
    default:
      return list_at<std::int32_t>(data, at);
  }
}

const ArrayData& child_of(const ArrayData& data, std::size_t i) {
  if (i >= data.child_data.size() || data.child_data[i] == nullptr) {
    fail("a nested column lacks its content; damaged?");
  }
  return *data.child_data[i];
}

}  // namespace

const DataType& storage_type(const DataType& type) {
  const DataType* at = &type;
  while (at->id() == Type::EXTENSION) {
    at = static_cast<const arrow::ExtensionType*>(at)->storage_type().get();
  }
  return *at;
}

bool is_string(const DataType& type) { return is_string_id(value_type(type).id()); }

bool is_text(const DataType& type) {
  return is_string(type) || is_binary_id(value_type(type).id());
}

void list_columns(const arrow::Field& field, std::vector<ColumnarColumn>& out) {
  list_nested(*field.type(), field.name(), 0, out);
}

TextPlan plan_texts(const DataType& type, const ColumnPath& path, bool scalars) {
  TextPlan plan;
  const DataType* at = &value_type(type);
  std::string name = path.front().name;
  for (std::size_t i = 1; i < path.size(); ++i) {
    const ColumnStep& step = path[i];
    if (step.kind == ColumnStep::Kind::kMember) {
      if (is_list(at->id()))
        fail("'", name, "' is a list (", short_name(*at), "); say '", name, "[].", step.name, "'");
      if (at->id() != Type::STRUCT)
        fail("'", name, "' is ", short_name(*at), ", which has no members");
      const auto& fields = at->fields();
      const auto found = std::find_if(fields.begin(), fields.end(),
                                      [&](const auto& f) { return f->name() == step.name; });
      if (found == fields.end())
        fail("'", name, "' has no '", step.name, "'; it is ", short_name(*at));
      plan.steps.push_back({Kind::kChild, static_cast<int>(found - fields.begin()), 0});
      at = &value_type(*(*found)->type());
      name += "." + step.name;
      continue;
    }
    if (!is_list(at->id())) fail("'", name, "' is ", short_name(*at), ", which is no list");
    const bool all = step.kind == ColumnStep::Kind::kAll;
    plan.steps.push_back({all ? Kind::kAll : Kind::kAt, 0, step.index});
    plan.joins = plan.joins || all;
    at = &value_type(*at->field(0)->type());
    name += all ? "[]" : "[" + std::to_string(step.index) + "]";
  }
  if (scalars && is_scalar(at->id())) {
    plan.joins = true;
  } else if (!is_text(*at)) {
    std::vector<ColumnarColumn> inside;
    list_nested(*at, name, 0, inside);
    std::string hint;
    for (const ColumnarColumn& column : inside) hint += (hint.empty() ? "" : ", ") + column.name;
    fail("column '", name, "' is ", short_name(*at), ", wanted text",
         hint.empty() ? "" : "; it holds " + hint);
  }
  return plan;
}

void TextCollector::add(const void* bytes, std::int64_t size) {
  const auto length = static_cast<std::size_t>(size);
  const std::size_t before = row_.present ? joined_.size() - begin_ + 1 : 0;
  if (length > max_row_bytes_ || before > max_row_bytes_ - length) {
    fail("a row has more than ", max_row_bytes_, " bytes of text");
  }
  const char* text = static_cast<const char*>(bytes);
  if (!plan_.joins) {
    row_ = {text, length, true};
    return;
  }
  if (row_.present) joined_ += kTextSeparator;
  joined_.append(text, length);
  row_.present = true;
}

void TextCollector::visit_elements(const ArrayData& child, std::int64_t begin, std::int64_t end,
                                   std::size_t step) {
  if (begin < 0 || end < begin || end > child.length) {
    fail("a list lies outside its array; damaged?");
  }
  for (std::int64_t i = begin; i < end; ++i) visit(child, i, step);
}

void TextCollector::visit(const ArrayData& data, std::int64_t index, std::size_t step) {
  if (++visited_ > kMaxVisits) fail("lists name the same elements too often; damaged?");
  if (index < 0 || index >= data.length || data.offset < 0 || data.offset > INT64_MAX - index - 1) {
    fail("an array is shorter than its rows; damaged?");
  }
  const std::int64_t at = data.offset + index;
  const DataType& type = storage_type(*data.type);
  if (type.id() == Type::NA || is_null(data, at)) return;
  if (type.id() == Type::DICTIONARY) {
    const auto& dictionary = static_cast<const arrow::DictionaryType&>(type);
    if (data.dictionary == nullptr) fail("a dictionary is missing; damaged?");
    visit(*data.dictionary, dictionary_index(data, *dictionary.index_type(), at), step);
    return;
  }
  if (step == plan_.steps.size()) {
    if (is_scalar(type.id())) {
      const std::string text = scalar_text(data, type.id(), at);
      add(text.data(), static_cast<std::int64_t>(text.size()));
      return;
    }
    Bytes text{};
    switch (type.id()) {
      case Type::LARGE_STRING:
      case Type::LARGE_BINARY:
        text = text_at<std::int64_t>(data, at);
        break;
      case Type::STRING_VIEW:
      case Type::BINARY_VIEW:
        text = view_at(data, at);
        break;
      default:
        text = text_at<std::int32_t>(data, at);
    }
    add(text.data, text.size);
    return;
  }
  const TextPlan::Step& wanted = plan_.steps[step];
  if (wanted.kind == Kind::kChild) {
    visit(child_of(data, static_cast<std::size_t>(wanted.child)), at, step + 1);
    return;
  }
  const ArrayData& child = child_of(data, 0);
  const Range range = range_at(data, type, at);
  if (wanted.kind == Kind::kAll) {
    visit_elements(child, range.begin, range.end, step + 1);
    return;
  }
  const std::int64_t size = range.end - range.begin;
  const std::int64_t element = wanted.index < 0 ? size + wanted.index : wanted.index;
  if (element >= 0 && element < size) {
    visit_elements(child, range.begin + element, range.begin + element + 1, step + 1);
  }
}

std::int64_t TextCollector::collect(const ArrayData& data, std::int64_t begin,
                                    std::vector<TextRow>& rows) {
  rows.clear();
  joined_.clear();
  if (begin == 0) visited_ = 0;
  const std::int64_t end = std::min(data.length, begin + kPieceRows);
  std::int64_t i = begin;
  for (; i < end && joined_.size() < kPieceBytes; ++i) {
    row_ = {};
    begin_ = joined_.size();
    visit(data, i, 0);
    if (plan_.joins) row_.size = joined_.size() - begin_;
    rows.push_back(row_);
  }
  if (plan_.joins) {
    // The string stays where it is from here on.
    const char* at = joined_.data();
    for (TextRow& row : rows) {
      row.data = at;
      at += row.size;
    }
  }
  return i;
}

}  // namespace drrik
