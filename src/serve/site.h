#pragma once
// What the routes share, and the routes.

#include <httplib.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/serve/server.h"
#include "serve/http_server.h"
#include "serve/labels.h"
#include "serve/requests.h"
#include "serve/scheduler.h"
#include "serve/text_job.h"

namespace drrik {

struct Site {
  Site(std::shared_ptr<const SaeSteering> s, const ServerOptions& o);

  std::shared_ptr<const SaeSteering> steering;
  ServerOptions options;
  RequestLimits limits;
  std::int64_t max_prompt_tokens = 0;
  bool has_dashboard = false;
  LabelStore labels;
  Scheduler scheduler;
};

using httplib::Request;
using httplib::Response;

/// One route: the path as OpenAPI writes it, and as httplib matches it.
struct Route {
  const char* method;
  const char* path;
  const char* pattern;
  void (*answer)(Site& site, const Request& request, Response& response);
};

/// All but "/".
const std::vector<Route>& routes();

// An answer other than 200 ends the connection: its request's body may not have been read.
void answer_json(Response& response, const Json& json, int status = 200);
/// {"error": {"message", "type"}} in OpenAI's shape; `type` by the status.
void answer_error(Response& response, int status, const std::string& message,
                  const std::string& code = {});
/// A failure as the status that it deserves.
void answer_error(Response& response, const JobError& error);
void answer_busy(Response& response);
Json error_json(int status, const std::string& message, const std::string& code = {});
int status_of(ErrorKind kind);

/// Who waits for whom: the client's address and the name that it gives itself.
std::string client_of(const Request& request, const std::string& user = {});
/// Refuses a prompt that is too long for this server, before any work. Throws Error(usage).
void check_prompt(const Site& site, const std::vector<std::int32_t>& ids);

// api_text.cpp
void answer_completions(Site& site, const Request& request, Response& response);
void answer_steer(Site& site, const Request& request, Response& response);
// api_read.cpp
void answer_info(Site& site, const Request& request, Response& response);
void answer_models(Site& site, const Request& request, Response& response);
void answer_activations(Site& site, const Request& request, Response& response);
void answer_labels(Site& site, const Request& request, Response& response);
void answer_set_label(Site& site, const Request& request, Response& response);
void answer_runs(Site& site, const Request& request, Response& response);
void answer_run_metrics(Site& site, const Request& request, Response& response);
void answer_dashboard_index(Site& site, const Request& request, Response& response);
void answer_dashboard_chunk(Site& site, const Request& request, Response& response);
void answer_openapi(Site& site, const Request& request, Response& response);

}  // namespace drrik
