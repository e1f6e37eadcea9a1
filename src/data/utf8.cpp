#include "data/utf8.h"

#include <simdjson.h>

#include <cstddef>

namespace drrik {
namespace {

unsigned char byte_at(std::string_view text, std::size_t i) {
  return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
}

// Length of the well-formed sequence at `i`, or 0; `broken` is then the length of the longest
// beginning of a well-formed one (Unicode 3.9, table 3-7), at least 1.
std::size_t sequence(std::string_view text, std::size_t i, std::size_t& broken) {
  const unsigned char lead = byte_at(text, i);
  broken = 1;
  if (lead < 0x80) return 1;
  std::size_t length = 0;
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  for (; broken < length; ++broken) {
    const unsigned char next = byte_at(text, i + broken);
    if (i + broken >= text.size() || next < low || next > high) return 0;
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

// The code unit of \uXXXX at `i`, or -1.
int escape_at(std::string_view json, std::size_t i) {
  if (i + 6 > json.size() || json[i] != '\\' || json[i + 1] != 'u') return -1;
  int value = 0;
  for (std::size_t k = i + 2; k < i + 6; ++k) {
    const char c = json[k];
    int digit = -1;
    if (c >= '0' && c <= '9') digit = c - '0';
    if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
    if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

}  // namespace

bool valid_utf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

std::string mend_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 16);
  for (std::size_t i = 0; i < text.size();) {
    std::size_t broken = 0;
    const std::size_t length = sequence(text, i, broken);
    if (length > 0) {
      out.append(text.substr(i, length));
      i += length;
    } else {
      out += "\xEF\xBF\xBD";
      i += broken;
    }
  }
  return out;
}

std::string mend_surrogates(std::string_view json) {
  std::string out(json);
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (out[i] != '\\') continue;
    const int unit = escape_at(out, i);
    if (unit < 0) {
      ++i;  // The escaped character may itself be a backslash.
      continue;
    }
    const bool high = unit >= 0xD800 && unit <= 0xDBFF;
    const bool low = unit >= 0xDC00 && unit <= 0xDFFF;
    const int next = high ? escape_at(out, i + 6) : -1;
    if (high && next >= 0xDC00 && next <= 0xDFFF) {
      i += 11;
      continue;
    }
    if (high || low) out.replace(i, 6, "\\ufffd");
    i += 5;
  }
  return out;
}

}  // namespace drrik
