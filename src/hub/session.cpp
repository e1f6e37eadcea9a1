#include "hub/session.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <thread>
#include <utility>

#include "drrik/base/interrupt.h"
#include "drrik/base/log.h"
#include "drrik/base/system.h"
#include "hub/url.h"

namespace drrik::hub {
namespace {

constexpr int kMaxRedirects = 20;
constexpr std::size_t kMaxShown = 300;
constexpr auto kSlice = std::chrono::milliseconds(20);
constexpr double kMinAnswerTimeout = 1;

thread_local const std::atomic<bool>* t_stop = nullptr;

bool stop_asked() { return t_stop != nullptr && t_stop->load(); }

std::string plural(RepoType type) { return str(repo_type_name(type), "s"); }

void replace_all(std::string& text, const std::string& from) {
  if (from.empty()) return;
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at)) {
    text.replace(at, from.size(), "***");
  }
}

std::optional<double> number_at(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end == text.data() || value < 0) return std::nullopt;
  return value;
}

// `"api";r=0;t=55`: nothing remains, and the count starts anew in 55 seconds.
std::optional<double> rate_limit_reset(const HttpResponse& response) {
  const std::string text = response.find("ratelimit").value_or("");
  const std::size_t r = text.find(";r=");
  const std::size_t t = text.find(";t=");
  if (r == std::string::npos || t == std::string::npos) return std::nullopt;
  if (number_at(std::string_view(text).substr(r + 3)) != 0.0) return std::nullopt;
  return number_at(std::string_view(text).substr(t + 3));
}

std::optional<double> asked_wait(const HttpResponse& response) {
  if (response.status == 429) {
    if (const auto reset = rate_limit_reset(response)) return *reset + 1;
  }
  const auto after = response.find("retry-after");
  if (!after) return std::nullopt;
  const auto seconds = number_at(*after);  // the form with a date is left to our own waits
  return seconds ? std::optional(*seconds) : std::nullopt;
}

}  // namespace

std::string api_path(const Repo& repo) {
  return "/api/" + plural(repo.type) + "/" + percent_encode(repo.id, "/");
}

std::string resolve_path(const Repo& repo, const std::string& path) {
  const std::string prefix = repo.type == RepoType::kModel ? "/" : "/" + plural(repo.type) + "/";
  return prefix + percent_encode(repo.id, "/") + "/resolve/" + percent_encode(repo.revision) + "/" +
         percent_encode(path, "/");
}

StopScope::StopScope(const std::atomic<bool>& flag) : before_(std::exchange(t_stop, &flag)) {}
StopScope::~StopScope() { t_stop = before_; }

Session::Session(const HubOptions& options)
    : options_(options), origin_(origin_of(options.endpoint)) {
  if (origin_.empty()) {
    throw_usage("Hub endpoint '", shown_url(options.endpoint), "' is no http or https URL");
  }
  user_agent_ = str("drrik/", version());
  if (options_.telemetry && !options_.user_agent_origin.empty()) {
    user_agent_ += "; origin/" + percent_encode(options_.user_agent_origin, " /");
  }
}

std::string Session::clean(std::string text) const {
  // Some services echo what they were sent.
  replace_all(text, options_.token.reveal());
  replace_all(text, percent_encode(options_.token.reveal()));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  if (text.size() > kMaxShown) text = text.substr(0, kMaxShown) + "...";
  return text;
}

std::unique_ptr<HttpConnection> Session::borrow() {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      auto connection = std::move(idle_.back());
      idle_.pop_back();
      return connection;
    }
  }
  return std::make_unique<HttpConnection>();
}

void Session::give_back(std::unique_ptr<HttpConnection> connection) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(connection));
}

HttpRequest Session::prepare(const Request& request, const std::string& url) const {
  HttpRequest out;
  out.url = url;
  out.head = request.head;
  out.headers = request.headers;
  out.headers.push_back("User-Agent: " + user_agent_);
  // Scheme, host and port, for each request anew: a redirect may lead anywhere.
  if (has_token() && origin_of(url) == origin_) {
    out.headers.push_back("Authorization: Bearer " + options_.token.reveal());
  }
  out.connect_timeout = options_.etag_timeout;
  out.stall_timeout = std::max(request.stall_timeout, kMinAnswerTimeout);
  return out;
}

Answer Session::send(const Request& request, const BodySink& sink) {
  if (options_.offline) {
    throw HubError(HubFailure::kOffline, "offline mode: no request is made");
  }
  const BodySink body = !sink ? BodySink() : [&](const HttpResponse& head, auto bytes) {
    return head.status >= 200 && head.status < 300 ? sink(head, bytes) : true;
  };
  Answer answer;
  answer.url = request.url;
  auto connection = borrow();
  for (int hops = 0;; ++hops) {
    const HttpRequest prepared = prepare(request, answer.url);
    log_debug(request.head ? "HEAD " : "GET ", shown_url(answer.url));
    const auto failure = connection->perform(prepared, answer.response, body, stop_asked);
    if (failure) {
      throw NetworkError(clean(str("cannot reach ", shown_url(answer.url), ": ", failure->what)),
                         *failure);
    }
    const auto location = answer.response.find("location");
    if (!answer.response.redirects() || !location) break;
    const std::string target = resolve_location(answer.url, *location);
    const std::string origin = origin_of(target);
    if (origin.empty()) {
      throw HubError(HubFailure::kServer,
                     clean(str(shown_url(answer.url), " redirects to what is no web address")));
    }
    if (request.head && origin != origin_of(answer.url)) break;
    if (answer.url.starts_with("https:") && !origin.starts_with("https:")) {
      throw HubError(HubFailure::kServer,
                     clean(str(shown_url(answer.url), " redirects from https to ",
                               shown_url(target), ", which is not followed")));
    }
    if (hops == kMaxRedirects) {
      throw HubError(HubFailure::kServer, clean(str(shown_url(request.url), " redirects more than ",
                                                    kMaxRedirects, " times")));
    }
    answer.url = target;
  }
  give_back(std::move(connection));
  return answer;
}

bool Session::may_pass(int status) {
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 ||
         status == 504;
}

void Session::wait(int failures, const HttpResponse* response) {
  double seconds = options_.first_wait;
  for (int i = 1; i < failures; ++i) seconds *= 2;
  seconds = std::min(seconds, options_.longest_wait);
  if (response != nullptr) {
    if (const auto asked = asked_wait(*response)) seconds = *asked;
    if (seconds > options_.longest_rate_limit_wait) {
      throw HubError(HubFailure::kRateLimited,
                     str("the Hub asks to wait ", seconds, " seconds before the next request"));
    }
    log_warning("the Hub answered ", response->status, "; next try in ", seconds, " seconds");
  }
  const double end = monotonic_seconds() + seconds;
  while (monotonic_seconds() < end) {
    check_interrupt("waiting for the Hub");
    if (stop_asked()) throw Error(ErrorKind::kInterrupted, "interrupted");
    std::this_thread::sleep_for(kSlice);
  }
}

Answer Session::send_with_retries(const Request& request, int retries) {
  for (int failures = 0;;) {
    try {
      Answer answer = send(request);
      if (!may_pass(answer.response.status) || failures == retries) return answer;
      wait(++failures, &answer.response);
    } catch (const NetworkError& error) {
      const int allowed = error.limit(retries);
      if (failures >= allowed) throw;
      ++failures;
      log_warning(error.what(), "; try ", failures, " of ", allowed);
      wait(failures, nullptr);
    }
  }
}

Answer Session::get(const std::string& path, const Repo& about, int retries) {
  const std::string url = path.find("://") == std::string::npos ? options_.endpoint + path : path;
  Answer answer =
      send_with_retries({.url = url, .stall_timeout = options_.download_timeout}, retries);
  if (answer.response.status < 200 || answer.response.status > 299) throw refusal(answer, about);
  return answer;
}

HubError Session::refusal(const Answer& answer, const Repo& about, const std::string& path) const {
  const HttpResponse& response = answer.response;
  const std::string code = response.find("x-error-code").value_or("");
  const std::string message = clean(response.find("x-error-message").value_or(""));
  std::string page = shown_url(options_.endpoint);
  if (!page.ends_with('/')) page += '/';
  page += (about.type == RepoType::kModel ? "" : plural(about.type) + "/") + about.id;
  const std::string login = has_token()
                                ? "; the token given may not see it"
                                : "; if it is private, give a token (HF_TOKEN, or hf auth login)";
  const auto error = [&](HubFailure failure, const auto&... parts) {
    return HubError(failure, clean(str(parts...)));
  };
  const std::string file = path.empty() ? "" : str("file '", path, "' of ");
  if (code == "RevisionNotFound") {
    return error(HubFailure::kRevisionNotFound, repo_type_name(about.type), " '", about.id,
                 "' has no branch, tag or commit '", about.revision, "'");
  }
  if (code == "EntryNotFound") {
    return error(HubFailure::kEntryNotFound, file, about.text(), " does not exist");
  }
  if (code == "GatedRepo") {
    return error(HubFailure::kGated, about.text(), " is gated: accept its terms at ", page,
                 has_token() ? " with the account of the token given"
                             : ", then give a token (HF_TOKEN, or hf auth login)");
  }
  if (message == "Access to this resource is disabled.") {
    return error(HubFailure::kUnauthorized, about.text(), ": access is disabled by the Hub");
  }
  const bool bad_token = message == "Invalid credentials in Authorization header";
  if (code == "RepoNotFound" || (response.status == 401 && !bad_token)) {
    return error(HubFailure::kRepoNotFound, about.text(), " is not on the Hub (", page, ")", login);
  }
  switch (response.status) {
    case 401:
      return error(HubFailure::kUnauthorized, "the Hub does not know the token given (asked for ",
                   about.text(), ")");
    case 403:
      return error(HubFailure::kUnauthorized, file, about.text(), ": the Hub refuses access",
                   message.empty() ? "" : ": " + message, login);
    case 404:
      if (path.empty()) {
        return error(HubFailure::kRepoNotFound, about.text(), " is not on the Hub (", page, ")",
                     login);
      }
      return error(HubFailure::kEntryNotFound, file, about.text(), " does not exist");
    case 429:
      return error(HubFailure::kRateLimited, "the Hub answers 'too many requests' for ",
                   about.text(), has_token() ? "" : "; with a token more are allowed");
    default:
      return error(HubFailure::kServer, "the Hub answered ", response.status, " for ", file,
                   about.text(), " (", shown_url(answer.url), ")",
                   message.empty() ? "" : ": " + message);
  }
}

}  // namespace drrik::hub
