#include "drrik/steer/recipe.h"

#include <string>

#include "activations/fixture.h"

namespace drrik {
namespace {

std::string with_edit(const std::string& edit) {
  return R"({"format": "drrik-steering-recipe", "version": 1, "edits": [)" + edit + "]}";
}

TEST(Recipe, ReadsBackWhatItWrites) {
  SteeringRecipe recipe;
  recipe.name = "the sea";
  recipe.description = "more \"water\"";
  recipe.model = "demo";
  recipe.sae = "sae";
  recipe.hook = "mlp_out";
  recipe.layer = 3;
  SteeringEdit edit;
  edit.feature = 12;
  edit.strength = 0.1;
  edit.unit = StrengthUnit::kMax;
  edit.max_activation = 3.25;
  recipe.edits.push_back(edit);
  edit.mode = EditMode::kClamp;
  edit.positions = {EditPositions::Kind::kList, {0, 5}};
  recipe.edits.push_back(edit);
  edit.feature = 13;
  edit.mode = EditMode::kAblate;
  edit.strength = 1.0;
  edit.positions = {EditPositions::Kind::kPrompt, {}};
  recipe.edits.push_back(edit);
  edit.mode = EditMode::kScale;
  edit.positions = {EditPositions::Kind::kGenerated, {}};
  recipe.edits.push_back(edit);
  EXPECT_EQ(parse_recipe(recipe_text(recipe)), recipe);
  recipe.sampling = {50, 0.8, 0.9, 0, 1.1, 42};
  EXPECT_EQ(parse_recipe(recipe_text(recipe)), recipe);
  const test::Scratch scratch;
  write_file_atomic(scratch / "r.json", recipe_text(recipe));
  EXPECT_EQ(read_recipe(scratch / "r.json"), recipe);
  EXPECT_EQ(test::error_of([&] { read_recipe(scratch / "none.json"); }).first, ErrorKind::kIo);
}

TEST(Recipe, HasDefaults) {
  const SteeringRecipe recipe = parse_recipe(with_edit(R"({"feature": 3, "strength": 2})"));
  ASSERT_EQ(recipe.edits.size(), 1U);
  SteeringEdit want;
  want.feature = 3;
  want.strength = 2.0;
  EXPECT_EQ(recipe.edits[0], want);
  EXPECT_EQ(recipe.layer, -1);
  EXPECT_EQ(recipe.sampling, RecipeSampling{});
  // In any order, and twice, a position is one position.
  EXPECT_EQ(parse_recipe(with_edit(R"({"feature": 3, "strength": 2, "positions": [5, 0, 5]})"))
                .edits[0]
                .positions.list,
            (std::vector<std::int64_t>{0, 5}));
}

TEST(Recipe, RefusesWithTheNameAndTheNearest) {
  const auto refused = [](const std::string& text, const char* part) {
    EXPECT_ERROR(parse_recipe(text, "r.json"), kData, part);
    EXPECT_ERROR(parse_recipe(text, "r.json"), kData, "r.json");
  };
  refused("{", "line 1");
  refused("[]", "object");
  refused(R"({"version": 1, "edits": []})", "format");
  refused(R"({"format": "other", "version": 1, "edits": []})", "'other'");
  refused(R"({"format": "drrik-steering-recipe", "version": 2, "edits": []})", "version 2");
  refused(R"({"format": "drrik-steering-recipe", "version": 1})", "edits");
  refused(R"({"format": "drrik-steering-recipe", "version": 1, "edits": [], "layr": 1})", "layer");
  refused(R"({"format": "drrik-steering-recipe", "version": 1, "edits": [], "layer": -2})", "-2");
  refused(
      R"({"format": "drrik-steering-recipe", "version": 1, "edits": [], "sampling": {"top_p": 2}})",
      "top_p");
  refused(
      R"({"format": "drrik-steering-recipe", "version": 1, "edits": [], "sampling": {"seed": -1}})",
      "seed");
  refused(with_edit(R"({"strength": 1})"), "feature");
  refused(with_edit(R"({"feature": 1})"), "strength");
  refused(with_edit(R"({"feature": -1, "strength": 1})"), "edits[0]: feature -1");
  refused(with_edit(R"({"feature": 1, "strenght": 1})"), "strength");
  refused(with_edit(R"({"feature": 1, "strength": 1, "mode": "ad"})"), "did you mean 'add'");
  refused(with_edit(R"({"feature": 1, "strength": 1, "unit": "max"})"), "max_activation");
  refused(with_edit(R"({"feature": 1, "strength": 1, "max_activation": 0})"), "above 0");
  refused(with_edit(R"({"feature": 1, "strength": 1e300, "unit": "max", "max_activation": 1e300})"),
          "no number");
  refused(with_edit(R"({"feature": 1, "strength": 1, "positions": "last"})"), "'last'");
  refused(with_edit(R"({"feature": 1, "strength": 1, "positions": [-1]})"), "position -1");
  refused(with_edit(R"({"feature": 1, "strength": 1, "positions": 3})"), "number");
  std::string many = R"({"feature": 0, "strength": 1})";
  for (int i = 0; i < 256; ++i) many += R"(, {"feature": 0, "strength": 1})";
  refused(with_edit(many), "257 edits");
}

TEST(Recipe, OneFeatureIsSetOnce) {
  const auto both = [](const char* a, const char* b) {
    return with_edit(
        std::string(R"({"feature": 7, "mode": "clamp", "strength": 1, "positions": )") + a +
        R"(}, {"feature": 7, "mode": "ablate", "positions": )" + b + "}");
  };
  for (const auto& [a, b] : {std::pair{R"("all")", "[3]"},
                             {"[1, 3]", "[2, 3]"},
                             {R"("prompt")", R"("prompt")"},
                             {R"("prompt")", "[9]"}}) {
    EXPECT_ERROR(parse_recipe(both(a, b)), kData, "edits[0] says already");
  }
  for (const auto& [a, b] : {std::pair{R"("prompt")", R"("generated")"}, {"[1, 3]", "[2, 4]"}}) {
    EXPECT_EQ(parse_recipe(both(a, b)).edits.size(), 2U);
  }
  // Additions add up.
  EXPECT_EQ(parse_recipe(with_edit(R"({"feature": 7, "strength": 1}, {"feature": 7, "strength": 2},
                                      {"feature": 7, "mode": "clamp", "strength": 2})"))
                .edits.size(),
            3U);
}

}  // namespace
}  // namespace drrik
