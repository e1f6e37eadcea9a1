// drrik config: every option as the configuration, the environment and defaults leave it.

#include <memory>

#include "cli.h"

namespace drrik::cli {

Command config_command() {
  return {"config", "Print the configuration that a run would have, or the list of all options",
          "  drrik config > experiment.yaml\n"
          "  drrik config --config experiment.yaml\n"
          "  drrik config --reference\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            auto reference = std::make_shared<bool>(false);
            app.add_flag("--reference", *reference, "A table of all options, in Markdown");
            return [&globals, reference] {
              if (*reference) {
                emit(globals, {{"reference", config_reference()}}, config_reference());
                return;
              }
              Json values = Json::object();
              for (const ConfigField& field : config_fields()) {
                values[field.path] = get(globals.config, field.path);
              }
              emit(globals, values, to_yaml(globals.config, /*comments=*/true));
            };
          }};
}

}  // namespace drrik::cli
