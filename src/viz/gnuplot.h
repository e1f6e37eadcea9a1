#pragma once
// gnuplot as a child process.

#include <string>
#include <string_view>

namespace drrik::detail {

/// Runs a script that writes `output_name` into its working folder (a fresh temporary one) and
/// returns that file's bytes. No shell is involved, and no start-up file of the user is read.
/// Throws Error(io): gnuplot is not installed (naming the package), fails (with its message), or
/// takes longer than `timeout_seconds` and is ended.
std::string run_gnuplot(std::string_view script, const std::string& output_name,
                        double timeout_seconds = 120);

/// `text` as a gnuplot string that nothing in it can end or expand: single quotes, doubled inside.
/// Line ends, which such a string cannot hold, become spaces.
std::string gnuplot_string(std::string_view text);

}  // namespace drrik::detail
