#include "serve/connection.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace drrik {
namespace {

thread_local Connection* t_current = nullptr;

Clock::duration seconds(double s) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(s));
}

// How long a wait goes without a look at the server's flag.
constexpr std::chrono::milliseconds kSlice{200};

void name_of(socket_t socket, bool remote, std::string& ip, int& port) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  auto* as_sockaddr = reinterpret_cast<sockaddr*>(&address);
  const int failed =
      remote ? getpeername(socket, as_sockaddr, &size) : getsockname(socket, as_sockaddr, &size);
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> service{};
  if (failed != 0 || getnameinfo(as_sockaddr, size, host.data(), host.size(), service.data(),
                                 service.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return;
  }
  ip = host.data();
  port = std::atoi(service.data());
}

}  // namespace

Connection::Connection(socket_t socket, const ConnectionLimits& limits,
                       const std::atomic<bool>& stopping)
    : socket_(socket), limits_(&limits), stopping_(&stopping) {}

Connection* Connection::current() { return t_current; }

// What is read may be dropped when the server stops; what is written has a second more.
bool Connection::wait(short events, Clock::time_point deadline) const {
  for (bool stopping = false; true;) {
    if (!stopping && stopping_->load(std::memory_order_relaxed)) {
      if (events == POLLIN) return false;
      stopping = true;
      deadline = std::min(deadline, Clock::now() + seconds(1.0));
    }
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return false;
    pollfd one{socket_, events, 0};
    const int ready = poll(&one, 1, static_cast<int>(std::min(left, kSlice).count()));
    if (ready > 0) return (one.revents & (events | POLLHUP | POLLERR)) != 0;
    if (ready < 0 && errno != EINTR) return false;
  }
}

bool Connection::wait_for_request(bool first) {
  t_current = this;
  const double patience = first ? limits_->header_seconds : limits_->idle_seconds;
  if (begin_ == end_ && !wait(POLLIN, Clock::now() + seconds(patience))) {
    t_current = nullptr;
    return false;
  }
  budget_ = limits_->header_bytes;
  deadline_ = Clock::now() + seconds(limits_->header_seconds);
  return true;
}

void Connection::expect_body(std::size_t bytes) {
  budget_ = bytes;
  deadline_ = Clock::now() + seconds(limits_->body_seconds);
}

bool Connection::gone() const {
  if (stopping_->load(std::memory_order_relaxed)) return true;
  char byte = 0;
  const ssize_t got = recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

bool Connection::is_readable() const { return begin_ < end_ || wait(POLLIN, deadline_); }

bool Connection::is_writable() const {
  return !gone() && wait(POLLOUT, Clock::now() + seconds(limits_->write_seconds));
}

bool Connection::fill() {
  if (!wait(POLLIN, deadline_)) return false;
  const ssize_t got = recv(socket_, buffer_.data(), buffer_.size(), 0);
  if (got <= 0) return false;
  begin_ = 0;
  end_ = static_cast<std::size_t>(got);
  return true;
}

ssize_t Connection::read(char* to, std::size_t size) {
  if (budget_ == 0) return -1;
  if (begin_ == end_ && !fill()) return -1;
  const std::size_t n = std::min({size, end_ - begin_, budget_});
  std::memcpy(to, buffer_.data() + begin_, n);
  begin_ += n;
  budget_ -= n;
  return static_cast<ssize_t>(n);
}

// A large answer has the time that a slow line (16 KiB/s) needs.
ssize_t Connection::write(const char* from, std::size_t size) {
  const auto deadline =
      Clock::now() + seconds(limits_->write_seconds) + seconds(static_cast<double>(size) / 16384.0);
  std::size_t sent = 0;
  while (sent < size) {
    if (!wait(POLLOUT, deadline)) return -1;
    const ssize_t n = send(socket_, from + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      sent += static_cast<std::size_t>(n);
    } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
      return -1;
    }
  }
  return static_cast<ssize_t>(sent);
}

void Connection::get_remote_ip_and_port(std::string& ip, int& port) const {
  name_of(socket_, true, ip, port);
}

void Connection::get_local_ip_and_port(std::string& ip, int& port) const {
  name_of(socket_, false, ip, port);
}

}  // namespace drrik
