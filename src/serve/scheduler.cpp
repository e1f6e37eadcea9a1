#include "serve/scheduler.h"

#include <algorithm>
#include <utility>

namespace drrik {

Scheduler::Scheduler(const SchedulerLimits& limits)
    : limits_(limits), thread_([this] { work(); }) {}

Scheduler::~Scheduler() { stop(); }

bool Scheduler::submit(std::shared_ptr<Job> job, const std::string& client) {
  const std::lock_guard lock(mutex_);
  if (over_) return false;
  forget_cancelled();
  if (queued_ >= limits_.max_queued) return false;
  auto found = std::find_if(clients_.begin(), clients_.end(),
                            [&](const Client& one) { return one.name == client; });
  if (found == clients_.end()) {
    clients_.push_back({client, {}, {}});
    found = std::prev(clients_.end());
  }
  if (static_cast<int>(found->queue.size()) >= limits_.max_queued_of_client) return false;
  found->queue.push_back(std::move(job));
  ++queued_;
  changed_.notify_all();
  return true;
}

// Those that wait; the ones under way are seen by the thread.
void Scheduler::forget_cancelled() {
  for (auto client = clients_.begin(); client != clients_.end();) {
    const auto removed =
        std::erase_if(client->queue, [](const auto& job) { return job->cancelled(); });
    queued_ -= static_cast<int>(removed);
    const bool empty = client->queue.empty() && client->active.empty();
    client = empty ? clients_.erase(client) : std::next(client);
  }
}

// Fills the free places, one for each client in turn.
void Scheduler::admit() {
  for (bool any = true; any && active_ < limits_.max_active;) {
    any = false;
    for (Client& client : clients_) {
      if (active_ >= limits_.max_active) return;
      if (client.queue.empty()) continue;
      if (static_cast<int>(client.active.size()) >= limits_.max_active_of_client) continue;
      client.active.push_back(std::move(client.queue.front()));
      client.queue.pop_front();
      --queued_;
      ++active_;
      any = true;
    }
  }
}

void Scheduler::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return over_ || queued_ > 0 || active_ > 0; });
    if (over_) break;
    forget_cancelled();
    admit();
    const auto next = std::find_if(clients_.begin(), clients_.end(),
                                   [](const Client& one) { return !one.active.empty(); });
    if (next == clients_.end()) continue;
    std::shared_ptr<Job> job = std::move(next->active.front());
    next->active.pop_front();
    const std::string name = next->name;
    clients_.splice(clients_.end(), clients_, next);  // its turn is over
    lock.unlock();
    const bool more = !job->cancelled() && job->step();
    if (!more) job.reset();  // its memory, before anybody else's is taken
    lock.lock();
    // The client cannot have gone meanwhile but by forget_cancelled(), without a job left.
    auto client = std::find_if(clients_.begin(), clients_.end(),
                               [&](const Client& one) { return one.name == name; });
    if (more && client == clients_.end()) {
      clients_.push_back({name, {}, {}});
      client = std::prev(clients_.end());
    }
    if (more) {
      client->active.push_back(std::move(job));
    } else {
      --active_;
      if (client != clients_.end() && client->queue.empty() && client->active.empty()) {
        clients_.erase(client);
      }
    }
  }
  for (Client& client : clients_) {
    for (const auto& job : client.active) job->drop();
    for (const auto& job : client.queue) job->drop();
  }
  clients_.clear();
  queued_ = 0;
  active_ = 0;
}

void Scheduler::stop() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

int Scheduler::waiting() const {
  const std::lock_guard lock(mutex_);
  return queued_;
}

int Scheduler::active() const {
  const std::lock_guard lock(mutex_);
  return active_;
}

}  // namespace drrik
