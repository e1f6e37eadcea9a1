#pragma once
// One HTTP exchange over libcurl: no redirects, no tries again, no credentials of its own.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace drrik::hub {

struct HttpRequest {
  std::string url;
  bool head = false;                 ///< HEAD rather than GET.
  std::vector<std::string> headers;  ///< "Name: value".
  double connect_timeout = 10;       ///< Seconds.
  double stall_timeout = 10;         ///< Seconds without a byte.
};

struct HttpResponse {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;  ///< Names in lower case.
  std::string body;                                          ///< Empty where a sink took it.

  /// The first header of this name (in lower case).
  std::optional<std::string> find(std::string_view name) const;
  bool redirects() const {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
  }
};

/// Takes the body as it comes; `head` has status and headers. False ends the exchange there, which
/// is no error. May throw.
using BodySink = std::function<bool(const HttpResponse& head, std::span<const char> bytes)>;

/// The exchange failed before an answer was complete.
struct HttpFailure {
  std::string what;  ///< libcurl's words; holds no header that we sent.
  bool transient;    ///< Worth another try.
  bool unreachable;  ///< No connection came about: worth few.
};

/// A connection that is kept open between exchanges. Not thread-safe.
class HttpConnection {
 public:
  HttpConnection();
  ~HttpConnection();
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  /// Without a sink the body is collected, up to `kMaxBody` bytes. `stop` is asked many times a
  /// second; true, or Ctrl-C, throws Error(interrupted). Throws what the sink throws.
  /// Answers a failure where no (whole) answer came.
  std::optional<HttpFailure> perform(const HttpRequest& request, HttpResponse& response,
                                     const BodySink& sink, const std::function<bool()>& stop);

  static constexpr std::size_t kMaxBody = std::size_t{256} << 20;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace drrik::hub
