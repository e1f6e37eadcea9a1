#pragma once
// The one thread pool is OpenMP's (oneDNN uses it too).

#include <algorithm>
#include <cstdint>
#include <exception>
#include <mutex>

namespace drrik {

/// Number of threads parallel_for and oneDNN use. Default: the cores this process may run on.
int num_threads();
/// n >= 1; throws Error(usage) otherwise.
void set_num_threads(int n);

namespace detail {
int team_size(std::int64_t chunks);
void run_team(int threads, void (*body)(void*, int), void* arg);
}  // namespace detail

/// Calls f(begin, end) over [0, n) cut into at most num_threads() contiguous ranges of at least
/// `grain` items, in parallel. The cut depends on num_threads(): a reduction over it must not
/// depend on the cut (reduce over fixed blocks instead). The first exception is rethrown.
template <typename F>
void parallel_for(std::int64_t n, std::int64_t grain, F&& f) {
  if (n <= 0) return;
  const std::int64_t chunks =
      (n + std::max<std::int64_t>(grain, 1) - 1) / std::max<std::int64_t>(grain, 1);
  const int threads = detail::team_size(chunks);
  if (threads <= 1) {
    f(std::int64_t{0}, n);
    return;
  }
  struct State {
    F* f;
    std::int64_t n;
    int threads;
    std::exception_ptr error;
    std::mutex mutex;
  } state{&f, n, threads, nullptr, {}};
  detail::run_team(
      threads,
      [](void* arg, int t) {
        auto& s = *static_cast<State*>(arg);
        const std::int64_t begin = s.n * t / s.threads;
        const std::int64_t end = s.n * (t + 1) / s.threads;
        if (begin >= end) return;
        try {
          (*s.f)(begin, end);
        } catch (...) {
          const std::lock_guard lock(s.mutex);
          if (!s.error) s.error = std::current_exception();
        }
      },
      &state);
  if (state.error) std::rethrow_exception(state.error);
}

}  // namespace drrik
