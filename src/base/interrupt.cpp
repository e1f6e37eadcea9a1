#include "drrik/base/interrupt.h"

#include <atomic>
#include <csignal>
#include <cstdint>
#include <ctime>

#include "drrik/base/error.h"

namespace drrik {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

std::atomic<bool> g_interrupted{false};
std::atomic<std::int64_t> g_first_signal{0};  // nanoseconds; 0: none yet
static_assert(std::atomic<bool>::is_always_lock_free);
static_assert(std::atomic<std::int64_t>::is_always_lock_free);

// clock_gettime is async-signal-safe (signal-safety(7)); std::chrono does not promise it.
std::int64_t now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<std::int64_t>(time.tv_sec) * kSecond + time.tv_nsec + 1;  // never 0
}

extern "C" void on_signal(int signal) {
  g_interrupted = true;
  std::int64_t first = 0;
  const std::int64_t time = now();
  if (g_first_signal.compare_exchange_strong(first, time)) return;
  if (time - first < kSecond) return;
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

void install_interrupt_handler() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  struct sigaction before = {};
  sigaction(SIGHUP, nullptr, &before);
  if (before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
  std::signal(SIGXFSZ, SIG_IGN);
}

bool interrupted() { return g_interrupted.load(std::memory_order_relaxed); }
void set_interrupted(bool value) {
  g_interrupted = value;
  if (!value) g_first_signal = 0;
}

void check_interrupt(const char* what) {
  if (interrupted()) throw Error(ErrorKind::kInterrupted, str("interrupted while ", what));
}

}  // namespace drrik
