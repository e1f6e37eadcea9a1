#pragma once
// drrik serve: a model and an autoencoder behind HTTP. docs/server.md says what it answers and how
// it guards itself; docs/api/openapi.json is the interface.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/base/secret.h"
#include "drrik/steer/steering.h"

namespace drrik {

struct ServerOptions {
  /// Address or name to listen on. Whatever is not this machine alone needs a token.
  std::string host = "127.0.0.1";
  int port = 7860;  ///< 0: any that is free.
  /// What clients have to say; empty: nothing (loopback only).
  Secret token;
  /// The page at "/": one HTML text. Must live as long as the server.
  std::string_view page;
  std::filesystem::path dashboard;  ///< Folder that `drrik dashboard` wrote; empty: none.
  std::filesystem::path labels;     ///< labels.json; empty: the dashboard's, or none are kept.
  std::filesystem::path runs;       ///< Folder with runs (metrics.jsonl) in it; empty: none.
  std::string model_name;           ///< To show, and what /v1/models lists.
  std::string sae_name;

  std::int64_t max_prompt_tokens = 2048;  ///< Or fewer, where the model takes fewer.
  std::int64_t max_new_tokens = 2048;
  std::int64_t max_body_bytes = std::int64_t{1} << 20;
  int max_connections = 256;     ///< More are answered 503 and closed.
  int max_queued = 64;           ///< Requests that wait for the model; more are answered 429.
  int max_active = 8;            ///< Texts written at once, a token of each in turn.
  double header_seconds = 10.0;  ///< For a request's head to arrive.
  double body_seconds = 30.0;    ///< For its body.
  double idle_seconds = 5.0;     ///< Between requests of one connection.
  double write_seconds = 10.0;   ///< For a piece of an answer to be taken.

  /// Throws Error(usage) naming the option; a host beyond this machine without a token is one.
  void validate() const;
};

/// All methods may be called from any thread.
class Server {
 public:
  /// Binds the port. Throws Error(usage) for the options, Error(io) when the port is taken or the
  /// dashboard or the runs are no folder.
  Server(std::shared_ptr<const SaeSteering> steering, const ServerOptions& options);
  /// Stops.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int port() const;
  /// "http://127.0.0.1:7860/".
  std::string url() const;

  /// Serves in threads of its own until stop().
  void start();
  /// Serves until the interrupt flag is set or stop() is called.
  void run();
  /// Ends what is being written, answers what waits with 503, closes every connection and waits for
  /// the threads. Does nothing the second time.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// "GET /api/v1/info", …: every route, paths as the OpenAPI document has them.
std::vector<std::string> server_routes();
/// The document at /openapi.json.
std::string_view openapi_document();

}  // namespace drrik
