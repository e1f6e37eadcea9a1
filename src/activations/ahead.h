#pragma once
// Ahead: results made on a thread of their own, a few of them before they are asked for.

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "drrik/base/threads.h"

namespace drrik::detail {

/// next() gives what `make` gave, in its order, until it gives nothing or throws; its exception
/// comes out of next() after the results before it, each time anew. The results are those of calls
/// without a thread. next() is for one thread at a time.
template <typename T>
class Ahead {
 public:
  using Make = std::function<std::optional<T>()>;

  /// Up to `depth` results wait while the next one is made; `threads` is the making thread's
  /// num_threads(), which a new thread would not take over from this one.
  Ahead(Make make, std::size_t depth, int threads)
      : make_(std::move(make)), depth_(depth), thread_([this, threads] { run(threads); }) {}

  /// Waits for the result that is being made.
  ~Ahead() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Ahead(const Ahead&) = delete;
  Ahead& operator=(const Ahead&) = delete;

  std::optional<T> next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !ready_.empty() || ended_; });
    if (ready_.empty()) {
      if (error_) std::rethrow_exception(error_);
      return std::nullopt;
    }
    std::optional<T> out(std::move(ready_.front()));
    ready_.pop_front();
    lock.unlock();
    changed_.notify_all();
    return out;
  }

 private:
  void run(int threads) {
    try {
      set_num_threads(threads);
      for (;;) {
        {
          std::unique_lock lock(mutex_);
          changed_.wait(lock, [this] { return ready_.size() < depth_ || stopping_; });
          if (stopping_) break;
        }
        std::optional<T> made = make_();
        const std::lock_guard lock(mutex_);
        if (!made) break;
        ready_.push_back(std::move(*made));
        changed_.notify_all();
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      error_ = std::current_exception();
    }
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
  }

  Make make_;
  std::size_t depth_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<T> ready_;
  std::exception_ptr error_;
  bool ended_ = false;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace drrik::detail
