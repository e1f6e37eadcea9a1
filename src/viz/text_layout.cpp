#include "viz/text_layout.h"

#include <utf8proc.h>

#include <algorithm>

namespace drrik::detail {
namespace {

struct Char {
  std::int32_t code = 0;
  std::string_view bytes;
};

// The next character of valid or broken UTF-8; broken sequences come as U+FFFD, one byte at a time.
Char next_char(std::string_view text) {
  utf8proc_int32_t code = -1;
  const auto used = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                     static_cast<utf8proc_ssize_t>(text.size()), &code);
  if (used <= 0 || code < 0) return {0xFFFD, text.substr(0, 1)};
  return {code, text.substr(0, static_cast<std::size_t>(used))};
}

bool is_line_end(std::int32_t c) {
  return c == '\n' || c == 0x0B || c == 0x0C || c == 0x85 || c == 0x2028 || c == 0x2029;
}

// Zero width and direction controls, byte order marks, noncharacters, private use.
bool is_unwelcome(std::int32_t c) {
  return (c >= 0x200B && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) ||
         (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF || c == 0x061C || c == 0xAD ||
         (c & 0xFFFE) == 0xFFFE || (c >= 0xFDD0 && c <= 0xFDEF) || (c >= 0xFFF9 && c <= 0xFFFB) ||
         (c >= 0xE0000 && c <= 0xE0FFF) || (c >= 0xE000 && c <= 0xF8FF) || c >= 0xF0000;
}

int width_of(std::int32_t c) { return std::clamp(utf8proc_charwidth(c), 0, 2); }

// Latin, Greek, Cyrillic, general punctuation and the arrow for line ends: one column each in
// DejaVu Sans Mono, without a fallback font.
bool is_simple(std::int32_t c) {
  return (c >= 0x20 && c < 0x530 && width_of(c) == 1) || (c >= 0x2010 && c <= 0x2027) ||
         c == 0x21B5 || c == 0xFFFD;
}

template <typename F>
void each_char(std::string_view text, F&& f) {
  while (!text.empty()) {
    const Char c = next_char(text);
    text.remove_prefix(c.bytes.size());
    f(c);
  }
}

bool all_simple(std::string_view text) {
  bool simple = true;
  each_char(text, [&](const Char& c) { simple = simple && is_simple(c.code); });
  return simple;
}

const std::string kEllipsis = "\u2026";

// U+2068 and U+2069: what is between them is ordered on its own, as a whole among its neighbours.
const std::string kIsolate = "\u2068";
const std::string kEndIsolate = "\u2069";

// Lines are drawn one by one, so an isolate over several is closed and opened again on each.
void close_isolates(std::vector<LabelLine>& lines) {
  bool open = false;
  for (LabelLine& line : lines) {
    if (open) line.text = kIsolate + line.text;
    const std::size_t begin = line.text.find(kIsolate);
    open = begin != std::string::npos && line.text.find(kEndIsolate, begin) == std::string::npos;
    if (open) line.text += kEndIsolate;
  }
}

// Blanks at the start, unless there is nothing else.
void trim_start(std::string& text) {
  const std::size_t begin = text.find_first_not_of(' ');
  if (begin != std::string::npos) text.erase(0, begin);
}

// A cut inside a word is moved to the blank beside it when that costs little.
constexpr std::size_t kMaxWordPart = 14;

std::string drop_first_part(std::string text, std::string_view whole) {
  const std::size_t blank = text.find(' ');
  const std::size_t start = whole.size() - text.size();
  if (start == 0 || whole[start - 1] == ' ' || blank == std::string::npos || blank > kMaxWordPart) {
    return text;
  }
  return text.substr(blank);
}

std::string drop_last_part(std::string text, std::string_view whole) {
  const std::size_t blank = text.rfind(' ');
  if (text.size() == whole.size() || whole[text.size()] == ' ' || blank == std::string::npos ||
      text.size() - blank > kMaxWordPart) {
    return text;
  }
  return text.substr(0, blank + 1);
}

}  // namespace

std::string clean_text(std::string_view text, std::size_t max_bytes) {
  std::string out;
  bool after_return = false;
  int combining = 0;
  each_char(text.substr(0, max_bytes), [&](const Char& c) {
    const bool was_return = std::exchange(after_return, c.code == '\r');
    if (c.code == '\n' && was_return) return;
    // A pile of combining marks would grow over the neighbouring lines.
    combining = width_of(c.code) == 0 && c.code >= 0x300 ? combining + 1 : 0;
    if (combining > 4 || is_unwelcome(c.code)) return;
    if (is_line_end(c.code) || c.code == '\r') {
      out += "\u21B5";
    } else if (c.code < 0x20 || (c.code >= 0x7F && c.code < 0xA0) || c.code == 0xA0) {
      out += ' ';
    } else if (c.code == 0xFFFD) {
      out += "\uFFFD";
    } else {
      out += c.bytes;
    }
  });
  return out;
}

bool has_right_to_left(std::string_view text) {
  bool found = false;
  each_char(text, [&](const Char& c) {
    const auto bidi = static_cast<utf8proc_bidi_class_t>(utf8proc_get_property(c.code)->bidi_class);
    found = found || bidi == UTF8PROC_BIDI_CLASS_R || bidi == UTF8PROC_BIDI_CLASS_AL ||
            bidi == UTF8PROC_BIDI_CLASS_AN;
  });
  return found;
}

std::string as_paragraph(std::string_view text) {
  if (!has_right_to_left(text)) return std::string(text);
  return kIsolate + std::string(text) + kEndIsolate;
}

std::int64_t text_columns(std::string_view text) {
  std::int64_t columns = 0;
  each_char(text, [&](const Char& c) { columns += width_of(c.code); });
  return columns;
}

std::string head_columns(std::string_view text, std::int64_t columns) {
  std::string out;
  std::int64_t used = 0;
  bool full = false;
  each_char(text, [&](const Char& c) {
    used += width_of(c.code);
    full = full || used > columns;
    if (!full) out += c.bytes;
  });
  return out;
}

std::string tail_columns(std::string_view text, std::int64_t columns) {
  std::int64_t drop = text_columns(text) - columns;
  std::string out;
  each_char(text, [&](const Char& c) {
    if (drop <= 0 && (!out.empty() || width_of(c.code) > 0)) out += c.bytes;
    if (drop > 0) drop -= width_of(c.code);
  });
  return out;
}

std::string elide(std::string_view text, std::int64_t columns) {
  const std::string clean = clean_text(text);
  if (text_columns(clean) <= columns) return clean;
  return drop_last_part(head_columns(clean, std::max<std::int64_t>(columns - 1, 0)), clean) +
         kEllipsis;
}

RowLabel fit_label(const RowLabel& label, std::int64_t columns) {
  constexpr std::size_t kMaxSide = 1U << 14U;
  std::string_view before = label.before;
  bool cut_before = false;
  if (before.size() > kMaxSide) {
    before = before.substr(before.size() - kMaxSide);
    cut_before = true;
  }
  RowLabel out{clean_text(before), clean_text(label.token, kMaxSide),
               clean_text(label.after, kMaxSide)};
  if (out.token.empty() && !label.token.empty()) out.token = "\uFFFD";
  trim_start(out.before);
  if (out.before.empty()) trim_start(out.token);
  if (out.token.empty() && out.after.empty()) {
    out.before = elide(label.before, columns);
    return out;
  }
  out.token = elide(out.token, std::max<std::int64_t>(columns - 2, 1));
  const std::int64_t room = columns - text_columns(out.token);
  std::int64_t left = text_columns(out.before);
  std::int64_t right = text_columns(out.after);
  if (left + right > room || cut_before) {
    // What one side does not need goes to the other.
    const std::int64_t half = room / 2;
    const std::int64_t keep_left = std::min(left, std::max(half, room - right));
    const std::int64_t keep_right = std::min(right, room - keep_left);
    if (keep_left < left || cut_before) {
      out.before =
          keep_left > 0
              ? kEllipsis + drop_first_part(tail_columns(out.before, std::min(left, keep_left - 1)),
                                            out.before)
              : "";
    }
    if (keep_right < right) {
      out.after =
          keep_right > 0
              ? drop_last_part(head_columns(out.after, keep_right - 1), out.after) + kEllipsis
              : std::string();
    }
  }
  return out;
}

std::vector<LabelLine> wrap_label(const RowLabel& label, std::int64_t columns) {
  std::string text = label.before + label.token + label.after;
  const bool simple = all_simple(text);
  // The mark leaves out the blanks around the token, unless it is nothing else.
  const bool only_blanks = label.token.find_first_not_of(' ') == std::string::npos;
  const std::size_t first = only_blanks ? 0 : label.token.find_first_not_of(' ');
  const std::size_t last = only_blanks ? label.token.size() : label.token.find_last_not_of(' ') + 1;
  const std::string marked = label.token.substr(first, last - first);
  const std::int64_t mark_begin = text_columns(label.before) + static_cast<std::int64_t>(first);
  const std::int64_t mark_end = simple ? mark_begin + text_columns(marked) : mark_begin;
  if (!simple && !marked.empty()) {
    const bool isolate = has_right_to_left(text);
    text = label.before + label.token.substr(0, first) + (isolate ? kIsolate : "") + "\u00AB" +
           marked + "\u00BB" + (isolate ? kEndIsolate : "") + label.token.substr(last) +
           label.after;
  }

  std::vector<LabelLine> lines;
  std::string_view rest = text;
  std::int64_t at = 0;  // Column of `rest` in the whole text.
  while (!rest.empty()) {
    std::int64_t used = 0;
    std::size_t bytes = 0;  // That fit.
    std::size_t blank = 0;  // Just after the last blank that fits.
    bool all = true;
    each_char(rest, [&](const Char& c) {
      if (!all) return;
      const int width = width_of(c.code);
      if (used + width > columns && bytes > 0) {
        // A blank may hang over the end of the line.
        if (c.code == ' ') blank = bytes + 1;
        all = false;
        return;
      }
      used += width;
      bytes += c.bytes.size();
      if (c.code == ' ') blank = bytes;
    });
    std::size_t take = bytes;
    // A break that leaves most of the line empty reads worse than a broken word.
    if (!all && blank > 0 && text_columns(rest.substr(0, blank)) * 2 >= columns) take = blank;
    LabelLine line;
    line.text = std::string(rest.substr(0, take));
    const std::int64_t width = text_columns(line.text);
    line.mark_begin = std::clamp(mark_begin - at, std::int64_t{0}, width);
    line.mark_end = std::clamp(mark_end - at, std::int64_t{0}, width);
    at += width;
    rest.remove_prefix(take);
    lines.push_back(std::move(line));
  }
  // An ellipsis alone on the last line hangs over the end of the one before, as a blank may.
  if (lines.size() > 1 && lines.back().text == kEllipsis) {
    lines.pop_back();
    std::string& last_line = lines.back().text;
    if (last_line.ends_with(' ')) last_line.pop_back();
    last_line += kEllipsis;
  }
  close_isolates(lines);
  return lines;
}

std::vector<LabelLine> layout_label(const RowLabel& label, std::int64_t columns,
                                    std::int64_t lines) {
  // Breaking at blanks wastes part of a line, so ask for less until it fits.
  std::int64_t budget = columns * lines;
  for (;;) {
    std::vector<LabelLine> out = wrap_label(fit_label(label, budget), columns);
    if (static_cast<std::int64_t>(out.size()) <= lines || budget <= columns / 2) {
      if (static_cast<std::int64_t>(out.size()) > lines)
        out.resize(static_cast<std::size_t>(lines));
      return out;
    }
    budget -= std::max<std::int64_t>(1, columns / 8);
  }
}

}  // namespace drrik::detail
