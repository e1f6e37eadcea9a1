#pragma once
// Ranks of an MPI run. Only programs that link drrik_mpi have this; the drrik command has not, so
// that it starts without MPI's libraries.

#include <string>

#include "drrik/base/communicator.h"

namespace drrik {

/// Starts MPI (once in a program) for all ranks of mpirun or srun; alone without either. Calls are
/// made from the thread that starts it. Ended by the destructor, which waits for the others.
class MpiSession {
 public:
  /// Throws Error(io).
  MpiSession();
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  Communicator& communicator();
  /// Ends all ranks with this exit code, wherever they wait.
  [[noreturn]] void abort(int code);

 private:
  class Ranks;
  Ranks* ranks_;
};

}  // namespace drrik
