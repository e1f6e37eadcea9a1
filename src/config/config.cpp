#include "drrik/config/config.h"

#include <algorithm>
#include <array>

#include "config/fields.h"
#include "drrik/base/error.h"
#include "drrik/base/file.h"

namespace drrik {
namespace {

// Variables of the build and the tests, which share the prefix DRRIK_.
constexpr std::array<std::string_view, 10> kNotOptions = {
    "ccache", "build_",   "test_",  "tests_",     "fuzz_",
    "bench_", "sanitize", "werror", "shared_dir", "ci_"};

bool is_tool_variable(std::string_view rest) {
  return std::any_of(kNotOptions.begin(), kNotOptions.end(), [&](std::string_view name) {
    return name.ends_with('_') ? rest.starts_with(name) : rest == name;
  });
}

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos;
       at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

}  // namespace

std::vector<ConfigField> config_fields() {
  Config defaults;
  std::vector<ConfigField> out;
  for (const detail::Field& field : detail::fields()) {
    const detail::FieldRef ref = field.ref(defaults);
    out.push_back({field.path,
                   detail::type_name(ref),
                   detail::format(ref),
                   field.help,
                   {field.choices.begin(), field.choices.end()}});
  }
  return out;
}

void set(Config& config, std::string_view name, std::string_view value, std::string_view where) {
  const std::string prefix = where.empty() ? "" : str(where, ": ");
  detail::assign(detail::resolve("", name, prefix), config, value, prefix);
}

std::string get(const Config& config, std::string_view name) {
  Config copy = config;
  return detail::format(detail::resolve("", name, "").ref(copy));
}

void apply_environment(Config& config, const Environment& environment) {
  Config merged = config;
  for (const std::string_view prefix : {"drik_", "drrik_"}) {
    for (const auto& [name, value] : environment) {
      const std::string lower = detail::canonical_name(name);
      if (!lower.starts_with(prefix)) continue;
      const std::string rest = lower.substr(prefix.size());
      if (prefix == "drrik_" && is_tool_variable(rest)) continue;
      set(merged, replace_all(rest, "__", "."), value, "environment variable " + name);
    }
  }
  config = std::move(merged);
}

Config load_config(const std::filesystem::path& path, const Environment& environment) {
  Config config;
  if (!path.empty()) load_yaml(config, path);
  apply_environment(config, environment);
  return config;
}

std::string to_yaml(const Config& config, bool comments) {
  Config copy = config;
  std::string out;
  std::vector<std::string> open;  // Groups that the last line stands in.
  for (const detail::Field& field : detail::fields()) {
    std::vector<std::string> parts;
    std::string_view rest = field.path;
    for (std::size_t dot = rest.find('.'); dot != std::string_view::npos; dot = rest.find('.')) {
      parts.emplace_back(rest.substr(0, dot));
      rest.remove_prefix(dot + 1);
    }
    std::size_t same = 0;
    while (same < open.size() && same < parts.size() && open[same] == parts[same]) ++same;
    for (std::size_t level = same; level < parts.size(); ++level) {
      out += std::string(2 * level, ' ') + parts[level] + ":\n";
    }
    open = parts;
    const std::string indent(2 * parts.size(), ' ');
    if (comments) out += indent + "# " + field.help + "\n";
    out += indent + std::string(rest) + ": " + detail::format(field.ref(copy)) + "\n";
  }
  return out;
}

std::string config_reference() {
  std::string out = "| option | type | default | meaning |\n|---|---|---|---|\n";
  for (const ConfigField& field : config_fields()) {
    const std::string type = field.choices.empty() ? field.type : join(field.choices);
    out += "| `" + field.path + "` | " + type + " | `" + field.default_value + "` | " + field.help +
           " |\n";
  }
  return out;
}

std::filesystem::path output_path(const Config& config, std::string_view folder) {
  return (std::filesystem::path(config.output_dir) / std::filesystem::path(folder))
      .lexically_normal();
}

void create_output_dirs(const Config& config) {
  create_folders(output_path(config, config.extractor.extraction.output_dir));
  create_folders(output_path(config, config.autoencoder.output_dir));
  if (config.visualization.enabled) {
    create_folders(output_path(config, config.visualization.output_dir));
  }
  if (config.steering.enabled) create_folders(output_path(config, config.steering.output_dir));
}

}  // namespace drrik
