#pragma once
// Foreign text made fit for a picture: cleaned, shortened around its token, wrapped by columns.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/viz/row_label.h"

namespace drrik::detail {

/// Valid UTF-8 on one line: line ends as U+21B5, tabs and other controls as a space, direction
/// controls and other invisible characters that could disturb what stands beside them left out,
/// broken sequences as U+FFFD. At most `max_bytes` of input are looked at.
std::string clean_text(std::string_view text, std::size_t max_bytes = 1U << 16U);

/// Whether any character is of a script that runs from right to left.
bool has_right_to_left(std::string_view text);
/// The text isolated where it has such characters, so that its first letter decides its direction,
/// as in a paragraph of its own, and not what it is put into.
std::string as_paragraph(std::string_view text);

/// Columns of clean text in a monospaced font: wide characters count two, combining ones none.
std::int64_t text_columns(std::string_view text);

/// The first or last characters of clean text that fit `columns`; no ellipsis is added.
std::string head_columns(std::string_view text, std::int64_t columns);
std::string tail_columns(std::string_view text, std::int64_t columns);

/// Clean text of at most `columns`, with an ellipsis where it was cut at the end.
std::string elide(std::string_view text, std::int64_t columns);

/// Cleans a label and cuts it to `columns` so that the token stays in sight: context is dropped
/// from the farther side first, then the token's end.
RowLabel fit_label(const RowLabel& label, std::int64_t columns);

/// One line of a wrapped label. The token's part, if any, is [mark_begin, mark_end) in columns.
struct LabelLine {
  std::string text;
  std::int64_t mark_begin = 0;
  std::int64_t mark_end = 0;
};

/// Wraps a fitted label at blanks (inside words that are too long where needed). When every
/// character is surely one column wide in the figures' font, the token is given by its columns;
/// otherwise it stands between « and », isolated where letters from right to left would take the
/// marks with them.
std::vector<LabelLine> wrap_label(const RowLabel& label, std::int64_t columns);

/// fit and wrap: at most `lines` lines of `columns`.
std::vector<LabelLine> layout_label(const RowLabel& label, std::int64_t columns,
                                    std::int64_t lines);

}  // namespace drrik::detail
