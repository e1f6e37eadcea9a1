// drrik steer: writing with features edited; one setting, a comparison of strengths, or a recipe.

#include <algorithm>
#include <iostream>
#include <memory>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "drrik/steer/steering.h"
#include "sae_flags.h"

namespace drrik::cli {
namespace {

struct Flags {
  SteerFlags where;
  std::string prompt;
  std::vector<std::int64_t> features;
  std::vector<double> strengths;
  std::string mode = "add";
  std::string positions = "all";
  std::optional<std::string> compare;
  std::string recipe;
  std::string save_recipe;
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

// The recipe that --feature, --strength, --mode and --positions say.
SteeringRecipe recipe_of(const Globals& globals, const Flags& flags) {
  SteeringRecipe recipe;
  if (!flags.strengths.empty() && flags.strengths.size() != flags.features.size()) {
    throw_usage(flags.features.size(), " of --feature, but ", flags.strengths.size(),
                " of --strength");
  }
  EditPositions positions;
  const std::vector<std::string> places = {"all", "prompt", "generated"};
  const auto place = std::ranges::find(places, flags.positions);
  if (place != places.end()) {
    positions.kind = static_cast<EditPositions::Kind>(place - places.begin());
  } else {
    positions.kind = EditPositions::Kind::kList;
    positions.list =
        parse_integers(flags.positions, "--positions (all, prompt, generated or list)");
    std::ranges::sort(positions.list);
    const auto again = std::ranges::unique(positions.list);
    positions.list.erase(again.begin(), again.end());
  }
  const std::vector<std::string> modes = {"add", "clamp", "scale", "ablate"};
  const auto mode = std::ranges::find(modes, flags.mode);
  for (std::size_t i = 0; i < flags.features.size(); ++i) {
    SteeringEdit edit;
    edit.feature = flags.features[i];
    edit.mode = static_cast<EditMode>(mode - modes.begin());
    edit.strength = flags.strengths.empty() ? 1.0 : flags.strengths[i];
    edit.positions = positions;
    recipe.edits.push_back(std::move(edit));
  }
  check_edits(recipe.edits);
  const Config::Steering& from = globals.config.steering;
  const auto given = [&](const char* name) { return globals.given(str("steering.", name)); };
  if (given("max_new_tokens")) recipe.sampling.max_new_tokens = from.max_new_tokens;
  if (given("temperature")) recipe.sampling.temperature = from.temperature;
  if (given("top_p")) recipe.sampling.top_p = from.top_p;
  if (given("top_k")) recipe.sampling.top_k = from.top_k;
  if (given("repetition_penalty")) recipe.sampling.repetition_penalty = from.repetition_penalty;
  if (globals.given("random_seed")) recipe.sampling.seed = globals.seed();
  return recipe;
}

// What the recipe says of sampling, where no flag says it.
SteeredGeneration options_of(const Globals& globals, const SteeringRecipe& recipe) {
  const SteeredGeneration flags = steered_generation(globals.config);
  SteeredGeneration out = with_recipe(recipe, flags);
  const auto given = [&](const char* name) { return globals.given(str("steering.", name)); };
  if (given("max_new_tokens")) out.max_new_tokens = flags.max_new_tokens;
  if (given("temperature")) out.temperature = flags.temperature;
  if (given("top_p")) out.top_p = flags.top_p;
  if (given("top_k")) out.top_k = flags.top_k;
  if (given("repetition_penalty")) out.repetition_penalty = flags.repetition_penalty;
  if (globals.given("random_seed")) out.seed = flags.seed;
  return out;
}

Json edits_json(const SteeringRecipe& recipe) {
  return Json::parse(recipe_text(recipe)).at("edits");
}

void steer(const Globals& globals, const Flags& flags, const SteeringRecipe& recipe,
           const SaeSteering& steering) {
  SteeredGeneration options = options_of(globals, recipe);
  PromptedOutput output(flags.prompt);
  if (!globals.json) options.on_text = [&](std::string_view piece) { output.write(piece); };
  const SteeredText written = steering.generate(flags.prompt, options);
  std::vector<std::int64_t> features;
  std::vector<double> strengths;
  std::vector<std::string> added;
  for (const SteeringEdit& edit : recipe.edits) {
    features.push_back(edit.feature);
    strengths.push_back(edit.strength);
    added.push_back(str("feature_", edit.feature, edit.mode == EditMode::kAdd ? "" : "_",
                        edit.mode == EditMode::kAdd ? "" : edit_mode_name(edit.mode), "_strength_",
                        edit.strength));
  }
  Json json{{"prompt", flags.prompt},
            {"text", written.text},
            {"continuation", written.continuation},
            {"features", features},
            {"strengths", strengths},
            {"edits", edits_json(recipe)},
            {"finish", finish_name(written.generated.finish)}};
  if (!flags.output.empty()) {
    const std::string label = added.empty() ? "baseline" : join(added);
    const std::string name = features.size() == 1 ? str("feature_", features[0]) : "";
    save(flags, {{label, written.text}}, name, json);
  }
  if (globals.json) {
    emit(globals, json, "");
  } else {
    output.finish();
  }
}

void run(const Globals& globals, Flags& flags) {
  SteeringRecipe recipe;
  if (!flags.recipe.empty()) {
    if (!flags.features.empty() || flags.compare) {
      throw_usage("--recipe names the features; leave out --feature, --strength and --compare");
    }
    recipe = read_recipe(flags.recipe);
    if (flags.where.hook.empty()) flags.where.hook = recipe.hook;
    if (!flags.where.layer && recipe.layer >= 0) flags.where.layer = recipe.layer;
  } else if (!flags.compare) {
    recipe = recipe_of(globals, flags);
  }
  if (flags.prompt.empty() && flags.save_recipe.empty()) {
    throw_usage("--prompt is required: the text to continue");
  }
  const SaeSteering steering = flags.where.open(globals);
  if (!flags.save_recipe.empty()) {
    if (flags.compare) throw_usage("--save-recipe: a comparison is no recipe; leave out --compare");
    check_edits(recipe.edits, steering.sae().d_sae());
    if (recipe.name.empty()) {
      recipe.name = std::filesystem::path(flags.save_recipe).stem().string();
    }
    recipe.model = globals.config.extractor.model.model_name;
    recipe.sae = globals.folder_or(flags.where.sae, "--sae", "autoencoder.output_dir");
    recipe.hook = hook_name(steering.hook().point);
    recipe.layer = steering.hook().layer;
    write_file_atomic(flags.save_recipe, recipe_text(recipe));
    log_info("recipe written to ", flags.save_recipe);
    if (flags.prompt.empty()) {
      emit(globals, {{"recipe", flags.save_recipe}, {"edits", edits_json(recipe)}},
           flags.save_recipe);
      return;
    }
  }
  if (flags.compare) {
    compare(globals, flags, steering);
  } else {
    steer(globals, flags, recipe, steering);
  }
}

}  // namespace

Command steer_command() {
  return {"steer", "Continue a prompt with features added, clamped, scaled or ablated",
          "  drrik steer --sae sae --model assets/demo/model --layer 3 --prompt \"The sea\" "
          "--feature 12 --strength 4\n"
          "  drrik steer --sae sae --model assets/demo/model --layer 3 --prompt \"The sea\" "
          "--feature 12 --compare 0,1,2,3,5 --output steering\n"
          "  drrik steer --sae sae --model assets/demo/model --prompt \"The sea\" "
          "--recipe recipe.json\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            auto flags = std::make_shared<Flags>();
            flags->where.writes = true;
            flags->where.add(app, globals);
            app.add_option("--prompt", flags->prompt, "Text to continue");
            app.add_option("--feature", flags->features, "A feature to edit; may be repeated")
                ->delimiter(',');
            app.add_option("--strength", flags->strengths,
                           "How much of it, one for each --feature (default 1)")
                ->delimiter(',');
            app.add_option("--mode", flags->mode,
                           "What is done to the features: add the strength, clamp to it, scale "
                           "by it, or ablate")
                ->check(CLI::IsMember({"add", "clamp", "scale", "ablate"}))
                ->capture_default_str();
            app.add_option("--positions", flags->positions,
                           "Where: all, prompt, generated, or positions from 0 (0,5,6)")
                ->capture_default_str();
            app.add_option("--compare", flags->compare, "Strengths to write with, side by side");
            app.add_option("--recipe", flags->recipe, "Edits and sampling from a recipe's file")
                ->type_name("FILE");
            app.add_option("--save-recipe", flags->save_recipe,
                           "Write what the flags say as a recipe (docs/steering.md)")
                ->type_name("FILE");
            add_sampling_settings(app, globals);
            app.add_option("--output", flags->output, "Folder for the texts")->type_name("DIR");
            return [&globals, flags] { run(globals, *flags); };
          }};
}

}  // namespace drrik::cli
