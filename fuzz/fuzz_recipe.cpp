// Any bytes as a steering recipe: one that is written and read back the same, or Error(data).

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "drrik/base/error.h"
#include "drrik/steer/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const drrik::SteeringRecipe recipe = drrik::parse_recipe(text);
    if (!(drrik::parse_recipe(drrik::recipe_text(recipe)) == recipe)) __builtin_trap();
  } catch (const drrik::Error& error) {
    if (error.kind() != drrik::ErrorKind::kData) __builtin_trap();
  }
  return 0;
}
