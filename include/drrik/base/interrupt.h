#pragma once
// Ctrl-C and SIGTERM as a flag that long loops look at between batches.

namespace drrik {

/// Installs handlers that set the flag; a second signal ends the process at once. The command
/// calls it; a library user who does not is never interrupted.
void install_interrupt_handler();
bool interrupted();
/// For tests, and for a caller with its own way of cancelling.
void set_interrupted(bool value);
/// Throws Error(interrupted, "interrupted while " + what) when the flag is set.
void check_interrupt(const char* what);

}  // namespace drrik
