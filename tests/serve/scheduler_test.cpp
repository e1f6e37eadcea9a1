#include "serve/scheduler.h"

#include <algorithm>
#include <chrono>
#include <future>

#include <gtest/gtest.h>

namespace drrik {
namespace {

/// Counts its steps into a common record.
class Counted final : public Job {
 public:
  Counted(std::string name, int steps, std::vector<std::string>& order)
      : name_(std::move(name)), left_(steps), order_(&order) {}
  bool step() override {
    order_->push_back(name_);
    return --left_ > 0;
  }
  void drop() override { dropped = true; }
  bool dropped = false;

 private:
  std::string name_;
  int left_;
  std::vector<std::string>* order_;
};

/// Holds the scheduler's thread until it is let go.
class Gate final : public Job {
 public:
  bool step() override {
    entered_.set_value();
    open_.get_future().wait();
    return false;
  }
  void drop() override {}
  void wait_until_entered() { entered_.get_future().wait(); }
  void open() { open_.set_value(); }

 private:
  std::promise<void> entered_;
  std::promise<void> open_;
};

void wait_until_idle(const Scheduler& scheduler) {
  for (int i = 0; i < 5000 && scheduler.waiting() + scheduler.active() > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

TEST(Scheduler, ClientsTakeTurnsWhateverTheyAskFor) {
  Scheduler scheduler({.max_active = 8, .max_active_of_client = 2, .max_queued = 64});
  auto gate = std::make_shared<Gate>();
  ASSERT_TRUE(scheduler.submit(gate, "gate"));
  gate->wait_until_entered();
  std::vector<std::string> order;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(scheduler.submit(std::make_shared<Counted>("greedy", 3, order), "greedy"));
  }
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(scheduler.submit(std::make_shared<Counted>("b", 3, order), "b"));
  }
  ASSERT_TRUE(scheduler.submit(std::make_shared<Counted>("c", 3, order), "c"));
  gate->open();
  wait_until_idle(scheduler);
  ASSERT_EQ(order.size(), 69U);
  // Nine steps of three clients: each has three, in turn.
  const std::vector<std::string> start(order.begin(), order.begin() + 9);
  EXPECT_EQ(start,
            (std::vector<std::string>{"greedy", "b", "c", "greedy", "b", "c", "greedy", "b", "c"}));
  // b's second one is not behind greedy's twenty.
  EXPECT_EQ(std::count(order.begin(), order.begin() + 16, "b"), 6);
}

TEST(Scheduler, BoundsWhatWaitsForAllAndForEach) {
  Scheduler scheduler(
      {.max_active = 1, .max_active_of_client = 1, .max_queued = 6, .max_queued_of_client = 4});
  auto gate = std::make_shared<Gate>();
  ASSERT_TRUE(scheduler.submit(gate, "gate"));
  gate->wait_until_entered();
  std::vector<std::string> order;
  const auto submit = [&](const char* client) {
    return scheduler.submit(std::make_shared<Counted>(client, 1, order), client);
  };
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(submit("a"));
  EXPECT_FALSE(submit("a"));
  EXPECT_TRUE(submit("b"));
  EXPECT_TRUE(submit("b"));
  EXPECT_FALSE(submit("c"));
  EXPECT_EQ(scheduler.waiting(), 6);
  gate->open();
  wait_until_idle(scheduler);
  EXPECT_EQ(order, (std::vector<std::string>{"a", "b", "a", "b", "a", "a"}));
  EXPECT_TRUE(submit("c"));
  wait_until_idle(scheduler);
}

TEST(Scheduler, WhatIsCancelledGivesUpItsPlaceAtOnce) {
  Scheduler scheduler({.max_active = 1, .max_active_of_client = 1, .max_queued = 1});
  auto gate = std::make_shared<Gate>();
  ASSERT_TRUE(scheduler.submit(gate, "gate"));
  gate->wait_until_entered();
  std::vector<std::string> order;
  auto first = std::make_shared<Counted>("first", 1, order);
  EXPECT_TRUE(scheduler.submit(first, "a"));
  EXPECT_FALSE(scheduler.submit(std::make_shared<Counted>("no", 1, order), "b"));
  first->cancel();
  EXPECT_TRUE(scheduler.submit(std::make_shared<Counted>("second", 1, order), "b"));
  gate->open();
  wait_until_idle(scheduler);
  EXPECT_EQ(order, std::vector<std::string>{"second"});
  // One that is under way, and would go on for ever.
  auto endless = std::make_shared<Counted>("endless", 1 << 30, order);
  ASSERT_TRUE(scheduler.submit(endless, "a"));
  endless->cancel();
  wait_until_idle(scheduler);
  EXPECT_EQ(scheduler.active(), 0);
}

TEST(Scheduler, DropsWhatIsLeftWhenItStops) {
  std::vector<std::string> order;
  auto endless = std::make_shared<Counted>("endless", 1 << 30, order);
  auto waiting = std::make_shared<Counted>("waiting", 1, order);
  Scheduler scheduler({.max_active = 1, .max_active_of_client = 1});
  ASSERT_TRUE(scheduler.submit(endless, "a"));
  ASSERT_TRUE(scheduler.submit(waiting, "a"));
  scheduler.stop();
  EXPECT_TRUE(endless->dropped);
  EXPECT_TRUE(waiting->dropped);
  EXPECT_FALSE(scheduler.submit(waiting, "a"));
}

}  // namespace
}  // namespace drrik
