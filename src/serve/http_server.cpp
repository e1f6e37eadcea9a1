#include "serve/http_server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

namespace drrik {
namespace {

// Set while the accepting thread itself runs a connection's task: it is one too many.
thread_local bool t_refuse = false;

/// A thread for each connection, up to a number; threads are kept for the next ones.
class ConnectionThreads final : public httplib::TaskQueue {
 public:
  explicit ConnectionThreads(int most) : most_(most) {}

  void enqueue(std::function<void()> task) override {
    {
      const std::lock_guard lock(mutex_);
      if (busy_ < most_) {
        ++busy_;
        tasks_.push_back(std::move(task));
        if (static_cast<int>(threads_.size()) < busy_) threads_.emplace_back([this] { work(); });
        changed_.notify_one();
        return;
      }
    }
    // httplib leaves the socket to the task, so it has to run to be closed.
    t_refuse = true;
    task();
    t_refuse = false;
  }

  void shutdown() override {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return over_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      task = nullptr;
      lock.lock();
      --busy_;
    }
  }

  int most_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::vector<std::thread> threads_;
  int busy_ = 0;  // connections that are served or wait for their thread
  bool over_ = false;
};

constexpr std::string_view kTooMany =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    "Connection: close\r\nContent-Length: 88\r\n\r\n"
    "{\"error\": {\"message\": \"too many connections; try again\", \"type\": "
    "\"server_overloaded\"}}\n\n";

void close_socket(socket_t socket) {
  ::shutdown(socket, SHUT_RDWR);
  ::close(socket);
}

}  // namespace

HttpServer::HttpServer(const ConnectionLimits& limits, int max_connections) : limits_(limits) {
  new_task_queue = [max_connections] { return new ConnectionThreads(max_connections); };
  // Not httplib's SO_REUSEPORT, with which a second server takes half of the first one's clients.
  set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
}

void HttpServer::widen_backlog() { (void)::listen(svr_sock_, SOMAXCONN); }

bool HttpServer::process_and_close_socket(socket_t socket) {
  if (t_refuse || stopping_) {
    (void)send(socket, kTooMany.data(), kTooMany.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    close_socket(socket);
    return false;
  }
  constexpr int kRequests = 10000;  // of one connection
  Connection connection(socket, limits_, stopping_);
  for (int i = 0; i < kRequests && connection.wait_for_request(i == 0); ++i) {
    bool closed = false;
    const bool last = i + 1 == kRequests || stopping_;
    if (!process_request(connection, last, closed, nullptr) || closed) break;
    if (connection.must_close()) break;
  }
  close_socket(socket);
  return true;
}

}  // namespace drrik
