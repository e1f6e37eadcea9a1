#include "cli.h"

#include <algorithm>
#include <charconv>
#include <iostream>

#include "drrik/base/error.h"

namespace drrik::cli {
namespace {

// Calls f on each part of `text` between commas and spaces.
template <typename F>
void for_each_part(const std::string& text, F&& f) {
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find_first_of(", \t\n", begin), text.size());
    if (end > begin) f(text.substr(begin, end - begin));
    begin = end + 1;
  }
}

template <typename T>
std::vector<T> parse_numbers(const std::string& text, const std::string& flag, const char* wanted) {
  std::vector<T> numbers;
  for_each_part(text, [&](const std::string& part) {
    T value{};
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (error != std::errc{} || end != part.data() + part.size()) {
      throw_usage(flag, ": '", part, "' is not ", wanted);
    }
    numbers.push_back(value);
  });
  return numbers;
}

}  // namespace

bool Globals::given(const std::string& path) const {
  return std::ranges::any_of(settings, [&](const auto& setting) { return setting.first == path; });
}

std::string Globals::folder(const std::string& path) const {
  const std::string value = get(config, path);
  return given(path) ? value : output_path(config, value).string();
}

std::string Globals::folder_or(const std::string& flag_value, const std::string& flag,
                               const std::string& path) const {
  if (!flag_value.empty()) return flag_value;
  if (config_file.empty()) throw_usage(flag, " is required (or --config, whose folders are used)");
  return folder(path);
}

CLI::Option* add_setting(CLI::App& app, Globals& globals, const std::string& flag,
                         const std::string& path) {
  static const std::vector<ConfigField> fields = config_fields();
  const auto field =
      std::ranges::find_if(fields, [&](const ConfigField& f) { return f.path == path; });
  DRRIK_ASSERT(field != fields.end());
  CLI::Option* option = app.add_option_function<std::string>(
      flag,
      [&globals, path](const std::string& text) { globals.settings.emplace_back(path, text); },
      field->help);
  if (!field->choices.empty()) option->type_name(join(field->choices, "|"));
  if (field->default_value != "null" && field->default_value != "\"\"") {
    option->default_str(field->default_value);
  }
  return option;
}

CLI::Option* add_switch(CLI::App& app, Globals& globals, const std::string& flag,
                        const std::string& path, const std::string& value,
                        const std::string& help) {
  return app.add_flag_callback(
      flag, [&globals, path, value] { globals.settings.emplace_back(path, value); }, help);
}

void emit(const Globals& globals, const Json& json, const std::string& text) {
  if (globals.json) {
    std::cout << json.dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
  } else {
    std::cout << text;
    if (text.empty() || text.back() != '\n') std::cout << "\n";
  }
}

void PromptedOutput::write(std::string_view piece) {
  if (!begun_) std::cout << prompt_;
  begun_ = true;
  std::cout << piece << std::flush;
}

void PromptedOutput::finish() {
  write("");
  std::cout << "\n";
}

void add_hub_flags(CLI::App& app, Globals& globals) {
  if (app.get_option_no_throw("--cache-dir") != nullptr) return;  // the dataset's, or the model's
  const char* group = "Hub options";
  app.add_option("--cache-dir", globals.hub.cache_dir,
                 "Where files from the Hub are kept (default: as huggingface_hub, HF_HUB_CACHE)")
      ->group(group)
      ->type_name("DIR");
  app.add_flag("--offline", globals.hub.offline, "Use what the cache has; no request to the Hub")
      ->group(group);
}

HubOptions hub_options(const Globals& globals) {
  const Environment environment = process_environment();
  HubOptions options = HubOptions::from_environment(environment);
  if (!globals.hub.token.empty()) {
    options.token = Secret(globals.hub.token);
  } else if (!implicit_token_disabled(environment) && get_settings().has_hf_token()) {
    options.token = get_settings().hf_token;  // from .env too
  }
  if (!globals.hub.cache_dir.empty()) options.cache_dir = globals.hub.cache_dir;
  if (globals.hub.offline) options.offline = true;
  return options;
}

std::string resolve_model(const Config& config, ModelPart part) {
  const Config::Model& model = config.extractor.model;
  return resolve_model_folder(model.model_name, model.revision, part).string();
}

std::vector<std::int64_t> parse_integers(const std::string& text, const std::string& flag) {
  return parse_numbers<std::int64_t>(text, flag, "a whole number");
}

std::vector<double> parse_doubles(const std::string& text, const std::string& flag) {
  return parse_numbers<double>(text, flag, "a number");
}

}  // namespace drrik::cli
