#include "data/surrogates.h"

#include <cstddef>

namespace drrik {
namespace {

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
