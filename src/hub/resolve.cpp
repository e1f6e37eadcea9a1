#include "drrik/hub/resolve.h"

#include <map>
#include <mutex>
#include <tuple>

#include "drrik/base/error.h"
#include "drrik/hub/client.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

// One process asks for the same model several times (weights, tokenizer): the Hub is asked once.
std::mutex g_mutex;
std::map<std::tuple<std::string, std::string, ModelPart>, fs::path> g_resolved;

std::optional<fs::path> local_folder(const std::string& name) {
  std::error_code error;
  if (fs::is_directory(name, error)) return name;
  if (fs::exists(name, error)) {
    throw_usage("model '", name, "' is a file; wanted a model folder or a Hub id");
  }
  if (error && error != std::errc::no_such_file_or_directory &&
      error != std::errc::not_a_directory) {
    throw_io("model '", name, "': ", error.message());
  }
  return std::nullopt;
}

}  // namespace

bool looks_like_repo_id(const std::string& name) { return is_repo_id(name); }

fs::path resolve_model_folder(const std::string& name, const std::string& revision,
                              ModelPart part) {
  if (name.empty()) throw_usage("no model given; --model FOLDER or Hub id names one");
  if (const auto folder = local_folder(name)) return *folder;
  if (!looks_like_repo_id(name)) {
    throw_io("model '", name, "' is no local folder, and no name that the Hub allows either");
  }
  const HubOptions options = default_hub_options();
  const std::lock_guard lock(g_mutex);
  const auto key = std::tuple(name + "@" + revision, options.cache_dir.string(), part);
  const auto found = g_resolved.find(key);
  if (found != g_resolved.end()) return found->second;
  try {
    fs::path folder = HubClient(options).download_model({RepoType::kModel, name, revision}, part);
    g_resolved.emplace(key, folder);
    return folder;
  } catch (HubError& error) {
    error.add_context(str("model '", name, "' is no local folder, and from the Hub"));
    throw;
  }
}

std::optional<fs::path> find_model_folder(const std::string& name, const std::string& revision,
                                          ModelPart part) {
  std::error_code error;
  if (fs::is_directory(name, error)) return name;
  if (!looks_like_repo_id(name)) return std::nullopt;
  HubOptions options = default_hub_options();
  options.offline = true;
  try {
    return HubClient(options).download_model({RepoType::kModel, name, revision}, part);
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace drrik
