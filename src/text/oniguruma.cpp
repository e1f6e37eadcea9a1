// Oniguruma's pattern syntax put into PCRE2's. Two things differ for the patterns that tokenizer
// files hold: character classes (nesting, &&, what \s \w \d mean, the Unicode version) and a few
// quantifiers ({,n}, and + after {n,m}, which is not possessive). All else is copied.

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "drrik/base/error.h"
#include "text/regex.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace drrik::text {
namespace {

using Range = std::pair<std::uint32_t, std::uint32_t>;  // first, last
using Set = std::vector<Range>;                         // sorted, disjoint, not adjacent
constexpr std::uint32_t kLastCode = 0x10FFFF;

void tidy(Set& set) {
  std::sort(set.begin(), set.end());
  Set out;
  for (const Range& range : set) {
    if (!out.empty() && range.first <= out.back().second + 1) {
      out.back().second = std::max(out.back().second, range.second);
    } else {
      out.push_back(range);
    }
  }
  set.swap(out);
}

Set complement(const Set& set) {
  Set out;
  std::uint32_t from = 0;
  for (const Range& range : set) {
    if (range.first > from) out.push_back({from, range.first - 1});
    from = range.second + 1;
  }
  if (from <= kLastCode) out.push_back({from, kLastCode});
  return out;
}

Set intersect(const Set& a, const Set& b) {
  Set outside = complement(a);
  const Set other = complement(b);
  outside.insert(outside.end(), other.begin(), other.end());
  tidy(outside);
  return complement(outside);
}

template <typename Predicate>
Set collect(Predicate matches) {
  Set out;
  constexpr std::size_t kCount = sizeof(unicode::kRuns) / sizeof(unicode::kRuns[0]);
  for (std::size_t i = 0; i < kCount; ++i) {
    if (!matches(unicode::kRuns[i].properties)) continue;
    const std::uint32_t last = i + 1 < kCount ? unicode::kRuns[i + 1].first - 1 : kLastCode;
    out.push_back({unicode::kRuns[i].first, last});
  }
  tidy(out);
  return out;
}

Set categories(std::uint32_t mask) {
  return collect([mask](std::uint32_t p) { return (unicode::category_bit(p) & mask) != 0; });
}

/// \w. Inside brackets Oniguruma leaves out the superscripts and fractions of Latin-1.
Set word_set(bool in_class) {
  const Set words = collect([](std::uint32_t p) { return (p & unicode::kWord) != 0; });
  if (!in_class) return words;
  return intersect(words, complement({{0xB2, 0xB3}, {0xB9, 0xB9}, {0xBC, 0xBE}}));
}

void append_code(std::uint32_t code, std::string& out) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string digits;
  do {
    digits.insert(digits.begin(), kDigits[code & 15u]);
    code >>= 4;
  } while (code != 0);
  out += "\\x{" + digits + "}";
}

void append_ranges(const Set& set, std::string& out) {
  for (const Range& range : set) {
    // PCRE2 rejects surrogates, which no text has.
    Range parts[2] = {range, {1, 0}};
    if (range.first <= 0xDFFF && range.second >= 0xD800) {
      parts[0].second = 0xD7FF;
      parts[1] = {0xE000, range.second};
      if (range.first >= 0xD800) parts[0] = {1, 0};
    }
    for (const Range& part : parts) {
      if (part.first > part.second) continue;
      append_code(part.first, out);
      if (part.second == part.first) continue;
      out += '-';
      append_code(part.second, out);
    }
  }
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  std::string run() {
    while (at_ < in_.size()) step();
    return std::move(out_);
  }

 private:
  static constexpr int kMaxNesting = 100;

  [[noreturn]] void fail(const char* what) const {
    throw_data("split pattern '", in_, "': ", what, " at ", at_);
  }
  bool peek(std::string_view expected) const {
    return in_.substr(at_, expected.size()) == expected;
  }
  char get() {
    if (at_ >= in_.size()) fail("it ends too early");
    return in_[at_++];
  }

  void step() {
    const char c = in_[at_];
    switch (c) {
      case '[':
        atom_ = out_.size();
        translate_class();
        return;
      case '\\':
        escape();
        return;
      case '(':
        if (static_cast<int>(groups_.size()) >= kMaxNesting) fail("groups nested too deeply");
        groups_.push_back(out_.size());
        open_group();
        return;
      case ')':
        ++at_;
        out_ += ')';
        if (!groups_.empty()) {
          atom_ = groups_.back();
          groups_.pop_back();
        }
        return;
      case '{':
        if (interval()) return;
        break;
      case '*':
      case '+':
      case '?':
      case '|':
        ++at_;
        out_ += c;
        return;
      default:
        break;
    }
    atom_ = out_.size();
    const std::size_t length = char_length(c);
    if (c == '}' || c == ']' || c == '{') out_ += '\\';
    out_.append(in_.substr(at_, length));
    at_ += length;
  }

  void open_group() {
    // (?m) is what PCRE2 calls s; all other group heads are the same.
    out_ += get();
    if (at_ >= in_.size() || in_[at_] != '?') return;
    out_ += get();
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == 'm') {
        out_ += 's';
      } else if (c == 'i' || c == 'x' || c == '-') {
        out_ += c;
      } else {
        break;
      }
      ++at_;
    }
    if (at_ < in_.size() && in_[at_] == '<') {  // (?<= (?<! (?<name>
      out_ += get();
      while (at_ < in_.size() && in_[at_] != '>' && in_[at_] != '=' && in_[at_] != '!') {
        out_ += get();
      }
    }
    if (at_ < in_.size() && std::string_view(":=!>").find(in_[at_]) != std::string_view::npos) {
      out_ += get();
    }
  }

  /// {n} {n,} {n,m} {,m}; false when the brace is a plain character.
  bool interval() {
    std::size_t i = at_ + 1;
    std::string low;
    std::string high;
    bool comma = false;
    const auto digit = [this](std::size_t k) {
      return k < in_.size() && in_[k] >= '0' && in_[k] <= '9';
    };
    while (digit(i)) low += in_[i++];
    if (i < in_.size() && in_[i] == ',') {
      comma = true;
      ++i;
      while (digit(i)) high += in_[i++];
    }
    if (i >= in_.size() || in_[i] != '}' || (low.empty() && high.empty())) return false;
    at_ = i + 1;
    out_ += "{" + (low.empty() ? std::string("0") : low) + (comma ? "," : "") + high + "}";
    // For Oniguruma a + here repeats the repeated; for PCRE2 it would forbid backtracking.
    if (at_ < in_.size() && in_[at_] == '+') {
      out_.insert(atom_, "(?:");
      out_ += ')';
    }
    return true;
  }

  /// The code point an escape stands for, at_ being after the backslash; false when it is a class.
  bool escaped_code(std::uint32_t& code) {
    const char c = in_[at_];
    static constexpr std::pair<char, std::uint32_t> kControls[] = {
        {'t', 9}, {'n', 10}, {'v', 11}, {'f', 12}, {'r', 13}, {'a', 7}, {'e', 27}};
    for (const auto& [name, value] : kControls) {
      if (c == name) {
        ++at_;
        code = value;
        return true;
      }
    }
    if (c == 'x' || c == 'u') {
      ++at_;
      const bool braces = c == 'x' && at_ < in_.size() && in_[at_] == '{';
      if (braces) ++at_;
      const std::size_t most = braces ? 8 : (c == 'u' ? 4 : 2);
      code = 0;
      std::size_t digits = 0;
      while (digits < most && at_ < in_.size()) {
        const char d = in_[at_];
        std::uint32_t value = 0;
        if (d >= '0' && d <= '9') {
          value = static_cast<std::uint32_t>(d - '0');
        } else if ((d | 32) >= 'a' && (d | 32) <= 'f') {
          value = static_cast<std::uint32_t>((d | 32) - 'a') + 10;
        } else {
          break;
        }
        code = code << 4 | value;
        ++digits;
        ++at_;
      }
      if (digits == 0) fail("an escape without hexadecimal digits");
      if (braces && get() != '}') fail("an escape without its closing brace");
      if (code > kLastCode || (code >= 0xD800 && code < 0xE000)) fail("not a code point");
      return true;
    }
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter) return false;
    std::size_t length = 0;
    code = decode_char(in_.data() + at_, length);
    at_ += length;
    return true;
  }

  /// A class escape (\s \S \p{..} ...), at_ being on its letter; false for another letter.
  bool escaped_set(Set& set, std::string& compact, bool in_class) {
    const char c = in_[at_];
    compact.clear();
    bool negated = false;
    switch (c) {
      case 's':
      case 'S':
        set = collect([](std::uint32_t p) { return (p & unicode::kSpace) != 0; });
        negated = c == 'S';
        break;
      case 'w':
      case 'W':
        set = word_set(in_class);
        negated = c == 'W';
        break;
      case 'd':
      case 'D':
        set = categories(1u << unicode::kNd);
        negated = c == 'D';
        break;
      case 'h':
      case 'H':
        set = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
        negated = c == 'H';
        break;
      case 'p':
      case 'P':
        property(set, compact);
        return true;
      default:
        return false;
    }
    ++at_;
    if (negated) set = complement(set);
    return true;
  }

  void property(Set& set, std::string& compact) {
    const bool upper = get() == 'P';
    if (get() != '{') fail("\\p without braces");
    const std::size_t close = in_.find('}', at_);
    if (close == std::string_view::npos) fail("\\p without its closing brace");
    std::string_view name = in_.substr(at_, close - at_);
    at_ = close + 1;
    bool negated = upper;
    if (!name.empty() && name.front() == '^') {
      negated = !negated;
      name.remove_prefix(1);
    }
    if (name == "Alpha" || name == "Alphabetic" || name == "L&") fail("an unsupported property");
    const std::uint32_t mask = unicode::category_mask(name);
    if (mask == 0) {
      // A script or a derived property: PCRE2's own idea of it.
      compact = std::string(negated ? "\\P{" : "\\p{") + std::string(name) + "}";
      return;
    }
    set = categories(mask);
    if (negated) {
      set = complement(set);
      return;
    }
    // PCRE2's table and what Unicode has got since; much faster to match than the list.
    const Set added = collect([mask](std::uint32_t p) {
      return (unicode::category_bit(p) & mask) != 0 && (p & unicode::kNewSince14) != 0;
    });
    const bool unassigned = (mask & 1u << unicode::kCn) != 0;
    const bool moved = (mask & (1u << unicode::kMn | 1u << unicode::kMc)) == 1u << unicode::kMn;
    if (unassigned || moved) return;  // these have lost code points since
    compact = "\\p{" + std::string(unicode::short_category(name)) + "}";
    append_ranges(added, compact);
  }

  void escape() {
    const std::size_t start = at_;
    ++at_;
    if (at_ >= in_.size()) fail("a lone backslash");
    atom_ = out_.size();
    Set set;
    std::string compact;
    if (escaped_set(set, compact, false)) {
      out_ += '[';
      if (compact.empty()) {
        append_ranges(set, out_);
      } else {
        out_ += compact;
      }
      out_ += ']';
      return;
    }
    std::uint32_t code = 0;
    if (escaped_code(code)) {
      append_code(code, out_);
      return;
    }
    // Anchors and references; the letters where both engines agree.
    static constexpr std::string_view kShared = "AbBGkKRXzZ123456789";
    if (kShared.find(in_[at_]) == std::string_view::npos) fail("an unsupported escape");
    ++at_;
    out_.append(in_.substr(start, at_ - start));
  }

  struct Parsed {
    Set set;               // always right, unless opaque
    std::string compact;   // the same in PCRE2's words, without brackets; only for plain unions
    bool negated = false;  // of compact
    bool opaque = false;   // has parts whose set is PCRE2's business
  };

  void translate_class() {
    const Parsed parsed = parse_class(0);
    if (parsed.compact.empty() && parsed.opaque) fail("a class too mixed to be translated");
    out_ += parsed.negated ? "[^" : "[";
    if (!parsed.compact.empty()) {
      out_ += parsed.compact + "]";
      return;
    }
    if (parsed.set.empty()) {
      out_.pop_back();
      out_ += "(?!)";
      return;
    }
    append_ranges(parsed.set, out_);
    out_ += ']';
  }

  /// From '[' to its ']'.
  Parsed parse_class(int depth) {
    if (depth > kMaxNesting) fail("classes nested too deeply");
    ++at_;
    bool negated = false;
    if (at_ < in_.size() && in_[at_] == '^') {
      negated = true;
      ++at_;
    }
    Parsed result;
    bool plain = true;  // only a union of simple things so far
    bool intersected = false;
    Set left;  // what stands before the last &&
    bool first = true;
    for (;;) {
      if (at_ >= in_.size()) fail("a class without its ]");
      const char c = in_[at_];
      if (c == ']' && !first) {
        ++at_;
        break;
      }
      first = false;
      if (c == '[' && peek("[:")) {
        posix(result);
        continue;
      }
      if (c == '[') {
        const Parsed inner = parse_class(depth + 1);
        if (inner.opaque) result.opaque = true;
        result.set.insert(result.set.end(), inner.set.begin(), inner.set.end());
        if (inner.negated || inner.compact.empty()) {
          plain = false;
          if (inner.opaque) fail("a class too mixed to be translated");
        } else {
          result.compact += inner.compact;
        }
        continue;
      }
      if (peek("&&")) {
        at_ += 2;
        tidy(result.set);
        left = intersected ? intersect(left, result.set) : result.set;
        intersected = true;
        plain = false;
        result.set.clear();
        continue;
      }
      item(result);
    }
    tidy(result.set);
    if (intersected) result.set = intersect(left, result.set);
    if (intersected && result.opaque) fail("a script in an intersection is not supported");
    if (!plain) {
      if (result.opaque) fail("a class too mixed to be translated");
      result.compact.clear();
      if (negated) result.set = complement(result.set);
      return result;
    }
    result.negated = negated;
    if (negated) result.set = complement(result.set);
    return result;
  }

  /// One character, range or class escape inside brackets.
  void item(Parsed& result) {
    std::uint32_t low = 0;
    if (in_[at_] == '\\') {
      ++at_;
      if (at_ >= in_.size()) fail("a lone backslash");
      Set set;
      std::string compact;
      if (escaped_set(set, compact, true)) {
        if (!compact.empty() && set.empty()) result.opaque = true;
        result.set.insert(result.set.end(), set.begin(), set.end());
        if (compact.empty()) {
          append_ranges(set, result.compact);
        } else {
          result.compact += compact;
        }
        return;
      }
      if (!escaped_code(low)) {
        if (in_[at_] != 'b') fail("an unsupported escape in a class");
        ++at_;
        low = 8;
      }
    } else {
      low = take_char();
    }
    std::uint32_t high = low;
    if (at_ + 1 < in_.size() && in_[at_] == '-' && in_[at_ + 1] != ']') {
      const std::size_t dash = at_;
      ++at_;
      if (in_[at_] == '\\') {
        ++at_;
        if (at_ >= in_.size()) fail("a lone backslash");
        if (!escaped_code(high)) at_ = dash;  // [a-\d]: the dash is a character
      } else if (in_[at_] == '[') {
        at_ = dash;
      } else {
        high = take_char();
      }
      if (at_ == dash) {
        ++at_;
        high = low;
        add(result, {'-', '-'});
      }
    }
    if (high < low) fail("an empty range");
    add(result, {low, high});
  }

  std::uint32_t take_char() {
    std::size_t length = 0;
    const std::uint32_t code = decode_char(in_.data() + at_, length);
    at_ += length;
    return code;
  }

  static void add(Parsed& result, Range range) {
    result.set.push_back(range);
    append_ranges({range}, result.compact);
  }

  void posix(Parsed& result) {
    const std::size_t close = in_.find(":]", at_ + 2);
    if (close == std::string_view::npos) fail("a POSIX class without its end");
    std::string_view name = in_.substr(at_ + 2, close - at_ - 2);
    const bool negated = !name.empty() && name.front() == '^';
    if (negated) name.remove_prefix(1);
    Set set;
    if (name == "space") {
      set = collect([](std::uint32_t p) { return (p & unicode::kSpace) != 0; });
    } else if (name == "digit") {
      set = categories(1u << unicode::kNd);
    } else if (name == "word") {
      set = word_set(true);
    } else if (name == "xdigit") {
      set = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
    } else if (name == "punct") {
      set = categories(unicode::category_mask("P") | unicode::category_mask("S"));
    } else {
      fail("an unsupported POSIX class");
    }
    if (negated) set = complement(set);
    at_ = close + 2;
    append_ranges(set, result.compact);
    result.set.insert(result.set.end(), set.begin(), set.end());
  }

  std::string_view in_;
  std::size_t at_ = 0;
  std::string out_;
  std::size_t atom_ = 0;  // where the last thing a quantifier can repeat starts in out_
  std::vector<std::size_t> groups_;
};

}  // namespace

std::string translate_oniguruma(std::string_view pattern) { return Translator(pattern).run(); }

}  // namespace drrik::text
