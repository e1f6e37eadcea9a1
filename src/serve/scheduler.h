#pragma once
// The one thread that computes, and who gets it when.
//
// A model's pass uses every core, so passes run one after another; texts are written side by side
// by taking a token of each in turn. Clients take turns, and so do the texts of one client: whoever
// asks for much waits for himself.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace drrik {

class Job {
 public:
  virtual ~Job() = default;
  /// One bounded piece of work; false when there is no more. Must not throw.
  virtual bool step() = 0;
  /// It will not be stepped (again): the server stops.
  virtual void drop() = 0;

  /// From any thread: nobody wants the result.
  void cancel() { cancelled_ = true; }
  bool cancelled() const { return cancelled_; }

 private:
  std::atomic<bool> cancelled_{false};
};

struct SchedulerLimits {
  int max_active = 8;             ///< Jobs under way.
  int max_active_of_client = 2;   ///< So that others get in.
  int max_queued = 64;            ///< Jobs that wait.
  int max_queued_of_client = 32;  ///< Likewise.
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits);
  ~Scheduler();

  /// False when too many wait already (of this client, or of all).
  bool submit(std::shared_ptr<Job> job, const std::string& client);
  /// Drops everything and waits for the thread. submit() answers false from then on.
  void stop();
  /// Jobs that wait and jobs under way.
  int waiting() const;
  int active() const;

 private:
  struct Client {
    std::string name;
    std::deque<std::shared_ptr<Job>> queue;
    std::deque<std::shared_ptr<Job>> active;
  };
  void work();
  void admit();
  void forget_cancelled();

  SchedulerLimits limits_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Client> clients_;  // the front one is next; one without jobs is not here
  int queued_ = 0;
  int active_ = 0;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace drrik
