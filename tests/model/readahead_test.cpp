#include "model/readahead.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

namespace drrik::detail {
namespace {

class Source final : public TensorSource {
 public:
  Tensor get(const std::string& /*name*/, std::span<const std::int64_t> /*shape*/) const override {
    return {};
  }
  void prefetch(const std::string& start) const override {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return open_; });
      read_.push_back(start);
    }
    if (start == "broken") throw std::runtime_error("cannot read it");
  }
  void open() const {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  std::vector<std::string> read() const {
    const std::lock_guard lock(mutex_);
    return read_;
  }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  mutable bool open_ = false;
  mutable std::vector<std::string> read_;
};

TEST(Readahead, ReadsInOrderAndOnceWhatWaits) {
  const auto source = std::make_shared<const Source>();
  Readahead readahead(source);
  for (const char* name : {"a", "b", "a", "b", "c"}) readahead.want(name);
  source->open();
  readahead.await("c");
  EXPECT_EQ(source->read(), (std::vector<std::string>{"a", "b", "c"}));
  readahead.await("never wanted");
  readahead.want("a");
  readahead.await("a");
  EXPECT_EQ(source->read().size(), 4U);
}

TEST(Readahead, WhatCannotBeReadStopsNothing) {
  const auto source = std::make_shared<const Source>();
  Readahead readahead(source);
  source->open();
  readahead.want("broken");
  readahead.want("b");
  readahead.await("b");
  EXPECT_EQ(source->read().back(), "b");
}

TEST(Readahead, MayEndWithSomethingLeftToRead) {
  const auto source = std::make_shared<const Source>();
  { Readahead unused(source); }
  {
    Readahead readahead(source);
    for (int i = 0; i < 1000; ++i) readahead.want(std::to_string(i));
    source->open();
  }
  EXPECT_LE(source->read().size(), 1000U);
}

}  // namespace
}  // namespace drrik::detail
