#pragma once
// The processes of a run of drrik-mpi. drrik has one: ranks_local.cpp, where drrik-mpi has
// ranks_mpi.cpp.

#include <string>

#include "drrik/base/communicator.h"

namespace drrik::cli {

/// Meets the other ranks; called once, before anything is said. Ranks but the first are silent from
/// then on, on both standard output and standard error, but for report_error(). Throws Error(io),
/// and Error(usage) where a launcher started several processes that do not see one another.
void join_ranks();
Communicator& ranks();
/// One line on standard error. Ranks but the first name themselves, and wait a second before they
/// speak: what went wrong on all of them is said once, by the first, which then ends them.
void report_error(const std::string& message);
/// Leaves with this exit code: waits for the other ranks after success, ends them after failure.
int leave_ranks(int code);

}  // namespace drrik::cli
