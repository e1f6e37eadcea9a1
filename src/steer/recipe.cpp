#include "drrik/steer/recipe.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "io/json.h"

namespace drrik {
namespace {

constexpr std::string_view kFormat = "drrik-steering-recipe";
constexpr std::int64_t kVersion = 1;
constexpr std::uint64_t kMaxBytes = std::uint64_t{16} << 20;

constexpr std::array<std::string_view, 4> kModes = {"add", "clamp", "scale", "ablate"};
constexpr std::array<std::string_view, 2> kUnits = {"decoder", "max"};
constexpr std::array<std::string_view, 3> kPlaces = {"all", "prompt", "generated"};

template <std::size_t N>
std::size_t choice(const std::array<std::string_view, N>& names, const std::string& name,
                   const std::string& where) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    const std::vector<std::string> known(names.begin(), names.end());
    throw_data(where, ": '", name, "', wanted ", join(known), did_you_mean(name, known));
  }
  return static_cast<std::size_t>(found - names.begin());
}

std::string edit_name(std::size_t index) { return str("edits[", index, "]"); }

EditPositions parse_positions(const Json& json, const std::string& where) {
  EditPositions out;
  if (json.is_string()) {
    out.kind = static_cast<EditPositions::Kind>(choice(kPlaces, json_string(json, where), where));
    return out;
  }
  if (!json.is_array()) {
    throw_data(where, " is ", json_type_name(json), ", wanted ",
               join(std::vector<std::string>(kPlaces.begin(), kPlaces.end())),
               " or an array of positions");
  }
  out.kind = EditPositions::Kind::kList;
  out.list.reserve(json.size());
  for (const Json& one : json) out.list.push_back(json_int(one, where));
  std::sort(out.list.begin(), out.list.end());
  out.list.erase(std::unique(out.list.begin(), out.list.end()), out.list.end());
  return out;
}

SteeringEdit parse_edit(const Json& json, const std::string& where) {
  refuse_unknown_members(
      json, {"feature", "mode", "strength", "unit", "max_activation", "positions"}, where);
  SteeringEdit edit;
  edit.feature = get_int(json, "feature", where);
  edit.mode = static_cast<EditMode>(
      choice(kModes, get_string(json, "mode", where, kModes[0]), where + ": 'mode'"));
  edit.strength = edit.mode == EditMode::kAblate ? get_double(json, "strength", where, 1.0)
                                                 : get_double(json, "strength", where);
  edit.unit = static_cast<StrengthUnit>(
      choice(kUnits, get_string(json, "unit", where, kUnits[0]), where + ": 'unit'"));
  edit.max_activation = find_double(json, "max_activation", where);
  if (const Json* positions = find_member(json, "positions", where)) {
    edit.positions = parse_positions(*positions, where + ": 'positions'");
  }
  return edit;
}

RecipeSampling parse_sampling(const Json& json, const std::string& where) {
  refuse_unknown_members(
      json, {"max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed"},
      where);
  RecipeSampling out;
  out.max_new_tokens = find_int(json, "max_new_tokens", where);
  out.temperature = find_double(json, "temperature", where);
  out.top_p = find_double(json, "top_p", where);
  out.top_k = find_int(json, "top_k", where);
  out.repetition_penalty = find_double(json, "repetition_penalty", where);
  if (const auto seed = find_int(json, "seed", where)) {
    if (*seed < 0) throw_data(where, ": 'seed' is ", *seed, ", wanted at least 0");
    out.seed = static_cast<std::uint64_t>(*seed);
  }
  const auto check = [&](const char* name, bool good, const char* wanted) {
    if (!good) throw_data(where, ": '", name, "' is out of range, wanted ", wanted);
  };
  check("max_new_tokens", out.max_new_tokens.value_or(0) >= 0, "at least 0");
  check("temperature", out.temperature.value_or(0.0) >= 0.0, "at least 0");
  check("top_p", out.top_p.value_or(1.0) > 0.0 && out.top_p.value_or(1.0) <= 1.0, "(0, 1]");
  check("top_k", out.top_k.value_or(0) >= 0, "at least 0");
  check("repetition_penalty", out.repetition_penalty.value_or(1.0) > 0.0, "above 0");
  return out;
}

bool may_meet(const EditPositions& a, const EditPositions& b) {
  using Kind = EditPositions::Kind;
  if (a.kind == Kind::kList && b.kind == Kind::kList) {
    auto left = a.list.begin();
    auto right = b.list.begin();
    while (left != a.list.end() && right != b.list.end()) {
      if (*left == *right) return true;
      ++(*left < *right ? left : right);
    }
    return false;
  }
  // Where the prompt ends is not known here.
  const bool prompt_and_rest = (a.kind == Kind::kPrompt && b.kind == Kind::kGenerated) ||
                               (a.kind == Kind::kGenerated && b.kind == Kind::kPrompt);
  return !prompt_and_rest;
}

void check_positions(const EditPositions& positions, const std::string& where) {
  std::int64_t before = -1;
  for (const std::int64_t position : positions.list) {
    if (position <= before) {
      throw_usage(where, ": position ", position, ", wanted positions from 0 that ascend");
    }
    before = position;
  }
}

void check_edit(const SteeringEdit& edit, std::int64_t features, const std::string& where) {
  if (edit.feature < 0 && features < 0) {
    throw_usage(where, ": feature ", edit.feature, ", wanted at least 0");
  }
  if (features >= 0 && (edit.feature < 0 || edit.feature >= features)) {
    throw_usage(where, ": feature ", edit.feature, " does not exist: the autoencoder has ",
                features, ", 0 to ", features - 1);
  }
  if (!std::isfinite(edit.strength)) {
    throw_usage(where, ": strength ", edit.strength, " is no number");
  }
  const bool counts = edit.mode == EditMode::kAdd || edit.mode == EditMode::kClamp;
  if (edit.unit == StrengthUnit::kMax && counts && !edit.max_activation) {
    throw_usage(where, ": unit 'max' needs max_activation, the feature's largest activation");
  }
  const double max = edit.max_activation.value_or(1.0);
  if (!std::isfinite(max) || max <= 0.0) {
    throw_usage(where, ": max_activation ", max, ", wanted a number above 0");
  }
  if (!std::isfinite(edit.absolute_strength())) {
    throw_usage(where, ": strength ", edit.strength, " times max_activation ", max,
                " is no number");
  }
  check_positions(edit.positions, where);
}

Json edit_json(const SteeringEdit& edit) {
  Json json = {{"feature", edit.feature}, {"mode", edit_mode_name(edit.mode)}};
  if (edit.mode != EditMode::kAblate || edit.strength != 1.0) json["strength"] = edit.strength;
  json["unit"] = kUnits[static_cast<std::size_t>(edit.unit)];
  if (edit.max_activation) json["max_activation"] = *edit.max_activation;
  if (edit.positions.kind == EditPositions::Kind::kList) {
    json["positions"] = edit.positions.list;
  } else {
    json["positions"] = kPlaces[static_cast<std::size_t>(edit.positions.kind)];
  }
  return json;
}

Json sampling_json(const RecipeSampling& sampling) {
  Json json = Json::object();
  const auto put = [&](const char* name, const auto& value) {
    if (value) json[name] = *value;
  };
  put("max_new_tokens", sampling.max_new_tokens);
  put("temperature", sampling.temperature);
  put("top_p", sampling.top_p);
  put("top_k", sampling.top_k);
  put("repetition_penalty", sampling.repetition_penalty);
  put("seed", sampling.seed);
  return json;
}

SteeringRecipe parse(std::string_view text, const std::string& what) {
  const Json json = parse_json(text, what, {.duplicates = JsonDuplicates::kRefuse});
  refuse_unknown_members(json,
                         {"format", "version", "name", "description", "model", "sae", "hook",
                          "layer", "edits", "sampling"},
                         what);
  if (const std::string format = get_string(json, "format", what); format != kFormat) {
    throw_data(what, ": 'format' is '", format, "', wanted '", kFormat, "'");
  }
  if (const std::int64_t version = get_int(json, "version", what); version != kVersion) {
    throw_data(what, ": version ", version, ", this program reads ", kVersion);
  }
  SteeringRecipe recipe;
  recipe.name = get_string(json, "name", what, "");
  recipe.description = get_string(json, "description", what, "");
  recipe.model = get_string(json, "model", what, "");
  recipe.sae = get_string(json, "sae", what, "");
  recipe.hook = get_string(json, "hook", what, "");
  recipe.layer = get_int(json, "layer", what, -1);
  if (recipe.layer < -1) throw_data(what, ": layer ", recipe.layer, ", wanted at least 0");
  const Json& edits = expect_array(get_member(json, "edits", what), what + ": 'edits'");
  if (edits.size() > kMaxRecipeEdits) {
    throw_data(what, ": ", edits.size(), " edits, at most ", kMaxRecipeEdits, " are taken");
  }
  for (std::size_t i = 0; i < edits.size(); ++i) {
    recipe.edits.push_back(parse_edit(edits[i], str(what, ": ", edit_name(i))));
  }
  if (const Json* sampling = find_member(json, "sampling", what)) {
    recipe.sampling = parse_sampling(*sampling, what + ": 'sampling'");
  }
  try {
    check_edits(recipe.edits);
  } catch (const Error& error) {
    throw_data(what, ": ", error.what());
  }
  return recipe;
}

}  // namespace

bool EditPositions::contains(std::int64_t position, std::int64_t prompt_size) const {
  switch (kind) {
    case Kind::kAll:
      return true;
    case Kind::kPrompt:
      return position < prompt_size;
    case Kind::kGenerated:
      return position >= prompt_size;
    case Kind::kList:
      break;
  }
  return std::binary_search(list.begin(), list.end(), position);
}

double SteeringEdit::absolute_strength() const {
  return unit == StrengthUnit::kMax ? strength * max_activation.value_or(1.0) : strength;
}

std::string_view edit_mode_name(EditMode mode) { return kModes[static_cast<std::size_t>(mode)]; }

void check_edits(const std::vector<SteeringEdit>& edits, std::int64_t features) {
  if (edits.size() > kMaxRecipeEdits) {
    throw_usage(edits.size(), " edits, at most ", kMaxRecipeEdits, " are taken");
  }
  for (std::size_t i = 0; i < edits.size(); ++i) {
    check_edit(edits[i], features, edit_name(i));
    if (edits[i].mode == EditMode::kAdd) continue;
    for (std::size_t j = 0; j < i; ++j) {
      if (edits[j].feature != edits[i].feature || edits[j].mode == EditMode::kAdd) continue;
      if (!may_meet(edits[i].positions, edits[j].positions)) continue;
      throw_usage(edit_name(i), ": ", edit_name(j), " says already what feature ", edits[i].feature,
                  " is to be there (", edit_mode_name(edits[j].mode), ")");
    }
  }
}

SteeringRecipe parse_recipe(std::string_view text, std::string_view what) {
  return parse(text, std::string(what));
}

SteeringRecipe read_recipe(const std::filesystem::path& path) {
  return parse(read_file(path, kMaxBytes), path.string());
}

std::string recipe_text(const SteeringRecipe& recipe) {
  Json json = {{"format", kFormat}, {"version", kVersion}};
  const auto put = [&](const char* name, const std::string& value) {
    if (!value.empty()) json[name] = value;
  };
  put("name", recipe.name);
  put("description", recipe.description);
  put("model", recipe.model);
  put("sae", recipe.sae);
  put("hook", recipe.hook);
  if (recipe.layer >= 0) json["layer"] = recipe.layer;
  json["edits"] = Json::array();
  for (const SteeringEdit& edit : recipe.edits) json["edits"].push_back(edit_json(edit));
  Json sampling = sampling_json(recipe.sampling);
  if (!sampling.empty()) json["sampling"] = std::move(sampling);
  return json_text(json, 2) + "\n";
}

}  // namespace drrik
