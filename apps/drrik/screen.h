#pragma once
// Text for people to read on a terminal: titled sections of labelled rows, and small tables.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace drrik::cli {

class Screen {
 public:
  /// For standard output: its width (80 where it is no terminal, and values are then not wrapped),
  /// colours on a terminal unless NO_COLOR is set or TERM is "dumb".
  Screen();
  Screen(int width, bool wrap, bool colour) : width_(width), wrap_(wrap), colour_(colour) {}

  /// What it is, in bold, and where.
  void title(std::string_view kind, std::string_view name);
  /// A line of its own under the title or a section.
  void line(std::string_view text);
  void section(std::string_view name);
  /// Wrapped at spaces under the label's column. An empty value is left out.
  void row(std::string_view label, std::string_view value);
  /// Columns as wide as their widest cell, the last ones cut where the terminal ends; numbers stand
  /// right.
  void table(const std::vector<std::string>& header,
             const std::vector<std::vector<std::string>>& rows);
  /// Something is wrong or missing, and what to do.
  void note(std::string_view text);
  const std::string& text() const { return text_; }

 private:
  std::string styled(std::string_view text, const char* code) const;
  void wrapped(std::string_view text, std::size_t indent);
  int width_;
  bool wrap_;
  bool colour_;
  std::string text_;
};

/// "1,234,567".
std::string grouped(std::int64_t number);
/// "1.3 GiB".
std::string human_bytes(double bytes);
/// "134 M", "1.24 B": parameters.
std::string human_count(double count);
/// Foreign text made safe for a terminal and short: control characters and broken UTF-8 become
/// visible, at most `limit` characters are kept.
std::string printable(std::string_view text, std::size_t limit = 200);

}  // namespace drrik::cli
