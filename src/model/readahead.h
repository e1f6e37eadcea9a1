#pragma once
// Reads a checkpoint's pages before they are needed, on a thread of its own.

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "model/checkpoint.h"

namespace drrik::detail {

class Readahead {
 public:
  explicit Readahead(std::shared_ptr<const TensorSource> source) : source_(std::move(source)) {}
  ~Readahead();
  Readahead(const Readahead&) = delete;
  Readahead& operator=(const Readahead&) = delete;

  /// Has the tensors whose names begin with `start` read, after what was wanted before; returns at
  /// once. What waits already is not wanted twice. Thread-safe.
  void want(const std::string& start);
  /// Returns when what was wanted by this name, if it was, has been read.
  void await(const std::string& start);

 private:
  void run();
  std::shared_ptr<const TensorSource> source_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> wanted_;  // the first is being read
  bool stop_ = false;
  std::thread thread_;  // begun by the first want()
};

}  // namespace drrik::detail
