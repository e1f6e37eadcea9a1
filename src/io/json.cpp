#include "io/json.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>
#include <utility>

#include "drrik/base/file.h"

namespace drrik {
namespace {

constexpr std::size_t kShownValue = 60;
constexpr std::size_t kShownMessage = 200;

// At most `size` bytes, not cut in the middle of a UTF-8 character.
std::string clipped(std::string_view text, std::size_t size) {
  if (text.size() <= size) return std::string(text);
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xC0U) == 0x80U) --size;
  return std::string(text.substr(0, size)) + "…";
}

std::string_view without_prefix(std::string_view message) {
  // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error while …"
  const auto column = message.find("column ");
  if (column != std::string_view::npos) {
    const auto colon = message.find(": ", column);
    if (colon != std::string_view::npos) return message.substr(colon + 2);
  }
  const auto bracket = message.find("] ");
  return bracket == std::string_view::npos ? message : message.substr(bracket + 2);
}

// Builds the document by appending. nlohmann's own builder looks every new key up in the members
// so far, which for an ordered object is linear: a vocabulary or a header of 10^5 names would take
// 10^10 comparisons. Repeated keys are looked for once, when the object is complete.
class Builder {
 public:
  Builder(std::string_view text, std::string_view what, const JsonParseOptions& options, Json& root)
      : text_(text), what_(what), options_(options), root_(root) {}

  bool null() { return put(nullptr); }
  bool boolean(bool value) { return put(value); }
  bool number_integer(Json::number_integer_t value) { return put(value); }
  bool number_unsigned(Json::number_unsigned_t value) { return put(value); }
  bool number_float(Json::number_float_t value, const std::string& /*text*/) { return put(value); }
  bool string(std::string& value) { return put(std::move(value)); }
  bool binary(Json::binary_t& /*value*/) { return false; }

  bool start_object(std::size_t /*size*/) { return open(Json::value_t::object); }
  bool start_array(std::size_t /*size*/) { return open(Json::value_t::array); }
  bool key(std::string& value) {
    members().emplace_back(std::move(value), Json());
    return true;
  }
  bool end_object() {
    settle_duplicates();
    stack_.pop_back();
    return true;
  }
  bool end_array() {
    stack_.pop_back();
    return true;
  }
  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& error) {
    throw_json_syntax(text_, what_, position, error);
  }

 private:
  // The members as the vector they are, to append without a search.
  std::vector<std::pair<const std::string, Json>>& members() {
    return stack_.back()->get_ref<Json::object_t&>();
  }

  template <typename T>
  Json* place(T&& value) {
    if (stack_.empty()) {
      root_ = Json(std::forward<T>(value));
      return &root_;
    }
    Json& top = *stack_.back();
    if (top.is_array()) {
      top.get_ref<Json::array_t&>().emplace_back(std::forward<T>(value));
      return &top.get_ref<Json::array_t&>().back();
    }
    Json& slot = members().back().second;
    slot = Json(std::forward<T>(value));
    return &slot;
  }
  template <typename T>
  bool put(T&& value) {
    place(std::forward<T>(value));
    return true;
  }
  bool open(Json::value_t type) {
    if (stack_.size() >= static_cast<std::size_t>(options_.max_depth)) {
      throw_data(what_, ": nested deeper than ", options_.max_depth, " levels");
    }
    stack_.push_back(place(type));
    return true;
  }

  void settle_duplicates() {
    auto& object = members();
    if (object.size() < 2) return;
    std::unordered_set<std::string_view> seen;
    seen.reserve(object.size());
    bool repeated = false;
    for (const auto& member : object) {
      if (seen.insert(member.first).second) continue;
      if (options_.duplicates == JsonDuplicates::kRefuse) {
        throw_data(what_, ": member '", member.first, "' occurs twice in one object");
      }
      repeated = true;
    }
    if (!repeated) return;
    // The last value wins, at the place of the first.
    Json::object_t kept;
    for (auto& member : object) kept[member.first] = std::move(member.second);
    stack_.back()->get_ref<Json::object_t&>().swap(kept);
  }

  std::string_view text_;
  std::string_view what_;
  const JsonParseOptions& options_;
  Json& root_;
  // Elements of a container move only when it grows, and then it is on top: parents stay put.
  std::vector<Json*> stack_;
};

std::string shown(const Json& json) { return clipped(json_text(json), kShownValue); }

[[noreturn]] void throw_type(const Json& json, std::string_view where, std::string_view wanted) {
  throw_data(where, " is ", json_type_name(json), " (", shown(json), "), wanted ", wanted);
}

std::string member_name(std::string_view key, std::string_view what) {
  return str(what, ": '", key, "'");
}

template <typename T, typename F>
std::vector<T> get_list(const Json& json, std::string_view key, std::string_view what,
                        F&& element) {
  const Json& array = get_member(json, key, what);
  const std::string name = member_name(key, what);
  if (!array.is_array()) throw_type(array, name, "an array");
  std::vector<T> out;
  out.reserve(array.size());
  for (std::size_t i = 0; i < array.size(); ++i) out.push_back(element(array[i], name));
  return out;
}

}  // namespace

void throw_json_syntax(std::string_view text, std::string_view what, std::size_t position,
                       const nlohmann::detail::exception& error) {
  // `position` counts characters read; the last of them is the one that did not fit.
  const std::size_t at = std::min(position == 0 ? 0 : position - 1, text.size());
  const auto before = text.substr(0, at);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const auto newline = before.rfind('\n');
  const auto column = 1 + (newline == std::string_view::npos ? at : at - newline - 1);
  throw_data(what, ": line ", line, ", column ", column, ": ",
             clipped(without_prefix(error.what()), kShownMessage));
}

Json parse_json(std::string_view text, std::string_view what, const JsonParseOptions& options) {
  Json root;
  Builder builder(text, what, options, root);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return root;
}

Json read_json_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  return parse_json(read_file(path, max_bytes), path.string());
}

std::string json_text(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

void write_json_file(const std::filesystem::path& path, const Json& json) {
  write_file_atomic(path, json_text(json, 2) + "\n");
}

std::string_view json_type_name(const Json& json) {
  switch (json.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    default:
      return "a number";
  }
}

const Json& expect_object(const Json& json, std::string_view what) {
  if (!json.is_object()) throw_type(json, what, "an object");
  return json;
}

const Json& expect_array(const Json& json, std::string_view what) {
  if (!json.is_array()) throw_type(json, what, "an array");
  return json;
}

const Json* find_member(const Json& json, std::string_view key, std::string_view what) {
  expect_object(json, what);
  for (const auto& member : json.get_ref<const Json::object_t&>()) {
    if (member.first == key) return member.second.is_null() ? nullptr : &member.second;
  }
  return nullptr;
}

const Json& get_member(const Json& json, std::string_view key, std::string_view what) {
  if (const Json* found = find_member(json, key, what)) return *found;
  std::vector<std::string> keys;
  for (const auto& member : json.get_ref<const Json::object_t&>()) {
    if (member.first == key) throw_data(what, ": '", key, "' is null");
    keys.push_back(member.first);
  }
  throw_data(what, ": '", key, "' is missing", did_you_mean(key, keys));
}

std::int64_t json_int(const Json& value, std::string_view where) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    if (number > static_cast<std::uint64_t>(INT64_MAX)) {
      throw_data(where, " is ", number, ", wanted at most ", INT64_MAX);
    }
    return static_cast<std::int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (value.is_number_float()) {
    // Up to 2^53 every integer is a double, so 12.0 names one integer and no other.
    const double number = value.get<double>();
    if (std::abs(number) <= 9007199254740992.0 && std::trunc(number) == number) {
      return static_cast<std::int64_t>(number);
    }
  }
  throw_type(value, where, "an integer");
}

double json_double(const Json& value, std::string_view where) {
  if (!value.is_number()) throw_type(value, where, "a number");
  return value.get<double>();
}

bool json_bool(const Json& value, std::string_view where) {
  if (!value.is_boolean()) throw_type(value, where, "true or false");
  return value.get<bool>();
}

std::string json_string(const Json& value, std::string_view where) {
  if (!value.is_string()) throw_type(value, where, "a string");
  return value.get<std::string>();
}

std::int64_t get_int(const Json& json, std::string_view key, std::string_view what) {
  return json_int(get_member(json, key, what), member_name(key, what));
}
double get_double(const Json& json, std::string_view key, std::string_view what) {
  return json_double(get_member(json, key, what), member_name(key, what));
}
bool get_bool(const Json& json, std::string_view key, std::string_view what) {
  return json_bool(get_member(json, key, what), member_name(key, what));
}
std::string get_string(const Json& json, std::string_view key, std::string_view what) {
  return json_string(get_member(json, key, what), member_name(key, what));
}

std::vector<std::int64_t> get_ints(const Json& json, std::string_view key, std::string_view what) {
  return get_list<std::int64_t>(json, key, what, json_int);
}
std::vector<double> get_doubles(const Json& json, std::string_view key, std::string_view what) {
  return get_list<double>(json, key, what, json_double);
}
std::vector<std::string> get_strings(const Json& json, std::string_view key,
                                     std::string_view what) {
  return get_list<std::string>(json, key, what, json_string);
}

std::optional<std::int64_t> find_int(const Json& json, std::string_view key,
                                     std::string_view what) {
  const Json* member = find_member(json, key, what);
  if (member == nullptr) return std::nullopt;
  return json_int(*member, member_name(key, what));
}
std::optional<double> find_double(const Json& json, std::string_view key, std::string_view what) {
  const Json* member = find_member(json, key, what);
  if (member == nullptr) return std::nullopt;
  return json_double(*member, member_name(key, what));
}
std::optional<bool> find_bool(const Json& json, std::string_view key, std::string_view what) {
  const Json* member = find_member(json, key, what);
  if (member == nullptr) return std::nullopt;
  return json_bool(*member, member_name(key, what));
}
std::optional<std::string> find_string(const Json& json, std::string_view key,
                                       std::string_view what) {
  const Json* member = find_member(json, key, what);
  if (member == nullptr) return std::nullopt;
  return json_string(*member, member_name(key, what));
}

std::int64_t get_int(const Json& json, std::string_view key, std::string_view what,
                     std::int64_t fallback) {
  return find_int(json, key, what).value_or(fallback);
}
double get_double(const Json& json, std::string_view key, std::string_view what, double fallback) {
  return find_double(json, key, what).value_or(fallback);
}
bool get_bool(const Json& json, std::string_view key, std::string_view what, bool fallback) {
  return find_bool(json, key, what).value_or(fallback);
}
std::string get_string(const Json& json, std::string_view key, std::string_view what,
                       std::string_view fallback) {
  return find_string(json, key, what).value_or(std::string(fallback));
}

void refuse_unknown_members(const Json& json, const std::vector<std::string>& known,
                            std::string_view what) {
  expect_object(json, what);
  for (const auto& member : json.get_ref<const Json::object_t&>()) {
    if (std::find(known.begin(), known.end(), member.first) == known.end()) {
      throw_data(what, ": unknown member '", member.first, "'", did_you_mean(member.first, known));
    }
  }
}

}  // namespace drrik
