#pragma once
// gnuplot as a child process, and what its fonts can draw.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace drrik::detail {

/// Runs a script that writes `output_name` into its working folder (a fresh temporary one) and
/// returns that file's bytes. No shell is involved, and no start-up file of the user is read.
/// Throws Error(io): gnuplot is not installed (naming the package), fails (with its message), or
/// takes longer than `timeout_seconds` and is ended.
std::string run_gnuplot(std::string_view script, const std::string& output_name,
                        double timeout_seconds = 120);

/// The ranges of characters that the fonts on this machine can draw, as gnuplot's PNG terminal sees
/// them; asked once with fontconfig's fc-list, which gnuplot's libraries bring along. Without it,
/// only what every DejaVu font has.
const std::vector<std::pair<std::int32_t, std::int32_t>>& drawable_characters();

/// Clean text without what no font can draw: in its place stands U+25A1. (Pango's own box for a
/// missing character comes out larger than the picture in gnuplot's PNG terminal.)
std::string drawable_text(std::string_view text);

/// The union of fc-list's lines "format|color|charset"; fonts that pango cannot use are left out.
std::vector<std::pair<std::int32_t, std::int32_t>> parse_font_list(std::string_view lines);

/// `text` as a gnuplot string that nothing in it can end or expand. Control characters become
/// spaces.
std::string gnuplot_string(std::string_view text);

}  // namespace drrik::detail
