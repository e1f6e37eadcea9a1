#pragma once
// UTF-8 that is already known to be valid, and the GPT-2 byte alphabet.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "drrik/base/utf8.h"

namespace drrik::text {

/// Bytes of the character that starts with `lead` in valid UTF-8.
inline std::size_t char_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte < 0x80) return 1;
  if (byte < 0xE0) return 2;
  return byte < 0xF0 ? 3 : 4;
}

/// The code point at `p`; `length` gets its bytes. The text must be valid UTF-8.
inline std::uint32_t decode_char(const char* p, std::size_t& length) {
  const auto b0 = static_cast<unsigned char>(p[0]);
  if (b0 < 0x80) {
    length = 1;
    return b0;
  }
  const auto low = [p](int i) { return static_cast<std::uint32_t>(p[i]) & 0x3Fu; };
  if (b0 < 0xE0) {
    length = 2;
    return (b0 & 0x1Fu) << 6 | low(1);
  }
  if (b0 < 0xF0) {
    length = 3;
    return (b0 & 0x0Fu) << 12 | low(1) << 6 | low(2);
  }
  length = 4;
  return (b0 & 0x07u) << 18 | low(1) << 12 | low(2) << 6 | low(3);
}

/// Start of the character that ends just before `end` (end > 0).
inline std::size_t previous_char(std::string_view text, std::size_t end) {
  do {
    --end;
  } while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0u) == 0x80u);
  return end;
}

/// The GPT-2 alphabet: every byte as a printable character.
struct ByteAlphabet {
  /// UTF-8 of the character for a byte, one or two bytes long.
  char text[256][2];
  std::uint8_t length[256];
  /// The byte for a code point below 0x144, or -1.
  std::int16_t byte_of[0x144];
};
const ByteAlphabet& byte_alphabet();

/// Appends `bytes` written in the alphabet.
void append_mapped(std::string_view bytes, std::string& out);
/// Appends the bytes that `mapped` writes; false (and `out` as before) when it has characters
/// outside the alphabet.
bool append_unmapped(std::string_view mapped, std::string& out);

}  // namespace drrik::text
