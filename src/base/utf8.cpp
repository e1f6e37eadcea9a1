#include "drrik/base/utf8.h"

#include <simdjson.h>

namespace drrik {
namespace {

/// Length of the valid character at text[at], or 0; `broken` then gets the maximal broken part's.
std::size_t check_char(std::string_view text, std::size_t at, std::size_t& broken) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const std::size_t left = text.size() - at;
  const unsigned char b0 = byte(0);
  broken = 1;
  if (b0 < 0x80) return 1;
  std::size_t length = 0;
  unsigned char low = 0x80;  // allowed range of the second byte (Unicode table 3-7)
  unsigned char high = 0xBF;
  if (b0 >= 0xC2 && b0 <= 0xDF) {
    length = 2;
  } else if (b0 >= 0xE0 && b0 <= 0xEF) {
    length = 3;
    if (b0 == 0xE0) low = 0xA0;
    if (b0 == 0xED) high = 0x9F;
  } else if (b0 >= 0xF0 && b0 <= 0xF4) {
    length = 4;
    if (b0 == 0xF0) low = 0x90;
    if (b0 == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  for (std::size_t i = 1; i < length; ++i) {
    if (i >= left || byte(i) < low || byte(i) > high) {
      broken = i;
      return 0;
    }
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

}  // namespace

void append_utf8(std::uint32_t code, std::string& out) {
  const auto put = [&out](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0u | code >> 6);
    put(0x80u | (code & 0x3Fu));
  } else if (code < 0x10000) {
    put(0xE0u | code >> 12);
    put(0x80u | (code >> 6 & 0x3Fu));
    put(0x80u | (code & 0x3Fu));
  } else {
    put(0xF0u | code >> 18);
    put(0x80u | (code >> 12 & 0x3Fu));
    put(0x80u | (code >> 6 & 0x3Fu));
    put(0x80u | (code & 0x3Fu));
  }
}

bool is_valid_utf8(std::string_view text) {
  return simdjson::validate_utf8(text.data(), text.size());
}

std::size_t valid_utf8_prefix(std::string_view text) {
  if (is_valid_utf8(text)) return text.size();
  std::size_t at = 0;
  std::size_t broken = 0;
  while (at < text.size()) {
    const std::size_t length = check_char(text, at, broken);
    if (length == 0) break;
    at += length;
  }
  return at;
}

void append_mended(std::string_view bytes, std::string& out) {
  if (is_valid_utf8(bytes)) {
    out.append(bytes);
    return;
  }
  std::size_t from = 0;
  std::size_t at = 0;
  while (at < bytes.size()) {
    std::size_t broken = 0;
    const std::size_t length = check_char(bytes, at, broken);
    if (length != 0) {
      at += length;
      continue;
    }
    out.append(bytes.substr(from, at - from));
    out.append("\xEF\xBF\xBD");
    at += broken;
    from = at;
  }
  out.append(bytes.substr(from));
}

std::string mend_utf8(std::string_view bytes) {
  std::string out;
  append_mended(bytes, out);
  return out;
}

}  // namespace drrik
