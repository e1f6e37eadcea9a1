#include "screen.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "drrik/base/error.h"
#include "drrik/base/utf8.h"

namespace drrik::cli {
namespace {

constexpr std::size_t kLabel = 18;  // columns of a label, two blanks before it
constexpr int kNarrowest = 40;
constexpr int kWidest = 120;

constexpr const char* kBold = "1";
constexpr const char* kDim = "2";
constexpr const char* kSection = "1;36";
constexpr const char* kNote = "33";

/// Columns a text takes: characters, since nothing here is wider than one column but foreign text.
std::size_t columns(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  }));
}

/// The first `limit` characters.
std::string_view head(std::string_view text, std::size_t limit) {
  std::size_t at = 0;
  while (at < text.size() && limit > 0) {
    ++at;
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U) ++at;
    --limit;
  }
  return text.substr(0, at);
}

bool looks_like_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789,.-") == std::string_view::npos;
}

bool wants_colour() {
  const char* no = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return isatty(STDOUT_FILENO) != 0 && (no == nullptr || *no == 0) &&
         (term == nullptr || std::string_view(term) != "dumb");
}

}  // namespace

Screen::Screen() : width_(80), wrap_(isatty(STDOUT_FILENO) != 0), colour_(wants_colour()) {
  winsize size{};
  if (wrap_ && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    width_ = std::clamp<int>(size.ws_col, kNarrowest, kWidest);
  }
}

std::string Screen::styled(std::string_view text, const char* code) const {
  if (!colour_) return std::string(text);
  return str("\x1b[", code, "m", text, "\x1b[0m");
}

void Screen::title(std::string_view kind, std::string_view name) {
  text_ += str(styled(kind, kBold), "  ", name, "\n");
}

void Screen::line(std::string_view text) {
  text_ += "  ";
  wrapped(text, 2);
}

void Screen::section(std::string_view name) { text_ += str("\n", styled(name, kSection), "\n"); }

void Screen::row(std::string_view label, std::string_view value) {
  if (value.empty()) return;
  const std::size_t gap = kLabel > columns(label) ? kLabel - columns(label) : 1;
  text_ += str("  ", styled(label, kDim), std::string(gap, ' '));
  wrapped(value, 2 + kLabel);
}

void Screen::note(std::string_view text) {
  text_ += str("\n", styled("note", kNote), "  ");
  wrapped(text, 6);
}

void Screen::wrapped(std::string_view text, std::size_t indent) {
  const auto room = static_cast<std::size_t>(width_) - std::min<std::size_t>(indent, 30);
  std::size_t used = 0;
  while (!text.empty()) {
    const auto space = text.find(' ');
    const std::string_view word = text.substr(0, space);
    text = space == std::string_view::npos ? std::string_view() : text.substr(space + 1);
    if (wrap_ && used > 0 && used + 1 + columns(word) > room) {
      text_ += "\n" + std::string(indent, ' ');
      used = 0;
    }
    if (used > 0) text_ += ' ';
    text_ += word;
    used += columns(word) + (used > 0 ? 1 : 0);
  }
  text_ += '\n';
}

void Screen::table(const std::vector<std::string>& header,
                   const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < header.size(); ++c) {
    widths.push_back(columns(header[c]));
    for (const auto& row : rows) widths[c] = std::max(widths[c], columns(row[c]));
  }
  const auto put = [&](const std::vector<std::string>& cells, bool dim) {
    std::string out = " ";
    for (std::size_t c = 0; c < cells.size(); ++c) {
      const std::string pad(widths[c] - columns(cells[c]), ' ');
      const bool right = c > 0 && std::ranges::all_of(rows, [&](const auto& row) {
                           return row[c].empty() || looks_like_number(row[c]);
                         });
      out += " " + (right ? pad + cells[c] : cells[c] + pad) + " ";
    }
    while (!out.empty() && out.back() == ' ') out.pop_back();
    if (wrap_) out = head(out, static_cast<std::size_t>(width_));
    text_ += (dim ? styled(out, kDim) : out) + "\n";
  };
  put(header, true);
  for (const auto& row : rows) put(row, false);
}

std::string grouped(std::int64_t number) {
  std::string digits = std::to_string(number);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > (number < 0 ? 1 : 0);
       at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return digits;
}

std::string human_bytes(double bytes) {
  constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  for (; bytes >= 1024 && unit < 4; ++unit) bytes /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, kUnits[unit]);
  return text;
}

std::string human_count(double count) {
  constexpr const char* kUnits[] = {"", " thousand", " million", " billion", " trillion"};
  int unit = 0;
  for (; count >= 1000 && unit < 4; ++unit) count /= 1000;
  char text[48];
  std::snprintf(text, sizeof text, "%.*f%s",
                unit == 0 || count >= 100 ? 0
                : count >= 10             ? 1
                                          : 2,
                count, kUnits[unit]);
  return text;
}

std::string printable(std::string_view text, std::size_t limit) {
  std::string out;
  const std::string_view shown = head(text, limit);
  const std::string kept = mend_utf8(shown);
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const char c = kept[i];
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      char code[8];
      std::snprintf(code, sizeof code, "\\x%02x",
                    static_cast<unsigned>(static_cast<unsigned char>(c)));
      out += code;
    } else if (c == '\xC2' && i + 1 < kept.size() &&
               static_cast<unsigned char>(kept[i + 1]) < 0xA0) {
      out += "\uFFFD";  // U+0080 to U+009F are control characters too
      ++i;
    } else {
      out += c;
    }
  }
  if (shown.size() < text.size()) out += "…";
  return out;
}

}  // namespace drrik::cli
