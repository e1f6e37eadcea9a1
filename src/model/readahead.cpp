#include "model/readahead.h"

#include <algorithm>
#include <exception>

namespace drrik::detail {

Readahead::~Readahead() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Readahead::want(const std::string& start) {
  {
    const std::lock_guard lock(mutex_);
    if (std::ranges::find(wanted_, start) != wanted_.end()) return;
    wanted_.push_back(start);
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  }
  changed_.notify_all();
}

void Readahead::await(const std::string& start) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return std::ranges::find(wanted_, start) == wanted_.end(); });
}

void Readahead::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || !wanted_.empty(); });
    if (stop_) return;
    const std::string start = wanted_.front();
    lock.unlock();
    try {
      source_->prefetch(start);
    } catch (const std::exception&) {
      // A hint that could not be given; whoever needs the tensor will say what is wrong with it.
    }
    lock.lock();
    wanted_.pop_front();
    changed_.notify_all();
  }
}

}  // namespace drrik::detail
