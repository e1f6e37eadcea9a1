#pragma once
// UTF-8 of unknown origin: checked, mended, written.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace drrik {

/// Well-formed as Unicode 3.9 (table 3-7) has it: no overlong forms, no surrogates.
bool is_valid_utf8(std::string_view text);

/// Number of leading bytes that are whole valid characters.
std::size_t valid_utf8_prefix(std::string_view text);

/// Appends `bytes` with each maximal broken sequence replaced by U+FFFD (what Rust's
/// from_utf8_lossy, Python's errors="replace" and the Unicode standard's "substitution of maximal
/// subparts" give).
void append_mended(std::string_view bytes, std::string& out);
std::string mend_utf8(std::string_view bytes);

/// Appends the character; `code` is at most 0x10FFFF.
void append_utf8(std::uint32_t code, std::string& out);

}  // namespace drrik
