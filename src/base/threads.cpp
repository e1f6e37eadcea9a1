#include "drrik/base/threads.h"

#include <omp.h>
#include <sched.h>

#include "drrik/base/error.h"

namespace drrik {

int num_threads() { return omp_get_max_threads(); }

void set_num_threads(int n) {
  if (n < 1) throw_usage("threads: got ", n, ", wanted at least 1");
  omp_set_num_threads(n);
}

namespace detail {

int team_size(std::int64_t chunks) {
  if (omp_in_parallel() != 0) return 1;
  return static_cast<int>(std::min<std::int64_t>(chunks, omp_get_max_threads()));
}

void run_team(int threads, void (*body)(void*, int), void* arg) {
#pragma omp parallel num_threads(threads)
  {
    // The runtime may give fewer threads than asked for; every range still gets done.
    for (int t = omp_get_thread_num(); t < threads; t += omp_get_num_threads()) body(arg, t);
  }
}

}  // namespace detail
}  // namespace drrik
