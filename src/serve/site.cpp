#include "serve/site.h"

#include <algorithm>

#include "drrik/base/error.h"

namespace drrik {
namespace {

std::filesystem::path label_file(const ServerOptions& options) {
  if (!options.labels.empty()) return options.labels;
  return options.dashboard.empty() ? std::filesystem::path() : options.dashboard / "labels.json";
}

SchedulerLimits scheduler_limits(const ServerOptions& options) {
  SchedulerLimits limits;
  limits.max_active = options.max_active;
  limits.max_active_of_client = std::max(1, options.max_active / 4);
  limits.max_queued = options.max_queued;
  limits.max_queued_of_client = std::max(1, options.max_queued / 2);
  return limits;
}

const char* type_of(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "server_overloaded";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

}  // namespace

Site::Site(std::shared_ptr<const SaeSteering> s, const ServerOptions& o)
    : steering(std::move(s)),
      options(o),
      limits{o.max_new_tokens},
      max_prompt_tokens(std::min(o.max_prompt_tokens, steering->model().config().max_positions)),
      has_dashboard(!o.dashboard.empty()),
      labels(label_file(o)),
      scheduler(scheduler_limits(o)) {}

const std::vector<Route>& routes() {
  static const std::vector<Route> table = {
      {"GET", "/openapi.json", R"(/openapi\.json)", answer_openapi},
      {"GET", "/data/index.js", R"(/data/index\.js)", answer_dashboard_index},
      {"GET", "/data/features/{chunk}.js", R"(/data/features/([0-9]{1,9})\.js)",
       answer_dashboard_chunk},
      {"GET", "/api/v1/info", "/api/v1/info", answer_info},
      {"POST", "/api/v1/activations", "/api/v1/activations", answer_activations},
      {"POST", "/api/v1/steer", "/api/v1/steer", answer_steer},
      {"GET", "/api/v1/labels", "/api/v1/labels", answer_labels},
      {"PUT", "/api/v1/labels/{feature}", "/api/v1/labels/([0-9]{1,9})", answer_set_label},
      {"GET", "/api/v1/runs", "/api/v1/runs", answer_runs},
      {"GET", "/api/v1/runs/{id}/metrics", "/api/v1/runs/([0-9a-f]{16})/metrics",
       answer_run_metrics},
      {"GET", "/v1/models", "/v1/models", answer_models},
      {"POST", "/v1/completions", "/v1/completions", answer_completions},
  };
  return table;
}

std::vector<std::string> server_routes() {
  std::vector<std::string> out = {"GET /"};
  for (const Route& route : routes()) out.push_back(str(route.method, " ", route.path));
  return out;
}

void answer_json(Response& response, const Json& json, int status) {
  response.status = status;
  response.set_content(json_text(json), "application/json");
}

Json error_json(int status, const std::string& message, const std::string& code) {
  return {{"error",
           {{"message", message},
            {"type", type_of(status)},
            {"param", nullptr},
            {"code", code.empty() ? Json() : Json(code)}}}};
}

void answer_error(Response& response, int status, const std::string& message,
                  const std::string& code) {
  if (Connection* connection = Connection::current()) connection->close_after_answer();
  response.set_header("Connection", "close");
  answer_json(response, error_json(status, message, code), status);
}

int status_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage:
    case ErrorKind::kData:
    case ErrorKind::kNumeric:
      return 400;
    case ErrorKind::kInterrupted:
      return 503;
    default:
      return 500;
  }
}

void answer_error(Response& response, const JobError& error) {
  answer_error(response, status_of(error.kind), error.message);
}

void answer_busy(Response& response) {
  response.set_header("Retry-After", "1");
  answer_error(response, 429, "too many requests wait for the model; try again", "queue_full");
}

std::string client_of(const Request& request, const std::string& user) {
  return request.remote_addr + " " + user;
}

void check_prompt(const Site& site, const std::vector<std::int32_t>& ids) {
  const auto size = static_cast<std::int64_t>(ids.size());
  if (size <= site.max_prompt_tokens) return;
  throw_usage("body: the text has ", size, " tokens, this server takes ", site.max_prompt_tokens);
}

}  // namespace drrik
