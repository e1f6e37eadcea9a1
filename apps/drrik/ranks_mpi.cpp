#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <thread>

#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "ranks.h"
#include "train/mpi_communicator.h"

namespace drrik::cli {
namespace {

std::unique_ptr<MpiSession> session;
int spoken = STDERR_FILENO;  // where errors go when standard error is silent

// How many processes srun started, as it says itself; 1 without it.
long started_by_slurm() {
  const char* tasks = std::getenv("SLURM_STEP_NUM_TASKS");
  return tasks != nullptr ? std::strtol(tasks, nullptr, 10) : 1;
}

extern "C" void on_user_signal(int) { set_interrupted(true); }  // writes lock-free atomics only

}  // namespace

void join_ranks() {
  session = std::make_unique<MpiSession>();
  // mpirun hands SIGUSR1 on to all ranks; of SIGTERM it leaves them but a second to end in.
  std::signal(SIGUSR1, on_user_signal);
  if (ranks().size() == 1 && started_by_slurm() > 1) {
    throw_usage("srun started ", started_by_slurm(),
                " tasks, each of which is alone for MPI; 'srun --mpi=list' names what makes them "
                "one run, for example --mpi=pmix, or start mpirun inside the allocation");
  }
  if (ranks().rank() == 0) return;
  spoken = dup(STDERR_FILENO);
  const int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (spoken < 0 || nothing < 0 || dup2(nothing, STDOUT_FILENO) < 0 ||
      dup2(nothing, STDERR_FILENO) < 0) {
    throw_io("rank ", ranks().rank(), " cannot be silenced: /dev/null does not open");
  }
  close(nothing);
}

Communicator& ranks() { return session ? session->communicator() : local_communicator(); }

void report_error(const std::string& message) {
  if (ranks().rank() == 0) {
    std::fprintf(stderr, "drrik: %s\n", message.c_str());
    return;
  }
  // The first one's end comes as SIGTERM, which is to be no request to stop between batches now.
  std::signal(SIGTERM, SIG_DFL);
  std::this_thread::sleep_for(std::chrono::seconds(1));
  dprintf(spoken, "drrik: rank %d: %s\n", ranks().rank(), message.c_str());
}

int leave_ranks(int code) {
  std::cout.flush();
  std::fflush(nullptr);
  if (code != 0 && session && ranks().size() > 1) session->abort(code);
  session.reset();
  return code;
}

}  // namespace drrik::cli
