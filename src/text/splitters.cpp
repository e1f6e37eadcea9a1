#include "text/splitters.h"

#include <cstdint>
#include <iterator>
#include <vector>

#include "text/unicode.h"
#include "text/utf8.h"

namespace drrik::text {
namespace {

constexpr std::string_view kGpt2Text =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Text =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Text =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

enum Class : std::uint8_t { kOther, kLetter, kNumber, kBlank };

/// Class of every code point, in two stages.
class ClassTable {
 public:
  ClassTable() {
    const unicode::Table& table = unicode::table();
    const std::uint32_t letters = unicode::category_mask("L");
    const std::uint32_t numbers = unicode::category_mask("N");
    const auto class_of = [&](std::uint32_t code) -> std::uint8_t {
      const std::uint32_t p = table[code];
      if ((p & unicode::kSpace) != 0) return kBlank;
      const std::uint32_t bit = unicode::category_bit(p);
      if ((bit & letters) != 0) return kLetter;
      return (bit & numbers) != 0 ? kNumber : kOther;
    };
    for (std::uint32_t base = 0; base < unicode::kCodeEnd; base += kBlock) {
      std::vector<std::uint8_t> block(kBlock);
      for (std::uint32_t i = 0; i < kBlock; ++i) block[i] = class_of(base + i);
      std::size_t found = 0;
      while (found < blocks_.size() &&
             !std::equal(block.begin(), block.end(),
                         blocks_.begin() + static_cast<std::ptrdiff_t>(found))) {
        found += kBlock;
      }
      if (found == blocks_.size()) blocks_.insert(blocks_.end(), block.begin(), block.end());
      stage_.push_back(static_cast<std::uint16_t>(found / kBlock));
    }
    for (std::uint32_t i = 0; i < 128; ++i) ascii_[i] = class_of(i);
  }
  std::uint8_t operator[](std::uint32_t code) const {
    return blocks_[std::size_t{stage_[code / kBlock]} * kBlock + code % kBlock];
  }
  /// Class of the character at p; `length` gets its bytes.
  std::uint8_t at(const char* p, std::size_t& length) const {
    const auto byte = static_cast<unsigned char>(*p);
    if (byte < 0x80) {
      length = 1;
      return ascii_[byte];
    }
    return (*this)[decode_char(p, length)];
  }

 private:
  static constexpr std::uint32_t kBlock = 256;
  std::vector<std::uint16_t> stage_;
  std::vector<std::uint8_t> blocks_;
  std::uint8_t ascii_[128] = {};
};

const ClassTable& classes() {
  static const ClassTable instance;
  return instance;
}

/// End of the run of `wanted` characters from `at` on.
inline std::size_t run_end(const ClassTable& table, std::string_view text, std::size_t at,
                           std::uint8_t wanted) {
  while (at < text.size()) {
    std::size_t length = 0;
    if (table.at(text.data() + at, length) != wanted) break;
    at += length;
  }
  return at;
}

/// \s+(?!\S)|\s+ at a blank: the run without its last character when something follows and more
/// than one is there, else the run.
std::size_t match_blanks(std::string_view text, std::size_t at, std::size_t end) {
  if (end == text.size()) return end;
  const std::size_t last = previous_char(text, end);
  return last > at ? last : end;
}

bool is_newline(char c) { return c == '\r' || c == '\n'; }

}  // namespace

KnownPattern recognise(std::string_view pattern) {
  if (pattern == kGpt2Text) return KnownPattern::kGpt2;
  if (pattern == kLlama3Text) return KnownPattern::kLlama3;
  if (pattern == kQwen2Text) return KnownPattern::kQwen2;
  return KnownPattern::kNone;
}

std::string_view pattern_text(KnownPattern pattern) {
  switch (pattern) {
    case KnownPattern::kGpt2:
      return kGpt2Text;
    case KnownPattern::kLlama3:
      return kLlama3Text;
    case KnownPattern::kQwen2:
      return kQwen2Text;
    case KnownPattern::kNone:
      break;
  }
  return {};
}

std::size_t match_gpt2(std::string_view text, std::size_t at) {
  const ClassTable& table = classes();
  std::size_t length = 0;
  const char c = text[at];
  if (c == '\'' && at + 1 < text.size()) {
    const char a = text[at + 1];
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
    if (at + 2 < text.size()) {
      const char b = text[at + 2];
      if ((b == 'e' && (a == 'r' || a == 'v')) || (b == 'l' && a == 'l')) return at + 3;
    }
  }
  std::uint8_t kind = table.at(text.data() + at, length);
  std::size_t after = at + length;
  if (kind == kBlank) {
    if (c == ' ' && after < text.size()) {
      std::size_t next_length = 0;
      kind = table.at(text.data() + after, next_length);
      if (kind != kBlank) return run_end(table, text, after + next_length, kind);
    }
    return match_blanks(text, at, run_end(table, text, after, kBlank));
  }
  return run_end(table, text, after, kind);
}

std::size_t match_llama3(std::string_view text, std::size_t at, int max_digits) {
  const ClassTable& table = classes();
  const char c = text[at];
  if (c == '\'' && at + 1 < text.size()) {
    const char a = static_cast<char>(text[at + 1] | 0x20);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
    if (at + 2 < text.size()) {
      // U+017F, the long s, is an s without regard to case.
      if (text[at + 1] == '\xC5' && text[at + 2] == '\xBF') return at + 3;
      const char b = static_cast<char>(text[at + 2] | 0x20);
      if ((b == 'e' && (a == 'r' || a == 'v')) || (b == 'l' && a == 'l')) return at + 3;
    }
  }
  std::size_t length = 0;
  const std::uint8_t kind = table.at(text.data() + at, length);
  std::size_t after = at + length;
  if (kind == kLetter) return run_end(table, text, after, kLetter);
  if (kind == kNumber) {
    for (int i = 1; i < max_digits && after < text.size(); ++i) {
      if (table.at(text.data() + after, length) != kNumber) break;
      after += length;
    }
    return after;
  }
  std::uint8_t next = kOther;
  std::size_t next_length = 0;
  const bool more = after < text.size();
  if (more) next = table.at(text.data() + after, next_length);
  if (more && next == kLetter && !is_newline(c)) {
    return run_end(table, text, after + next_length, kLetter);
  }
  if (kind == kOther || (c == ' ' && more && next == kOther)) {
    std::size_t end = run_end(table, text, after, kOther);
    while (end < text.size() && is_newline(text[end])) ++end;
    return end;
  }
  const std::size_t end = run_end(table, text, after, kBlank);
  for (std::size_t i = end; i > at; --i) {
    if (is_newline(text[i - 1])) return i;
  }
  return match_blanks(text, at, end);
}

}  // namespace drrik::text
