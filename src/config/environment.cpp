#include "drrik/config/environment.h"

#include <algorithm>
#include <cctype>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/hub/options.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 20U;

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

// Names in upper case; the exact spelling wins over others of the same name.
Environment by_upper_name(const Environment& environment) {
  Environment out;
  for (const auto& [name, value] : environment) out.emplace(upper(name), value);
  for (const auto& [name, value] : environment) {
    if (upper(name) == name) out[name] = value;
  }
  return out;
}

// Regular files only: opening a pipe would wait for ever.
bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

}  // namespace

EnvironmentSettings EnvironmentSettings::load(const Environment& environment,
                                              const fs::path& dotenv) {
  Environment file;
  if (!dotenv.empty() && is_file(dotenv)) {
    file = parse_dotenv(read_file(dotenv, kMaxFileBytes), dotenv.string());
  }
  const Environment variables = by_upper_name(environment);
  const Environment defaults = by_upper_name(file);
  const auto lookup = [&](const std::string& name) {
    for (const Environment* where : {&variables, &defaults}) {
      if (const auto found = where->find(name); found != where->end()) return found->second;
    }
    return std::string();
  };

  EnvironmentSettings settings;
  settings.hf_token = find_hub_token(variables, defaults);
  settings.wandb_api_key = checked_secret("WANDB_API_KEY", lookup("WANDB_API_KEY"));
  if (const std::string value(trim(lookup("WANDB_PROJECT"))); !value.empty()) {
    settings.wandb_project = value;
  }
  settings.wandb_entity = trim(lookup("WANDB_ENTITY"));
  if (std::string mode(trim(lookup("WANDB_MODE"))); !mode.empty()) {
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
