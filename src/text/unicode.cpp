#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <map>

#include "drrik/base/error.h"
#include "text/utf8.h"

namespace drrik::text {
namespace unicode {

Table::Table() {
  constexpr std::uint32_t kBlock = 128;
  stage_.reserve(kCodeEnd / kBlock);
  std::map<std::array<std::uint32_t, kBlock>, std::uint16_t> seen;
  std::array<std::uint32_t, kBlock> block{};
  std::size_t run = 0;
  constexpr std::size_t kRunCount = sizeof(kRuns) / sizeof(kRuns[0]);
  for (std::uint32_t base = 0; base < kCodeEnd; base += kBlock) {
    const bool uniform = run + 1 >= kRunCount || kRuns[run + 1].first >= base + kBlock;
    if (uniform) {
      block.fill(kRuns[run].properties);
    } else {
      for (std::uint32_t i = 0; i < kBlock; ++i) {
        while (run + 1 < kRunCount && kRuns[run + 1].first <= base + i) ++run;
        block[i] = kRuns[run].properties;
      }
    }
    while (run + 1 < kRunCount && kRuns[run + 1].first <= base + kBlock) ++run;
    const auto found = seen.emplace(block, static_cast<std::uint16_t>(blocks_.size() / kBlock));
    if (found.second) blocks_.insert(blocks_.end(), block.begin(), block.end());
    stage_.push_back(found.first->second);
  }
}

const Table& table() {
  static const Table instance;
  return instance;
}

std::string_view short_category(std::string_view name) {
  static constexpr std::pair<std::string_view, std::string_view> kLong[] = {
      {"Letter", "L"}, {"Mark", "M"},      {"Number", "N"}, {"Punctuation", "P"},
      {"Symbol", "S"}, {"Separator", "Z"}, {"Other", "C"}};
  for (const auto& [long_name, short_name] : kLong) {
    if (name == long_name) return short_name;
  }
  return name;
}

std::uint32_t category_mask(std::string_view name) {
  static constexpr std::pair<std::string_view, Category> kNames[] = {
      {"Cn", kCn}, {"Lu", kLu}, {"Ll", kLl}, {"Lt", kLt}, {"Lm", kLm}, {"Lo", kLo},
      {"Mn", kMn}, {"Mc", kMc}, {"Me", kMe}, {"Nd", kNd}, {"Nl", kNl}, {"No", kNo},
      {"Pc", kPc}, {"Pd", kPd}, {"Ps", kPs}, {"Pe", kPe}, {"Pi", kPi}, {"Pf", kPf},
      {"Po", kPo}, {"Sm", kSm}, {"Sc", kSc}, {"Sk", kSk}, {"So", kSo}, {"Zs", kZs},
      {"Zl", kZl}, {"Zp", kZp}, {"Cc", kCc}, {"Cf", kCf}, {"Co", kCo}};
  name = short_category(name);
  std::uint32_t mask = 0;
  for (const auto& [code, category] : kNames) {
    if (name == code || (name.size() == 1 && name[0] == code[0])) mask |= 1u << category;
  }
  return mask;
}

std::uint32_t script(std::uint32_t code) {
  const auto* run = std::upper_bound(
      std::begin(kScriptRuns), std::end(kScriptRuns), code,
      [](std::uint32_t value, const ScriptRun& candidate) { return value < candidate.first; });
  return run == std::begin(kScriptRuns) ? 0 : (run - 1)->script;
}

void append_lower(std::uint32_t code, std::string& out) {
  if (code < 0x80) {
    out.push_back(static_cast<char>(code >= 'A' && code <= 'Z' ? code + 32 : code));
    return;
  }
  const auto* run = std::upper_bound(
      std::begin(kLowerRuns), std::end(kLowerRuns), code,
      [](std::uint32_t value, const LowerRun& candidate) { return value < candidate.first; });
  if (run != std::begin(kLowerRuns)) {
    --run;
    if (code <= run->last && (code - run->first) % run->step == 0) {
      append_utf8(static_cast<std::uint32_t>(static_cast<std::int32_t>(code) + run->delta), out);
      if (code == 0x130) append_utf8(0x307, out);
      return;
    }
  }
  append_utf8(code, out);
}

}  // namespace unicode

namespace {

struct Form {
  unicode::Flag inert;
  int options;
};

Form form_of(NormalForm form) {
  constexpr int kBase = UTF8PROC_STABLE;
  switch (form) {
    case NormalForm::kNfc:
      return {unicode::kNfcInert, kBase | UTF8PROC_COMPOSE};
    case NormalForm::kNfd:
      return {unicode::kNfdInert, kBase | UTF8PROC_DECOMPOSE};
    case NormalForm::kNfkc:
      return {unicode::kNfkcInert, kBase | UTF8PROC_COMPOSE | UTF8PROC_COMPAT};
    case NormalForm::kNfkd:
      break;
  }
  return {unicode::kNfkdInert, kBase | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
}

/// Appends the normal form of a piece, which utf8proc works out on code points.
void append_normalized(std::string_view piece, int options, std::vector<utf8proc_int32_t>& codes,
                       std::string& out) {
  const auto opts = static_cast<utf8proc_option_t>(options);
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(piece.data());
  const auto size = static_cast<utf8proc_ssize_t>(piece.size());
  if (codes.size() < piece.size() * 4) codes.resize(piece.size() * 4);
  auto capacity = static_cast<utf8proc_ssize_t>(codes.size());
  auto count = utf8proc_decompose(bytes, size, codes.data(), capacity, opts);
  if (count > capacity) {
    codes.resize(static_cast<std::size_t>(count));
    capacity = count;
    count = utf8proc_decompose(bytes, size, codes.data(), capacity, opts);
  }
  if (count >= 0) count = utf8proc_normalize_utf32(codes.data(), count, opts);
  if (count < 0) throw_data("normalization: ", utf8proc_errmsg(count));
  for (utf8proc_ssize_t i = 0; i < count; ++i) {
    append_utf8(static_cast<std::uint32_t>(codes[static_cast<std::size_t>(i)]), out);
  }
}

/// Whether utf8proc, which knows newer characters than the package, leaves this one alone too. One
/// that it does not is new, so that the package composes nothing with it.
bool agrees(std::string_view character, int options) {
  std::size_t length = 0;
  const std::uint32_t code = decode_char(character.data(), length);
  if (code < 0x80) return true;
  if (utf8proc_get_property(static_cast<utf8proc_int32_t>(code))->combining_class != 0)
    return false;
  std::vector<utf8proc_int32_t> codes;
  std::string out;
  append_normalized(character, options, codes, out);
  return out == character;
}

}  // namespace

void normalize(NormalForm form, std::string& text) {
  const Form f = form_of(form);
  const unicode::Table& table = unicode::table();
  const bool compose = (f.options & UTF8PROC_COMPOSE) != 0;
  std::string out;
  std::vector<utf8proc_int32_t> codes;
  std::size_t copied = 0;        // text[0, copied) is done
  std::size_t last_starter = 0;  // where the last inert character starts
  for (std::size_t at = 0; at < text.size();) {
    std::size_t length = 0;
    const std::uint32_t code = decode_char(text.data() + at, length);
    if (code < 0x80 || (table[code] & f.inert) != 0) {
      last_starter = at;
      at += length;
      continue;
    }
    // A stretch of characters that may change, with the inert one before it that may compose.
    const bool with_starter =
        compose &&
        (at == last_starter ||
         agrees(std::string_view(text).substr(last_starter, at - last_starter), f.options));
    const std::size_t begin = with_starter ? last_starter : at;
    while (at < text.size()) {
      const std::uint32_t next = decode_char(text.data() + at, length);
      if (next < 0x80 || (table[next] & f.inert) != 0) break;
      at += length;
    }
    if (out.empty()) out.reserve(text.size() + text.size() / 8);
    out.append(text, copied, begin - copied);
    append_normalized(std::string_view(text).substr(begin, at - begin), f.options, codes, out);
    copied = at;
    last_starter = at;
  }
  if (copied == 0) return;
  out.append(text, copied);
  text.swap(out);
}

}  // namespace drrik::text
