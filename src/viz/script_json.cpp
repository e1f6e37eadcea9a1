#include "viz/script_json.h"

#include <charconv>
#include <cmath>

namespace drrik::detail {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";
// U+2028 and U+2029 end a line in older scripts' strings.
constexpr std::string_view kSeparators = "\xe2\x80";

bool is_separator(std::string_view text, std::size_t i) {
  return text.substr(i, 2) == kSeparators && i + 2 < text.size() &&
         (text[i + 2] == '\xa8' || text[i + 2] == '\xa9');
}

void append_separator(std::string& out, char last) {
  out += last == '\xa8' ? "\\u2028" : "\\u2029";
}

}  // namespace

void append_json_string(std::string& out, std::string_view utf8) {
  out += '"';
  for (std::size_t i = 0; i < utf8.size(); ++i) {
    const char c = utf8[i];
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7f || c == '<') {
      out += "\\u00";
      out += kDigits[byte >> 4U];
      out += kDigits[byte & 15U];
    } else if (is_separator(utf8, i)) {
      append_separator(out, utf8[i + 2]);
      i += 2;
    } else {
      out += c;
    }
  }
  out += '"';
}

void append_json_number(std::string& out, double value, int digits) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  char text[40];
  const auto [end, error] =
      std::to_chars(text, text + sizeof text, value, std::chars_format::general, digits);
  static_cast<void>(error);  // 40 characters hold any number of 17 digits
  out.append(text, end);
}

void append_json_integer(std::string& out, std::int64_t value) {
  char text[24];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  static_cast<void>(error);
  out.append(text, end);
}

void append_json_float(std::string& out, float value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  char text[40];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  static_cast<void>(error);
  out.append(text, end);
}

std::string script_safe(std::string_view json) {
  std::string out;
  out.reserve(json.size());
  for (std::size_t i = 0; i < json.size(); ++i) {
    if (json[i] == '<') {
      out += "\\u003c";
    } else if (is_separator(json, i)) {
      append_separator(out, json[i + 2]);
      i += 2;
    } else {
      out += json[i];
    }
  }
  return out;
}

}  // namespace drrik::detail
