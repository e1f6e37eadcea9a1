#pragma once
// Character properties as the `tokenizers` package sees them (see unicode_table.inc), and Unicode
// normalization built on them.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace drrik::text {
namespace unicode {

#include "text/unicode_table.inc"  // NOLINT(bugprone-suspicious-include)

constexpr std::uint32_t kCategoryMask = 0x1F;
constexpr std::uint32_t kCodeEnd = 0x110000;

/// Two-stage table: code point -> category | flags.
class Table {
 public:
  Table();
  std::uint32_t operator[](std::uint32_t code) const {
    return blocks_[std::size_t{stage_[code >> 7]} << 7 | (code & 0x7Fu)];
  }

 private:
  std::vector<std::uint16_t> stage_;
  std::vector<std::uint32_t> blocks_;
};
const Table& table();

inline std::uint32_t properties(std::uint32_t code) { return table()[code]; }
inline bool has(std::uint32_t code, Flag flag) { return (properties(code) & flag) != 0; }
/// Bit per category.
inline std::uint32_t category_bit(std::uint32_t properties_of) {
  return 1u << (properties_of & kCategoryMask);
}

/// "L" for "Letter" and so on; other names as they are.
std::string_view short_category(std::string_view name);
/// Bits of a property name as split patterns write it (L, Lu, N, ...); 0 for an unknown one.
std::uint32_t category_mask(std::string_view name);

/// The script, as the UnicodeScripts pre-tokenizer tells them apart; 0 goes with every script.
std::uint32_t script(std::uint32_t code);

/// Appends the lower case (only U+0130 has more than one character).
void append_lower(std::uint32_t code, std::string& out);

}  // namespace unicode

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// Replaces `text` (valid UTF-8) by its normal form.
void normalize(NormalForm form, std::string& text);

}  // namespace drrik::text
