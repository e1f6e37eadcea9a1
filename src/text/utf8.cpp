#include "text/utf8.h"

#include "drrik/base/utf8.h"

namespace drrik::text {

const ByteAlphabet& byte_alphabet() {
  static const ByteAlphabet alphabet = [] {
    ByteAlphabet out{};
    for (auto& byte : out.byte_of) byte = -1;
    std::uint32_t next = 0x100;
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      const std::uint32_t code = printable ? byte : next++;
      std::string utf8;
      append_utf8(code, utf8);
      out.length[byte] = static_cast<std::uint8_t>(utf8.size());
      out.text[byte][0] = utf8[0];
      out.text[byte][1] = utf8.size() > 1 ? utf8[1] : '\0';
      out.byte_of[code] = static_cast<std::int16_t>(byte);
    }
    return out;
  }();
  return alphabet;
}

void append_mapped(std::string_view bytes, std::string& out) {
  const ByteAlphabet& alphabet = byte_alphabet();
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    out.append(alphabet.text[byte], alphabet.length[byte]);
  }
}

bool append_unmapped(std::string_view mapped, std::string& out) {
  const ByteAlphabet& alphabet = byte_alphabet();
  const std::size_t before = out.size();
  for (std::size_t at = 0; at < mapped.size();) {
    std::size_t length = 0;
    const std::uint32_t code = decode_char(mapped.data() + at, length);
    if (code >= 0x144 || alphabet.byte_of[code] < 0) {
      out.resize(before);
      return false;
    }
    out.push_back(static_cast<char>(alphabet.byte_of[code]));
    at += length;
  }
  return true;
}

}  // namespace drrik::text
