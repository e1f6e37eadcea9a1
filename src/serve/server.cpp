#include "drrik/serve/server.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/log.h"
#include "serve/access.h"
#include "serve/http_server.h"
#include "serve/site.h"

namespace drrik {
namespace {

using Verdict = httplib::Server::HandlerResponse;

ConnectionLimits connection_limits(const ServerOptions& options) {
  return {options.header_seconds, options.body_seconds, options.idle_seconds,
          options.write_seconds};
}

// Scripts and styles stand in the page itself; nothing comes from elsewhere, or goes there.
constexpr const char* kPagePolicy =
    "default-src 'none'; script-src 'self' 'unsafe-inline' blob:; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

bool has_body(const Request& request) {
  return request.method == "POST" || request.method == "PUT" || request.method == "PATCH" ||
         request.method == "DELETE";
}

bool is_json(const Request& request) {
  const std::string type = request.get_header_value("Content-Type");
  return type == "application/json" || type.starts_with("application/json;");
}

std::optional<std::int64_t> content_length(const Request& request) {
  if (request.get_header_value_count("Content-Length") != 1) return std::nullopt;
  const std::string text = request.get_header_value("Content-Length");
  if (text.empty() || text.size() > 18 ||
      text.find_first_not_of("0123456789") != std::string::npos) {
    return std::nullopt;
  }
  return std::stoll(text);
}

}  // namespace

void ServerOptions::validate() const {
  if (host.empty()) throw_usage("host is empty; 127.0.0.1 is this machine alone");
  if (port < 0 || port > 65535) throw_usage("port ", port, ", wanted 0 to 65535");
  if (!is_loopback(host) && token.empty()) {
    throw_usage("host ", host, " can be reached from other machines: that takes a token");
  }
  const auto positive = [](const char* name, double value) {
    if (!(value > 0.0)) throw_usage(name, " ", value, ", wanted above 0");
  };
  positive("max_prompt_tokens", static_cast<double>(max_prompt_tokens));
  positive("max_new_tokens", static_cast<double>(max_new_tokens));
  positive("max_body_bytes", static_cast<double>(max_body_bytes));
  positive("max_connections", max_connections);
  positive("max_queued", max_queued);
  positive("max_active", max_active);
  positive("header_seconds", header_seconds);
  positive("body_seconds", body_seconds);
  positive("idle_seconds", idle_seconds);
  positive("write_seconds", write_seconds);
}

struct Server::Impl {
  Impl(std::shared_ptr<const SaeSteering> steering, const ServerOptions& options)
      : site(std::move(steering), options),
        http(connection_limits(options), options.max_connections) {}

  // Everything that is decided before a request's body is read.
  Verdict guard(const Request& request, Response& response) const;
  Verdict guard_body(const Request& request, Response& response) const;
  // Whether a browser says that another site asks.
  static bool cross_site(const Request& request);
  void answer_page(const Request& request, Response& response) const;
  void add_routes();

  Site site;
  HttpServer http;
  std::unique_ptr<AccessRules> rules;
  int port = 0;
  std::thread listener;
  std::mutex mutex;
  bool stopped = false;
};

bool Server::Impl::cross_site(const Request& request) {
  const std::string site = request.get_header_value("Sec-Fetch-Site");
  if (site.empty() || site == "same-origin" || site == "none") return false;
  // Following a link to the page is no request of the other site's own.
  return !(request.path == "/" && request.method == "GET" &&
           request.get_header_value("Sec-Fetch-Mode") == "navigate" &&
           request.get_header_value("Sec-Fetch-Dest") == "document");
}

Verdict Server::Impl::guard(const Request& request, Response& response) const {
  const auto refuse = [&](int status, const char* message, const char* code = "") {
    answer_error(response, status, message, code);
    return Verdict::Handled;
  };
  if (request.get_header_value_count("Host") != 1 ||
      !rules->host_allowed(request.get_header_value("Host"))) {
    return refuse(403, "the Host header is not this server's", "host");
  }
  if (request.has_header("Origin") && !rules->origin_allowed(request.get_header_value("Origin"))) {
    return refuse(403, "requests from other sites are refused", "origin");
  }
  if (cross_site(request)) return refuse(403, "requests from other sites are refused", "origin");
  const bool begins = request.path == "/" && request.method == "GET" && request.has_param("token");
  if (!begins && !rules->authorized(request.get_header_value("Authorization"),
                                    request.get_header_value("Cookie"))) {
    response.set_header("WWW-Authenticate", "Bearer");
    return refuse(401, "a token is needed: Authorization: Bearer …, or /?token=… in a browser",
                  "invalid_api_key");
  }
  return guard_body(request, response);
}

Verdict Server::Impl::guard_body(const Request& request, Response& response) const {
  const auto refuse = [&](int status, const std::string& message) {
    answer_error(response, status, message);
    return Verdict::Handled;
  };
  Connection* connection = Connection::current();
  if (!has_body(request)) {
    // A body that nobody reads would be taken for the next request.
    const bool body =
        request.has_header("Transfer-Encoding") ||
        (request.has_header("Content-Length") && content_length(request).value_or(1) != 0);
    if (body && connection != nullptr) connection->close_after_answer();
    return Verdict::Unhandled;
  }
  if (request.has_header("Transfer-Encoding")) {
    return refuse(411, "the body's length has to be said: no Transfer-Encoding");
  }
  if (request.has_header("Content-Encoding")) {
    return refuse(415, "bodies are taken as they are: no Content-Encoding");
  }
  const std::optional<std::int64_t> length = content_length(request);
  if (!length) return refuse(411, "Content-Length has to be there, once, and a number");
  if (*length > site.options.max_body_bytes) {
    return refuse(413, str("the body has ", *length, " bytes, this server takes ",
                           site.options.max_body_bytes));
  }
  if (!is_json(request)) return refuse(415, "Content-Type has to be application/json");
  if (connection != nullptr) connection->expect_body(static_cast<std::size_t>(*length));
  return Verdict::Unhandled;
}

void Server::Impl::answer_page(const Request& request, Response& response) const {
  if (request.has_param("token")) {
    if (!rules->needs_token() || !rules->token_matches(request.get_param_value("token"))) {
      answer_error(response, 401, "this is not the token", "invalid_api_key");
      return;
    }
    // The token leaves the address bar; the session stands for it from here on.
    response.set_header("Set-Cookie", rules->session_cookie());
    response.set_redirect("/", 303);
    return;
  }
  response.set_header("Content-Security-Policy", kPagePolicy);
  response.set_header("Cache-Control", "no-cache");
  response.set_content(site.options.page.data(), site.options.page.size(),
                       "text/html; charset=utf-8");
}

void Server::Impl::add_routes() {
  // One failure of a handler is one request's, whatever it was.
  const auto guarded = [this](void (*answer)(Site&, const Request&, Response&)) {
    return [this, answer](const Request& request, Response& response) {
      try {
        answer(site, request, response);
      } catch (const Error& error) {
        answer_error(response, {error.kind(), error.what()});
      } catch (const std::exception& error) {
        log_error("serve: ", error.what());
        answer_error(response, 500, "the server failed on this request");
      }
    };
  };
  http.Get("/",
           [this](const Request& request, Response& response) { answer_page(request, response); });
  for (const Route& route : routes()) {
    const std::string_view method = route.method;
    if (method == "GET") http.Get(route.pattern, guarded(route.answer));
    if (method == "POST") http.Post(route.pattern, guarded(route.answer));
    if (method == "PUT") http.Put(route.pattern, guarded(route.answer));
  }
  http.set_pre_routing_handler(
      [this](const Request& request, Response& response) { return guard(request, response); });
  http.set_error_handler(httplib::Server::Handler([](const Request& request, Response& response) {
    if (!response.body.empty()) return;
    const int status = response.status;
    answer_error(response, status,
                 status == 404 ? str("there is nothing at ", request.method, " here")
                               : str("the request was refused with status ", status));
  }));
  http.set_exception_handler([](const Request&, Response& response, std::exception_ptr) {
    answer_error(response, 500, "the server failed on this request");
  });
  http.set_default_headers({{"X-Content-Type-Options", "nosniff"},
                            {"X-Frame-Options", "DENY"},
                            {"Referrer-Policy", "no-referrer"},
                            {"Cross-Origin-Resource-Policy", "same-origin"}});
  // Neither query nor headers nor body: tokens and prompts stay out of the log.
  http.set_logger([](const Request& request, const Response& response) {
    log_info(request.remote_addr, " ", request.method, " ", request.path.substr(0, 200), " ",
             response.status);
  });
}

Server::Server(std::shared_ptr<const SaeSteering> steering, const ServerOptions& options) {
  options.validate();
  for (const auto& folder : {options.dashboard, options.runs}) {
    std::error_code error;
    if (!folder.empty() && !std::filesystem::is_directory(folder, error)) {
      throw_io("'", folder.string(), "' is no folder");
    }
  }
  impl_ = std::make_unique<Impl>(std::move(steering), options);
  httplib::Server& http = impl_->http;
  http.set_payload_max_length(static_cast<std::size_t>(options.max_body_bytes));
  http.set_tcp_nodelay(true);
  http.set_idle_interval(0, 200000);
  impl_->add_routes();
  if (options.port == 0) {
    impl_->port = http.bind_to_any_port(options.host);
    if (impl_->port < 0) throw_io("no port of ", options.host, " can be had");
  } else {
    if (!http.bind_to_port(options.host, options.port)) {
      throw_io("port ", options.port, " of ", options.host,
               " cannot be had; is it in use? --port names another");
    }
    impl_->port = options.port;
  }
  impl_->http.widen_backlog();
  impl_->rules = std::make_unique<AccessRules>(options.host, impl_->port, options.token);
}

Server::~Server() { stop(); }

int Server::port() const { return impl_->port; }

std::string Server::url() const {
  std::string host = impl_->site.options.host;
  if (is_wildcard(host)) host = "127.0.0.1";
  if (host.find(':') != std::string::npos && host.front() != '[') host = "[" + host + "]";
  return str("http://", host, ":", impl_->port, "/");
}

void Server::start() {
  const std::lock_guard lock(impl_->mutex);
  if (impl_->stopped || impl_->listener.joinable()) return;
  impl_->listener = std::thread([this] { impl_->http.listen_after_bind(); });
  while (!impl_->http.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

void Server::run() {
  start();
  while (!interrupted() && impl_->http.is_running()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  stop();
}

void Server::stop() {
  const std::lock_guard lock(impl_->mutex);
  if (impl_->stopped) return;
  impl_->stopped = true;
  impl_->site.scheduler.stop();
  impl_->http.stop_connections();
  if (impl_->listener.joinable()) {
    impl_->http.stop();
    impl_->listener.join();
  }
}

}  // namespace drrik
