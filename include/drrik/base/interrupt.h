#pragma once
// Ctrl-C, SIGTERM and SIGHUP as a flag that long loops look at between batches.

namespace drrik {

/// Installs handlers that set the flag. A second signal, a second or more after the first, ends the
/// process at once; an earlier one is the same request come twice (timeout(1) signals its child and
/// then the process group). A SIGHUP that is ignored stays ignored (nohup). SIGXFSZ is ignored, so
/// that a file-size limit is an Error(io) of the write that met it. The command calls it; a library
/// user who does not is never interrupted.
void install_interrupt_handler();
bool interrupted();
/// For tests, and for a caller with its own way of cancelling.
void set_interrupted(bool value);
/// Throws Error(interrupted, "interrupted while " + what) when the flag is set.
void check_interrupt(const char* what);

}  // namespace drrik
