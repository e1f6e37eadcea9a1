#pragma once
// Steering recipes: what is done to which features of a model while it writes, as a small JSON file
// that can be shared. docs/steering.md has the format and the formulas.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace drrik {

/// What an edit does to a feature of activation f, by its strength s.
enum class EditMode : std::uint8_t {
  kAdd,    ///< f + s, whether the feature is active or not
  kClamp,  ///< s
  kScale,  ///< s · f
  kAblate  ///< 0; the strength says nothing
};

/// What the strength of kAdd and kClamp counts.
enum class StrengthUnit : std::uint8_t {
  kDecoder,  ///< kAdd: decoder columns as they are stored; kClamp: the feature's activation.
  kMax       ///< The feature's largest activation, which the edit records.
};

/// The positions of the sequence (prompt and what was written after it, BOS at 0) that are edited.
struct EditPositions {
  enum class Kind : std::uint8_t { kAll, kPrompt, kGenerated, kList };
  Kind kind = Kind::kAll;
  std::vector<std::int64_t> list;  ///< kList: ascending, from 0, each once.

  bool contains(std::int64_t position, std::int64_t prompt_size) const;
  friend bool operator==(const EditPositions&, const EditPositions&) = default;
};

struct SteeringEdit {
  std::int64_t feature = 0;
  EditMode mode = EditMode::kAdd;
  double strength = 1.0;
  StrengthUnit unit = StrengthUnit::kDecoder;
  std::optional<double> max_activation;  ///< > 0; kMax needs it.
  EditPositions positions;

  /// The strength in units of the feature (kMax multiplied out).
  double absolute_strength() const;
  friend bool operator==(const SteeringEdit&, const SteeringEdit&) = default;
};

/// How to sample; what is empty is left to whoever runs the recipe.
struct RecipeSampling {
  std::optional<std::int64_t> max_new_tokens;
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<std::int64_t> top_k;
  std::optional<double> repetition_penalty;
  std::optional<std::uint64_t> seed;
  friend bool operator==(const RecipeSampling&, const RecipeSampling&) = default;
};

struct SteeringRecipe {
  std::string name;
  std::string description;
  std::string model;  ///< Names for people: what it was made with. "" unknown.
  std::string sae;
  std::string hook;         ///< In any spelling of docs/hooks.md; "": the autoencoder's own.
  std::int64_t layer = -1;  ///< -1: the autoencoder's own.
  std::vector<SteeringEdit> edits;
  RecipeSampling sampling;
  friend bool operator==(const SteeringRecipe&, const SteeringRecipe&) = default;
};

/// More edits than any use has; bounds what a request can ask for.
constexpr std::size_t kMaxRecipeEdits = 256;

/// Throws Error(usage) for too many edits, a strength or max_activation that is no number, a kMax
/// without max_activation, positions that do not ascend from 0, a feature outside [0, features)
/// where `features` >= 0, or two edits that both say what one feature is to be (all but kAdd) at
/// positions that may be the same.
void check_edits(const std::vector<SteeringEdit>& edits, std::int64_t features = -1);

/// Parses the JSON. Throws Error(data) starting with `what`: syntax, unknown members with the
/// nearest known one, values out of range, and all that check_edits() refuses.
SteeringRecipe parse_recipe(std::string_view text, std::string_view what = "recipe");
/// Throws Error(io) as well.
SteeringRecipe read_recipe(const std::filesystem::path& path);
/// parse_recipe() reads it back as the same recipe. Members that say nothing are left out.
std::string recipe_text(const SteeringRecipe& recipe);

/// "add", "clamp", "scale", "ablate".
std::string_view edit_mode_name(EditMode mode);

}  // namespace drrik
