#include "drrik/config/environment.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX leaves it to us

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 20U;

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

std::string trim(std::string text) {
  const auto space = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  while (!text.empty() && space(text.back())) text.pop_back();
  text.erase(text.begin(), std::find_if_not(text.begin(), text.end(), space));
  return text;
}

// Looks names up without case; the exact spelling wins over others of the same name.
std::optional<std::string> find(const Environment& environment, const std::string& name) {
  if (const auto exact = environment.find(name); exact != environment.end()) return exact->second;
  for (const auto& [key, value] : environment) {
    if (upper(key) == name) return value;
  }
  return std::nullopt;
}

// Regular files only: opening a pipe would wait for ever.
bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

Secret checked_secret(const std::string& name, const std::string& value) {
  const std::string token = trim(value);
  for (const char c : token) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x21 || byte == 0x7f) {
      throw_usage(name, ": holds a blank or control character; wanted one token");
    }
  }
  return Secret(token);
}

fs::path token_file(const Environment& environment) {
  const auto value = [&](const char* name) { return find(environment, name).value_or(""); };
  if (const std::string path = value("HF_TOKEN_PATH"); !path.empty()) return path;
  if (const std::string home = value("HF_HOME"); !home.empty()) return fs::path(home) / "token";
  if (const std::string cache = value("XDG_CACHE_HOME"); !cache.empty()) {
    return fs::path(cache) / "huggingface" / "token";
  }
  if (const std::string home = value("HOME"); !home.empty()) {
    return fs::path(home) / ".cache" / "huggingface" / "token";
  }
  return {};
}

}  // namespace

Environment process_environment() {
  Environment out;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos || equals == 0) continue;
    out.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return out;
}

EnvironmentSettings EnvironmentSettings::load(const Environment& environment,
                                              const fs::path& dotenv) {
  Environment file;
  if (!dotenv.empty() && is_file(dotenv)) {
    file = parse_dotenv(read_file(dotenv, kMaxFileBytes), dotenv.string());
  }
  const auto lookup = [&](const std::string& name) {
    auto value = find(environment, name);
    if (!value) value = find(file, name);
    return value.value_or("");
  };

  EnvironmentSettings settings;
  constexpr const char* kTokenNames[] = {"HUGGINGFACE_HUB_TOKEN", "HF_TOKEN",
                                         "HUGGING_FACE_HUB_TOKEN"};
  for (const char* name : kTokenNames) {
    if (settings.has_hf_token()) break;
    settings.hf_token = checked_secret(name, find(environment, name).value_or(""));
  }
  // Only now the file: under whichever name, the environment's comes first.
  for (const char* name : kTokenNames) {
    if (settings.has_hf_token()) break;
    settings.hf_token = checked_secret(name, lookup(name));
  }
  if (!settings.has_hf_token()) {
    const fs::path path = token_file(environment);
    if (!path.empty() && is_file(path)) {
      try {
        settings.hf_token = checked_secret("token file", read_file(path, kMaxFileBytes));
      } catch (const Error& error) {
        // A public model needs no token, so this is no reason to stop.
        log_warning("Hub token file ", path.string(), " is not used: ", error.what());
      }
    }
  }

  settings.wandb_api_key = checked_secret("WANDB_API_KEY", lookup("WANDB_API_KEY"));
  if (const std::string value = trim(lookup("WANDB_PROJECT")); !value.empty()) {
    settings.wandb_project = value;
  }
  settings.wandb_entity = trim(lookup("WANDB_ENTITY"));
  if (std::string mode = trim(lookup("WANDB_MODE")); !mode.empty()) {
    std::transform(mode.begin(), mode.end(), mode.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const std::vector<std::string> modes = {"online", "offline", "disabled"};
    if (std::find(modes.begin(), modes.end(), mode) == modes.end()) {
      // Someone may have put the key here by mistake, so a long value is not repeated.
      const std::string shown = mode.size() <= 16 ? "'" + mode + "'" : "a long text";
      throw_usage("WANDB_MODE: got ", shown, ", wanted one of ", join(modes),
                  did_you_mean(mode, modes));
    }
    settings.wandb_mode = mode;
  }
  return settings;
}

std::string EnvironmentSettings::describe() const {
  return str("hf_token: ", hf_token, "\nwandb_api_key: ", wandb_api_key,
             "\nwandb_project: ", wandb_project, "\nwandb_entity: ", wandb_entity,
             "\nwandb_mode: ", wandb_mode, "\n");
}

const EnvironmentSettings& get_settings() {
  static const EnvironmentSettings settings = EnvironmentSettings::load(process_environment());
  return settings;
}

}  // namespace drrik
