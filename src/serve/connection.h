#pragma once
// One client's socket, with limits on how long and how much it may take.
//
// httplib's own stream waits anew for every byte, so that a client who sends one now and then holds
// a thread for ever, and reads as many header lines as there come. Here a request's head and body
// each have a deadline and a number of bytes.

#include <httplib.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

namespace drrik {

using Clock = std::chrono::steady_clock;

struct ConnectionLimits {
  double header_seconds = 10.0;
  double body_seconds = 30.0;
  double idle_seconds = 5.0;
  double write_seconds = 10.0;
  std::size_t header_bytes = std::size_t{64} << 10;
};

class Connection final : public httplib::Stream {
 public:
  /// Does not own `socket`. Waits end early when `stopping` is set.
  Connection(socket_t socket, const ConnectionLimits& limits, const std::atomic<bool>& stopping);
  ~Connection() override = default;

  /// The connection that this thread serves; nullptr outside of a request.
  static Connection* current();

  /// Waits for the first byte of a request and starts the clock of its head. False: it is over.
  bool wait_for_request(bool first);
  /// The head is read: a body of so many bytes may follow.
  void expect_body(std::size_t bytes);
  /// Nothing more is read after this answer (a body that nobody reads may be under way).
  void close_after_answer() { close_ = true; }
  bool must_close() const { return close_; }
  /// Whether the client has closed its side, or the server stops.
  bool gone() const;

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* to, std::size_t size) override;
  ssize_t write(const char* from, std::size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

 private:
  bool fill();
  bool wait(short events, Clock::time_point deadline) const;

  socket_t socket_;
  const ConnectionLimits* limits_;
  const std::atomic<bool>* stopping_;
  std::array<char, 4096> buffer_{};
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t budget_ = 0;  // bytes that the request may still take
  Clock::time_point deadline_;
  bool close_ = false;
};

}  // namespace drrik
