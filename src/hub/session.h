#pragma once
// Requests to the Hub: the token only to its own origin, redirects by hand, waits and tries again,
// and what a refusal means.

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "drrik/hub/client.h"
#include "hub/http.h"

namespace drrik::hub {

/// "/api/models/org/name", "/datasets/org/name/resolve/refs%2Fpr%2F1/a%20b.txt".
std::string api_path(const Repo& repo);
std::string resolve_path(const Repo& repo, const std::string& path);

struct Answer {
  HttpResponse response;
  std::string url;  ///< Of the last request; a redirect to another host was not followed by a HEAD.
};

/// HubError(kNetwork), and how many more tries may help.
class NetworkError : public HubError {
 public:
  NetworkError(std::string message, const HttpFailure& failure)
      : HubError(HubFailure::kNetwork, std::move(message)),
        tries_(!failure.transient    ? 0
               : failure.unreachable ? 2
                                     : 1000) {}
  /// Failures in a row that are borne, where `retries` are wanted.
  int limit(int retries) const { return std::min(retries, tries_); }

 private:
  int tries_;
};

/// While it lives, waits and transfers of this thread end with Error(interrupted) once `flag` is
/// set: how a failure in one of several threads ends the others.
class StopScope {
 public:
  explicit StopScope(const std::atomic<bool>& flag);
  ~StopScope();
  StopScope(const StopScope&) = delete;
  StopScope& operator=(const StopScope&) = delete;

 private:
  const std::atomic<bool>* before_;
};

/// Thread-safe.
class Session {
 public:
  explicit Session(const HubOptions& options);

  const HubOptions& options() const { return options_; }
  bool has_token() const { return !options_.token.empty(); }

  struct Request {
    std::string url;
    bool head = false;
    std::vector<std::string> headers = {};
    double stall_timeout = 10;
  };

  /// One try, whatever the status. A HEAD follows redirects on the same origin only (a file's
  /// metadata stand on the redirect itself); a GET follows all. The body of a 2xx goes to `sink`
  /// where there is one. Throws NetworkError; HubError(kOffline) in offline mode.
  Answer send(const Request& request, const BodySink& sink = {});

  /// Tries again on network trouble and on 408, 429 and 5xx, up to `retries` times. The last
  /// answer, whatever its status; throws NetworkError when there is none.
  Answer send_with_retries(const Request& request, int retries);

  /// The body of a successful GET of the endpoint's `path`; throws HubError by status.
  Answer get(const std::string& path, const Repo& about, int retries);

  /// What a refusal means. `what`: "model 'x'" or "file 'y' of model 'x'".
  HubError refusal(const Answer& answer, const Repo& about, const std::string& path = "") const;

  /// Waits as the answer asks (Retry-After, RateLimit), or as the number of failures in a row
  /// says. Throws HubError(kRateLimited) when the server asks for too long, Error(interrupted).
  void wait(int failures, const HttpResponse* response);
  /// Whether a status is one that may go away.
  static bool may_pass(int status);

  /// The text without the token and without control characters, cut to a line's length.
  std::string clean(std::string text) const;

 private:
  HttpRequest prepare(const Request& request, const std::string& url) const;
  std::unique_ptr<HttpConnection> borrow();
  void give_back(std::unique_ptr<HttpConnection> connection);

  HubOptions options_;
  std::string origin_;
  std::string user_agent_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<HttpConnection>> idle_;
};

}  // namespace drrik::hub
