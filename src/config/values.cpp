// Text to values and back.

#include <charconv>
#include <cmath>

#include "config/fields.h"
#include "drrik/base/error.h"

namespace drrik::detail {
namespace {

bool is_null(std::string_view text) {
  return text.empty() || text == "~" || canonical_name(text) == "null" ||
         canonical_name(text) == "none";
}

std::string number(double value) {
  char buffer[64];
  const double size = std::abs(value);
  const bool fixed = value == 0 || (size >= 1e-5 && size < 1e15);  // 0.0001, not 1e-04
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value,
                                 fixed ? std::chars_format::fixed : std::chars_format::scientific);
  return {buffer, end.ptr};
}

[[noreturn]] void wrong(const Field& field, std::string_view value, std::string_view wanted,
                        const std::string& where) {
  throw_usage(where, field.path, ": got ", quoted(value), ", wanted ", wanted);
}

std::string describe(const Range& range) {
  std::string out;
  if (std::isfinite(range.low)) {
    out += (range.low_open ? " above " : " of at least ") + number(range.low);
  }
  if (range.high < 1e15) {
    out += std::string(out.empty() ? " " : " and ") + (range.high_open ? "below " : "at most ") +
           number(range.high);
  }
  return out;
}

void check_range(const Field& field, double value, std::string_view text, std::string_view kind,
                 const std::string& where) {
  const Range& r = field.range;
  const bool low = r.low_open ? value > r.low : value >= r.low;
  const bool high = r.high_open ? value < r.high : value <= r.high;
  if (!low || !high) wrong(field, text, std::string(kind) + describe(r), where);
}

std::int64_t to_integer(const Field& field, std::string_view text, const std::string& where) {
  std::string_view digits = trim(text);
  if (digits.size() > 1 && digits[0] == '+' && digits[1] != '-') digits.remove_prefix(1);
  std::int64_t value = 0;
  const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (digits.empty() || end.ec != std::errc() || end.ptr != digits.data() + digits.size()) {
    wrong(field, text, "an integer" + describe(field.range), where);
  }
  check_range(field, static_cast<double>(value), text, "an integer", where);
  return value;
}

double to_number(const Field& field, std::string_view text, const std::string& where) {
  std::string_view digits = trim(text);
  if (digits.size() > 1 && digits[0] == '+' && digits[1] != '-') digits.remove_prefix(1);
  double value = 0;
  const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (digits.empty() || end.ec != std::errc() || end.ptr != digits.data() + digits.size() ||
      !std::isfinite(value)) {
    wrong(field, text, "a number" + describe(field.range), where);
  }
  check_range(field, value, text, "a number", where);
  return value;
}

bool to_bool(const Field& field, std::string_view text, const std::string& where) {
  const std::string word = canonical_name(trim(text));
  if (word == "true" || word == "yes" || word == "on" || word == "1") return true;
  if (word == "false" || word == "no" || word == "off" || word == "0") return false;
  wrong(field, text, "true or false", where);
}

std::string to_text(const Field& field, std::string_view text, const std::string& where) {
  if (text.find('\0') != std::string_view::npos) wrong(field, text, "text without NUL", where);
  if (field.choices.empty()) return std::string(text);
  std::vector<std::string> choices;
  for (const char* choice : field.choices) {
    if (canonical_name(choice) == canonical_name(trim(text))) return choice;
    choices.emplace_back(choice);
  }
  if (field.or_dotted && text.find_first_of(".[") != std::string_view::npos) {
    return std::string(trim(text));
  }
  throw_usage(where, field.path, ": got ", quoted(text), ", wanted one of ", join(choices),
              did_you_mean(text, choices));
}

// Items of "1,2" or "[a, 'b, c']". Quotes as YAML's: '' inside '...', backslash inside "...".
std::vector<std::string> split_list(const Field& field, std::string_view text,
                                    const std::string& where) {
  std::string_view rest = trim(text);
  if (rest.starts_with('[')) {
    if (rest.size() < 2 || rest.back() != ']') wrong(field, text, "a closing bracket", where);
    rest = trim(rest.substr(1, rest.size() - 2));
  }
  std::vector<std::string> items;
  if (rest.empty()) return items;
  for (;;) {
    rest = trim(rest);
    std::string item;
    if (!rest.empty() && (rest.front() == '\'' || rest.front() == '"')) {
      const char quote = rest.front();
      std::size_t i = 1;
      for (;; ++i) {
        if (i >= rest.size()) wrong(field, text, "a closing quote", where);
        if (quote == '"' && rest[i] == '\\' && i + 1 < rest.size()) {
          ++i;
          item += rest[i] == 'n' ? '\n' : rest[i] == 't' ? '\t' : rest[i];
        } else if (rest[i] == quote) {
          if (quote == '"' || i + 1 >= rest.size() || rest[i + 1] != quote) break;
          item += quote;
          ++i;
        } else {
          item += rest[i];
        }
      }
      rest = trim(rest.substr(i + 1));
      items.push_back(std::move(item));
      if (rest.empty()) return items;
      if (rest.front() != ',') wrong(field, text, "a comma between items", where);
      rest.remove_prefix(1);
    } else {
      const std::size_t comma = rest.find(',');
      items.emplace_back(trim(rest.substr(0, comma)));
      if (comma == std::string_view::npos) return items;
      rest.remove_prefix(comma + 1);
    }
  }
}

template <typename T>
std::string format_list(const std::vector<T>& values, std::string (*one)(const T&)) {
  std::string out = "[";
  for (std::size_t i = 0; i < values.size(); ++i) out += (i > 0 ? ", " : "") + one(values[i]);
  return out + "]";
}

template <typename... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <typename... F>
Overloaded(F...) -> Overloaded<F...>;

}  // namespace

std::string quoted(std::string_view text) {
  constexpr std::size_t kMax = 60;
  std::string out = "'";
  for (const char c : text.substr(0, kMax)) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 0x20 || byte == 0x7f ? ' ' : c;
  }
  // A cut inside a UTF-8 sequence would make the whole message invalid.
  if (text.size() > kMax) {
    while (!out.empty() && (static_cast<unsigned char>(out.back()) & 0xC0U) == 0x80U)
      out.pop_back();
    if (static_cast<unsigned char>(out.back()) >= 0xC0U) out.pop_back();
    out += "...";
  }
  return out + "'";
}

std::string type_name(const FieldRef& ref) {
  return std::visit(Overloaded{
                        [](const bool*) { return "true/false"; },
                        [](const std::int64_t*) { return "integer"; },
                        [](const double*) { return "number"; },
                        [](const std::string*) { return "text"; },
                        [](const std::optional<std::int64_t>*) { return "integer or null"; },
                        [](const std::optional<double>*) { return "number or null"; },
                        [](const std::vector<std::int64_t>*) { return "list of integers"; },
                        [](const std::vector<double>*) { return "list of numbers"; },
                        [](const std::vector<std::string>*) { return "list of texts"; },
                    },
                    ref);
}

bool is_list(const FieldRef& ref) {
  return std::holds_alternative<std::vector<std::int64_t>*>(ref) ||
         std::holds_alternative<std::vector<double>*>(ref) ||
         std::holds_alternative<std::vector<std::string>*>(ref);
}

void assign(const Field& field, Config& config, std::string_view value, const std::string& where) {
  const FieldRef ref = field.ref(config);
  if (is_list(ref)) {
    // One text may hold commas of its own; only a bracketed list of texts is taken apart.
    const bool texts = std::holds_alternative<std::vector<std::string>*>(ref);
    if (texts && !trim(value).starts_with('[')) {
      assign_items(field, config, {std::string(value)}, where);
    } else {
      assign_items(field, config, split_list(field, value, where), where);
    }
    return;
  }
  std::visit(Overloaded{
                 [&](bool* out) { *out = to_bool(field, value, where); },
                 [&](std::int64_t* out) { *out = to_integer(field, value, where); },
                 [&](double* out) { *out = to_number(field, value, where); },
                 [&](std::string* out) { *out = to_text(field, value, where); },
                 [&](std::optional<std::int64_t>* out) {
                   if (is_null(trim(value))) {
                     out->reset();
                   } else {
                     *out = to_integer(field, value, where);
                   }
                 },
                 [&](std::optional<double>* out) {
                   if (is_null(trim(value))) {
                     out->reset();
                   } else {
                     *out = to_number(field, value, where);
                   }
                 },
                 [](auto*) {},
             },
             ref);
}

void assign_items(const Field& field, Config& config, const std::vector<std::string>& items,
                  const std::string& where) {
  const FieldRef ref = field.ref(config);
  if (!is_list(ref)) throw_usage(where, field.path, ": got a list, wanted one ", type_name(ref));
  std::visit(Overloaded{
                 [&](std::vector<std::int64_t>* out) {
                   std::vector<std::int64_t> values;
                   for (const auto& item : items) values.push_back(to_integer(field, item, where));
                   *out = std::move(values);
                 },
                 [&](std::vector<double>* out) {
                   std::vector<double> values;
                   for (const auto& item : items) values.push_back(to_number(field, item, where));
                   *out = std::move(values);
                 },
                 [&](std::vector<std::string>* out) {
                   std::vector<std::string> values;
                   for (const auto& item : items) values.push_back(to_text(field, item, where));
                   *out = std::move(values);
                 },
                 [](auto*) {},
             },
             ref);
}

void assign_null(const Field& field, Config& config, const std::string& where) {
  const FieldRef ref = field.ref(config);
  if (const auto* optional = std::get_if<std::optional<std::int64_t>*>(&ref)) {
    (*optional)->reset();
  } else if (const auto* number = std::get_if<std::optional<double>*>(&ref)) {
    (*number)->reset();
  } else if (is_list(ref)) {
    assign_items(field, config, {}, where);
  } else if (const auto* text = std::get_if<std::string*>(&ref); text && field.choices.empty()) {
    (*text)->clear();
  } else {
    throw_usage(where, field.path, ": got nothing, wanted ", type_name(ref));
  }
}

std::string format(const FieldRef& ref) {
  return std::visit(
      Overloaded{
          [](const bool* v) { return std::string(*v ? "true" : "false"); },
          [](const std::int64_t* v) { return std::to_string(*v); },
          [](const double* v) { return number(*v); },
          [](const std::string* v) { return yaml_scalar(*v); },
          [](const std::optional<std::int64_t>* v) { return *v ? std::to_string(**v) : "null"; },
          [](const std::optional<double>* v) { return *v ? number(**v) : std::string("null"); },
          [](const std::vector<std::int64_t>* v) {
            return format_list<std::int64_t>(*v, [](const std::int64_t& x) { return str(x); });
          },
          [](const std::vector<double>* v) {
            return format_list<double>(*v, [](const double& x) { return number(x); });
          },
          [](const std::vector<std::string>* v) {
            return format_list<std::string>(*v, [](const std::string& x) {
              // Always in quotes: a comma or bracket inside a flow list would end a plain item.
              const std::string plain = yaml_scalar(x);
              return plain.starts_with('"') ? plain : '"' + plain + '"';
            });
          },
      },
      ref);
}

std::string yaml_scalar(std::string_view text) {
  static constexpr std::string_view kSafe = "_./+-";
  bool plain = !text.empty() && text.front() != '-' && text.front() != '.';
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    plain = plain && (letter || kSafe.find(c) != std::string_view::npos);
  }
  const std::string word = canonical_name(text);
  for (const char* reserved :
       {"null", "true", "false", "yes", "no", "on", "off", "y", "n", "none"}) {
    plain = plain && word != reserved;
  }
  if (plain || text == ".") return std::string(text);
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7f) {
      constexpr char kHex[] = "0123456789abcdef";
      out += "\\x";
      out += kHex[byte >> 4U];
      out += kHex[byte & 15U];
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace drrik::detail
