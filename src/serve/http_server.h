#pragma once
// httplib's server with our connections: so many at most, each with its limits.

#include <httplib.h>

#include <atomic>

#include "serve/connection.h"

namespace drrik {

class HttpServer final : public httplib::Server {
 public:
  HttpServer(const ConnectionLimits& limits, int max_connections);
  /// Has the kernel keep connections that were not accepted yet, more than httplib's five. After
  /// the port is bound.
  void widen_backlog();
  /// Ends every wait of every connection; httplib's stop() ends the listening.
  void stop_connections() { stopping_ = true; }
  const std::atomic<bool>& stopping() const { return stopping_; }

 private:
  bool process_and_close_socket(socket_t socket) override;

  ConnectionLimits limits_;
  std::atomic<bool> stopping_{false};
};

}  // namespace drrik
