#pragma once
// Bodies of requests, parsed and checked. All throw Error(data) naming the member that is wrong.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/steer/recipe.h"

namespace drrik {

struct RequestLimits {
  std::int64_t max_new_tokens = 2048;
};

/// What OpenAI's /v1/completions takes, as far as it makes sense here, and a recipe.
struct CompletionRequest {
  std::string model;
  std::vector<std::string> prompts;  ///< At least one, at most 16.
  std::optional<std::int64_t> max_tokens;
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<std::int64_t> top_k;         ///< Ours.
  std::optional<double> repetition_penalty;  ///< Ours.
  std::optional<std::uint64_t> seed;
  std::vector<std::string> stop;  ///< At most 4.
  bool stream = false;
  bool include_usage = false;
  std::string user;
  std::optional<SteeringRecipe> recipe;
};
CompletionRequest parse_completion(std::string_view body, const RequestLimits& limits);

struct SteerRequest {
  std::string prompt;
  SteeringRecipe recipe;
  bool baseline = true;
  std::vector<double> scales;  ///< Of the strengths of additions; 1 to 8, distinct.
};
SteerRequest parse_steer(std::string_view body, const RequestLimits& limits);

struct ActivationsRequest {
  std::string text;
  std::int64_t top_k = 20;             ///< 0 to 256.
  std::vector<std::int64_t> features;  ///< At most 256.
};
ActivationsRequest parse_activations(std::string_view body);

/// {"label": "…"}, at most 4096 bytes; "" takes it away.
std::string parse_label(std::string_view body);

}  // namespace drrik
