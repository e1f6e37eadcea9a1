// drrik steer: writing with feature directions added; one setting or a comparison of strengths.

#include <iostream>
#include <memory>

#include "drrik/base/error.h"
#include "drrik/steer/steering.h"
#include "sae_flags.h"

namespace drrik::cli {
namespace {

struct Flags {
  SteerFlags where;
  std::string prompt;
  std::vector<std::int64_t> features;
  std::vector<double> strengths;
  std::optional<std::string> compare;
  std::string output;
};

void save(const Flags& flags, const SteeringResults& results, const std::string& label,
          Json& json) {
  if (flags.output.empty()) return;
  json["output"] = save_steering_analysis(results, flags.output, flags.prompt, label).string();
}

void compare(const Globals& globals, const Flags& flags, const SaeSteering& steering) {
  if (flags.features.size() != 1) {
    throw_usage("--compare: got ", flags.features.size(), " of --feature, wanted one");
  }
  if (!flags.strengths.empty()) throw_usage("--compare names the strengths; leave out --strength");
  const std::int64_t feature = flags.features[0];
  const SteeringResults results =
      steering.compare_steering(flags.prompt, feature, parse_doubles(*flags.compare, "--compare"),
                                steered_generation(globals.config));
  Json json{{"prompt", flags.prompt}, {"feature", feature}, {"results", Json::object()}};
  std::string text;
  for (const auto& [label, written] : results) {
    json["results"][label] = written;
    text += str("[", label, "]\n", written, "\n\n");
  }
  save(flags, results, str("feature_", feature), json);
  emit(globals, json, text);
}

void steer(const Globals& globals, const Flags& flags, const SaeSteering& steering) {
  SteeredGeneration options = steered_generation(globals.config);
  options.feature_indices = flags.features;
  options.strengths = flags.strengths;
  PromptedOutput output(flags.prompt);
  if (!globals.json) options.on_text = [&](std::string_view piece) { output.write(piece); };
  const SteeredText written = steering.generate(flags.prompt, options);
  if (options.strengths.empty()) options.strengths.assign(flags.features.size(), 1.0);
  Json json{{"prompt", flags.prompt},
            {"text", written.text},
            {"continuation", written.continuation},
            {"features", flags.features},
            {"strengths", options.strengths},
            {"finish", finish_name(written.generated.finish)}};
  if (!flags.output.empty()) {
    std::vector<std::string> added;
    for (std::size_t i = 0; i < flags.features.size(); ++i) {
      added.push_back(str("feature_", flags.features[i], "_strength_", options.strengths[i]));
    }
    const std::string label = added.empty() ? "baseline" : join(added);
    const std::string name = flags.features.size() == 1 ? str("feature_", flags.features[0]) : "";
    save(flags, {{label, written.text}}, name, json);
  }
  if (globals.json) {
    emit(globals, json, "");
  } else {
    output.finish();
  }
}

}  // namespace

Command steer_command() {
  return {"steer", "Continue a prompt with feature directions added",
          "  drrik steer --sae sae --model assets/demo/model --layer 3 --prompt \"The sea\" "
          "--feature 12 --strength 4\n"
          "  drrik steer --sae sae --model assets/demo/model --layer 3 --prompt \"The sea\" "
          "--feature 12 --compare 0,1,2,3,5 --output steering\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            auto flags = std::make_shared<Flags>();
            flags->where.writes = true;
            flags->where.add(app, globals);
            app.add_option("--prompt", flags->prompt, "Text to continue")->required();
            app.add_option("--feature", flags->features, "A feature to add; may be repeated")
                ->delimiter(',');
            app.add_option("--strength", flags->strengths,
                           "How much of it, one for each --feature (default 1)")
                ->delimiter(',');
            app.add_option("--compare", flags->compare, "Strengths to write with, side by side");
            add_sampling_settings(app, globals);
            app.add_option("--output", flags->output, "Folder for the texts")->type_name("DIR");
            return [&globals, flags] {
              const SaeSteering steering = flags->where.open(globals);
              if (flags->compare) {
                compare(globals, *flags, steering);
              } else {
                steer(globals, *flags, steering);
              }
            };
          }};
}

}  // namespace drrik::cli
