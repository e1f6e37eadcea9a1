#include "model/readahead.h"

#include <algorithm>
#include <exception>

namespace drrik::detail {

Readahead::~Readahead() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Readahead::want(const std::string& start) {
  {
    const std::lock_guard lock(mutex_);
    if (std::ranges::find(wanted_, start) != wanted_.end()) return;
    wanted_.push_back(start);
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  }
  changed_.notify_one();
}

void Readahead::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || !wanted_.empty(); });
    if (stop_) return;
    const std::string start = std::move(wanted_.front());
    wanted_.pop_front();
    lock.unlock();
    try {
      source_->prefetch(start);
    } catch (const std::exception&) {
      // A hint that could not be given; whoever needs the tensor will say what is wrong with it.
    }
    lock.lock();
  }
}

}  // namespace drrik::detail
