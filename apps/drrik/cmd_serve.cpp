// drrik serve: a model and its features in the browser, and over HTTP.

#include <filesystem>
#include <iostream>
#include <memory>

#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "drrik/serve/server.h"
#include "sae_flags.h"
#include "viz/page.h"

namespace drrik::cli {
namespace {

struct Flags {
  SteerFlags where;
  ServerOptions options;
  std::string token;
  std::string dashboard;
  std::string labels;
  std::string runs;
};

// What people call a folder: its own name, or that of the folder around a plain "model" or "sae".
std::string shown_name(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return path;  // a name on the Hub
  const auto whole = std::filesystem::absolute(path, error).lexically_normal();
  const auto folder = whole.filename().empty() ? whole.parent_path() : whole;
  const std::string name = folder.filename().string();
  if (name != "model" && name != "sae") return name;
  const std::string around = folder.parent_path().filename().string();
  return around.empty() ? name : around + "/" + name;
}

void run(const Globals& globals, const Flags& flags) {
  ServerOptions options = flags.options;
  options.token = checked_secret("--token", flags.token);
  options.page = dashboard_page();
  options.dashboard = flags.dashboard;
  options.labels = flags.labels;
  options.runs = flags.runs;
  options.validate();
  auto steering = std::make_shared<const SaeSteering>(flags.where.open(globals));
  options.model_name = shown_name(globals.config.extractor.model.model_name);
  options.sae_name =
      shown_name(globals.folder_or(flags.where.sae, "--sae", "autoencoder.output_dir"));
  Server server(std::move(steering), options);
  server.start();
  emit(globals, {{"url", server.url()}, {"port", server.port()}},
       str("serving on ", server.url(), options.token.empty() ? "" : "?token=…",
           " (Ctrl-C ends it)"));
  std::cout.flush();
  server.run();
  log_info("stopped");
}

}  // namespace

Command serve_command() {
  return {
      "serve", "Serve a model with its features: a page to play with, and an HTTP API",
      "  drrik serve --sae sae --model assets/demo/model --layer 3\n"
      "  drrik serve --sae sae --model assets/demo/model --dashboard dashboard --runs .\n",
      [](CLI::App& app, Globals& globals) -> std::function<void()> {
        auto flags = std::make_shared<Flags>();
        flags->where.writes = true;
        flags->where.add(app, globals);
        app.add_option("--dashboard", flags->dashboard, "Folder that `drrik dashboard` wrote")
            ->type_name("DIR");
        app.add_option("--labels", flags->labels,
                       "File for labels (default: labels.json of the dashboard)")
            ->type_name("FILE");
        app.add_option("--runs", flags->runs, "Folder with training runs to show")
            ->type_name("DIR");
        app.add_option("--host", flags->options.host,
                       "Address to listen on; beyond this machine it takes --token")
            ->capture_default_str();
        app.add_option("--port", flags->options.port, "0 takes any that is free")
            ->capture_default_str();
        app.add_option("--token", flags->token, "What clients have to say (also DRRIK_SERVE_TOKEN)")
            ->envname("DRRIK_SERVE_TOKEN");
        app.add_option("--max-prompt-tokens", flags->options.max_prompt_tokens, "Longest prompt")
            ->capture_default_str();
        app.add_option("--limit-new-tokens", flags->options.max_new_tokens,
                       "Most tokens that a request may ask for")
            ->capture_default_str();
        app.add_option("--max-connections", flags->options.max_connections,
                       "Connections at once; more are answered 503")
            ->capture_default_str();
        app.add_option("--max-queued", flags->options.max_queued,
                       "Requests that may wait for the model; more are answered 429")
            ->capture_default_str();
        return [&globals, flags] { run(globals, *flags); };
      }};
}

}  // namespace drrik::cli
