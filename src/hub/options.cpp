#include "drrik/hub/options.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <mutex>
#include <optional>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "drrik/base/system.h"
#include "hub/url.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using Variables = std::map<std::string, std::string>;

constexpr std::uint64_t kMaxTokenFile = std::uint64_t{1} << 16;

std::string get(const Variables& variables, const char* name) {
  const auto found = variables.find(name);
  return found == variables.end() ? "" : found->second;
}

bool truthy(const Variables& variables, const char* name) {
  std::string value = get(variables, name);
  for (char& c : value) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

// A leading ~ and $NAME or ${NAME}, as Python's expanduser and expandvars do.
fs::path expand(const Variables& variables, std::string text) {
  if (text == "~" || text.starts_with("~/")) {
    const std::string home = get(variables, "HOME");
    if (!home.empty()) text = home + text.substr(1);
  }
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] != '$') {
      out += text[i++];
      continue;
    }
    const bool braces = i + 1 < text.size() && text[i + 1] == '{';
    const std::size_t begin = i + (braces ? 2 : 1);
    std::size_t end = begin;
    while (end < text.size() &&
           (std::isalnum(static_cast<unsigned char>(text[end])) != 0 || text[end] == '_')) {
      ++end;
    }
    const bool closed = !braces || (end < text.size() && text[end] == '}');
    const auto found = variables.find(text.substr(begin, end - begin));
    if (end == begin || !closed || found == variables.end()) {
      out += text[i++];  // what names no variable stays as it is
      continue;
    }
    out += found->second;
    i = end + (braces ? 1 : 0);
  }
  return out;
}

fs::path hub_home(const Variables& variables) {
  if (const std::string home = get(variables, "HF_HOME"); !home.empty()) {
    return expand(variables, home);
  }
  if (const std::string cache = get(variables, "XDG_CACHE_HOME"); !cache.empty()) {
    return expand(variables, cache) / "huggingface";
  }
  const std::string home = get(variables, "HOME");
  return home.empty() ? fs::path() : fs::path(home) / ".cache" / "huggingface";
}

double seconds(const Variables& variables, const char* name, double fallback) {
  const std::string text(trim(get(variables, name)));
  if (text.empty()) return fallback;
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0) {
    throw_usage(name, ": got '", text, "', wanted a number of seconds");
  }
  return value == 0 ? fallback : value;
}

std::string endpoint_from(const Variables& variables, const std::string& fallback) {
  std::string endpoint(trim(get(variables, "HF_ENDPOINT")));
  if (endpoint.empty()) return fallback;
  while (endpoint.ends_with('/')) endpoint.pop_back();
  if (hub::origin_of(endpoint).empty()) {
    throw_usage("HF_ENDPOINT: got '", hub::shown_url(endpoint),
                "', wanted a URL that begins with https:// (or http://)");
  }
  return endpoint;
}

std::mutex g_mutex;
std::optional<HubOptions> g_default;
std::function<HubOptions()> g_make;

}  // namespace

bool implicit_token_disabled(const Variables& environment) {
  return truthy(environment, "HF_HUB_DISABLE_IMPLICIT_TOKEN");
}

Secret find_hub_token(const Variables& environment, const Variables& more) {
  for (const Variables* variables : {&environment, &more}) {
    for (const char* name : {"HUGGINGFACE_HUB_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}) {
      // An empty variable of the environment hides the one of the same name.
      if (variables == &more && environment.contains(name)) continue;
      Secret token = checked_secret(name, get(*variables, name));
      if (!token.empty()) return token;
    }
  }
  const std::string named = get(environment, "HF_TOKEN_PATH");
  const fs::path home = hub_home(environment);
  if (named.empty() && home.empty()) return {};
  const fs::path path = named.empty() ? home / "token" : expand(environment, named);
  std::error_code error;
  // Regular files only: opening a pipe would wait for ever.
  if (!fs::is_regular_file(path, error)) return {};
  try {
    return checked_secret("token file", read_file(path, kMaxTokenFile));
  } catch (const Error& failure) {
    // What is public needs no token, so this is no reason to stop.
    log_warning("Hub token file ", path.string(), " is not used: ", failure.what());
    return {};
  }
}

HubOptions HubOptions::from_environment(const Variables& environment) {
  HubOptions options;
  options.endpoint = endpoint_from(environment, options.endpoint);
  std::string cache = get(environment, "HF_HUB_CACHE");
  if (cache.empty()) cache = get(environment, "HUGGINGFACE_HUB_CACHE");
  const fs::path home = hub_home(environment);
  if (!cache.empty()) {
    options.cache_dir = expand(environment, cache);
  } else if (!home.empty()) {
    options.cache_dir = home / "hub";
  }
  if (!implicit_token_disabled(environment)) options.token = find_hub_token(environment);
  options.offline = get(environment, "HF_HUB_OFFLINE").empty()
                        ? truthy(environment, "TRANSFORMERS_OFFLINE")
                        : truthy(environment, "HF_HUB_OFFLINE");
  options.symlinks = !truthy(environment, "HF_HUB_DISABLE_SYMLINKS");
  options.progress = !truthy(environment, "HF_HUB_DISABLE_PROGRESS_BARS");
  options.telemetry = !truthy(environment, "HF_HUB_DISABLE_TELEMETRY") &&
                      !truthy(environment, "DISABLE_TELEMETRY") &&
                      !truthy(environment, "DO_NOT_TRACK");
  options.user_agent_origin = get(environment, "HF_HUB_USER_AGENT_ORIGIN");
  options.etag_timeout = seconds(environment, "HF_HUB_ETAG_TIMEOUT", options.etag_timeout);
  options.download_timeout =
      seconds(environment, "HF_HUB_DOWNLOAD_TIMEOUT", options.download_timeout);
  return options;
}

HubOptions HubOptions::from_environment() { return from_environment(process_environment()); }

HubOptions default_hub_options() {
  const std::lock_guard lock(g_mutex);
  if (!g_default) g_default = g_make ? g_make() : HubOptions::from_environment();
  return *g_default;
}

void set_default_hub_options(std::function<HubOptions()> make) {
  const std::lock_guard lock(g_mutex);
  g_make = std::move(make);
  g_default.reset();
}

}  // namespace drrik
