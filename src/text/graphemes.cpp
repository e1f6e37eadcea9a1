#include "text/graphemes.h"

#include <cstdint>

#include "text/unicode.h"
#include "text/utf8.h"

namespace drrik::text {
namespace {

using unicode::Grapheme;

struct Character {
  std::uint32_t properties = 0;
  Grapheme kind = Grapheme::kOther;
  bool lvt = false;  // a Hangul syllable with a final consonant
};

Character character(std::uint32_t code) {
  const std::uint32_t p = unicode::properties(code);
  const auto kind = static_cast<Grapheme>(p >> unicode::kGraphemeShift & 0xFu);
  return {p, kind, kind == Grapheme::kLV && (code - 0xAC00) % 28 != 0};
}

bool is_control(Grapheme kind) {
  return kind == Grapheme::kCR || kind == Grapheme::kLF || kind == Grapheme::kControl;
}

/// Rules GB6 to GB8.
bool joins_hangul(const Character& a, const Character& b) {
  switch (a.kind) {
    case Grapheme::kL:
      return b.kind == Grapheme::kL || b.kind == Grapheme::kV || b.kind == Grapheme::kLV;
    case Grapheme::kV:
    case Grapheme::kLV:
      return b.kind == Grapheme::kT || (!a.lvt && b.kind == Grapheme::kV);
    case Grapheme::kT:
      return b.kind == Grapheme::kT;
    default:
      return false;
  }
}

}  // namespace

std::size_t grapheme_end(std::string_view text, std::size_t at) {
  std::size_t length = 0;
  Character last = character(decode_char(text.data() + at, length));
  at += length;
  const auto starts_picture = [](const Character& c) {
    return (c.properties & unicode::kPictographic) != 0;
  };
  bool pair_open = last.kind == Grapheme::kRegionalIndicator;  // an odd number of them so far
  bool picture = starts_picture(last);                         // a pictograph, then only extenders
  // A consonant, then only linkers and extenders; and whether a linker was among them.
  bool conjunct = (last.properties & unicode::kConjunctConsonant) != 0;
  bool linked = false;
  while (at < text.size()) {
    const Character next = character(decode_char(text.data() + at, length));
    if (is_control(last.kind) || is_control(next.kind)) {
      if (last.kind != Grapheme::kCR || next.kind != Grapheme::kLF) break;
    } else {
      const bool extends = next.kind == Grapheme::kExtend || next.kind == Grapheme::kZWJ ||
                           next.kind == Grapheme::kSpacingMark;
      const bool joined =
          extends || last.kind == Grapheme::kPrepend || joins_hangul(last, next) ||
          (conjunct && linked && (next.properties & unicode::kConjunctConsonant) != 0) ||
          (picture && last.kind == Grapheme::kZWJ && starts_picture(next)) ||
          (pair_open && next.kind == Grapheme::kRegionalIndicator);
      if (!joined) break;
    }
    pair_open = next.kind == Grapheme::kRegionalIndicator && !pair_open;
    picture = starts_picture(next) ||
              (picture && (next.kind == Grapheme::kExtend || next.kind == Grapheme::kZWJ) &&
               last.kind != Grapheme::kZWJ);
    if ((next.properties & unicode::kConjunctConsonant) != 0) {
      conjunct = true;
      linked = false;
    } else if ((next.properties & unicode::kConjunctLinker) != 0) {
      linked = conjunct;
    } else if ((next.properties & unicode::kConjunctExtend) == 0) {
      conjunct = false;
    }
    last = next;
    at += length;
  }
  return at;
}

}  // namespace drrik::text
