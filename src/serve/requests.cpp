#include "serve/requests.h"

#include <algorithm>
#include <cmath>

#include "drrik/base/error.h"
#include "io/json.h"

namespace drrik {
namespace {

constexpr int kMaxDepth = 32;
constexpr std::size_t kMaxPrompts = 16;
constexpr std::size_t kMaxStops = 4;
constexpr std::size_t kMaxStopBytes = 256;
constexpr std::size_t kMaxScales = 8;
constexpr std::size_t kMaxFeatures = 256;
constexpr std::size_t kMaxLabelBytes = 4096;
constexpr std::int64_t kMaxSeed = std::int64_t{1} << 53;

const std::string kBody = "body";

Json parse_body(std::string_view body) {
  Json json =
      parse_json(body, kBody, {.max_depth = kMaxDepth, .duplicates = JsonDuplicates::kRefuse});
  expect_object(json, kBody);
  return json;
}

// Members of OpenAI's interface that mean something which is not done here pass with the one value
// that asks for nothing.
void expect_neutral(const Json& json, const char* name, const std::vector<Json>& neutral) {
  const Json* value = find_member(json, name, kBody);
  if (value == nullptr || std::find(neutral.begin(), neutral.end(), *value) != neutral.end()) {
    return;
  }
  throw_data(kBody, ": '", name, "' is not supported",
             neutral.empty() ? "" : str("; wanted ", neutral.front().dump(), " or nothing"));
}

std::vector<std::string> strings(const Json& json, const char* name) {
  const Json* value = find_member(json, name, kBody);
  if (value == nullptr) return {};
  if (value->is_array()) {
    std::vector<std::string> out;
    for (const Json& one : *value) out.push_back(json_string(one, str(kBody, ": '", name, "'")));
    return out;
  }
  return {json_string(*value, str(kBody, ": '", name, "'"))};
}

std::optional<std::int64_t> integer_in(const Json& json, const char* name, std::int64_t low,
                                       std::int64_t high) {
  const auto value = find_int(json, name, kBody);
  if (value && (*value < low || *value > high)) {
    throw_data(kBody, ": '", name, "' is ", *value, ", wanted ", low, " to ", high);
  }
  return value;
}

std::optional<double> number_in(const Json& json, const char* name, double low, double high) {
  const auto value = find_double(json, name, kBody);
  if (value && !(*value >= low && *value <= high)) {
    throw_data(kBody, ": '", name, "' is ", *value, ", wanted ", low, " to ", high);
  }
  return value;
}

SteeringRecipe recipe_of(const Json& json, const RequestLimits& limits) {
  SteeringRecipe recipe = parse_recipe(json_text(json), kBody + ": 'recipe'");
  const auto tokens = recipe.sampling.max_new_tokens;
  if (tokens && *tokens > limits.max_new_tokens) {
    throw_data(kBody, ": 'recipe': max_new_tokens is ", *tokens, ", this server writes at most ",
               limits.max_new_tokens);
  }
  return recipe;
}

}  // namespace

CompletionRequest parse_completion(std::string_view body, const RequestLimits& limits) {
  const Json json = parse_body(body);
  refuse_unknown_members(json,
                         {"model",
                          "prompt",
                          "max_tokens",
                          "temperature",
                          "top_p",
                          "top_k",
                          "repetition_penalty",
                          "seed",
                          "stop",
                          "stream",
                          "stream_options",
                          "user",
                          "recipe",
                          "n",
                          "best_of",
                          "echo",
                          "logprobs",
                          "suffix",
                          "presence_penalty",
                          "frequency_penalty",
                          "logit_bias"},
                         kBody);
  expect_neutral(json, "n", {1});
  expect_neutral(json, "best_of", {1});
  expect_neutral(json, "echo", {false});
  expect_neutral(json, "logprobs", {});
  expect_neutral(json, "suffix", {""});
  expect_neutral(json, "presence_penalty", {0, 0.0});
  expect_neutral(json, "frequency_penalty", {0, 0.0});
  expect_neutral(json, "logit_bias", {Json::object()});
  CompletionRequest out;
  out.model = get_string(json, "model", kBody);
  const Json& prompt = get_member(json, "prompt", kBody);
  if (prompt.is_array() && !prompt.empty() && !prompt.front().is_string()) {
    throw_data(kBody, ": 'prompt' holds ", json_type_name(prompt.front()),
               "; token ids are not taken, wanted a string or an array of strings");
  }
  out.prompts = strings(json, "prompt");
  if (out.prompts.empty() || out.prompts.size() > kMaxPrompts) {
    throw_data(kBody, ": ", out.prompts.size(), " prompts, wanted 1 to ", kMaxPrompts);
  }
  out.max_tokens = integer_in(json, "max_tokens", 0, limits.max_new_tokens);
  out.temperature = number_in(json, "temperature", 0.0, 2.0);
  out.top_p = number_in(json, "top_p", 0.0, 1.0);
  if (out.top_p && *out.top_p == 0.0) out.top_p = 1e-9;  // OpenAI takes 0: the likeliest token
  out.top_k = integer_in(json, "top_k", 0, std::int64_t{1} << 31);
  out.repetition_penalty = number_in(json, "repetition_penalty", 0.01, 100.0);
  if (const auto seed = integer_in(json, "seed", -kMaxSeed, kMaxSeed)) {
    out.seed = static_cast<std::uint64_t>(*seed);
  }
  out.stop = strings(json, "stop");
  if (out.stop.size() > kMaxStops) {
    throw_data(kBody, ": ", out.stop.size(), " stop sequences, at most ", kMaxStops, " are taken");
  }
  for (const std::string& one : out.stop) {
    if (one.empty() || one.size() > kMaxStopBytes) {
      throw_data(kBody, ": 'stop': a sequence of ", one.size(), " bytes, wanted 1 to ",
                 kMaxStopBytes);
    }
  }
  out.stream = get_bool(json, "stream", kBody, false);
  if (const Json* options = find_member(json, "stream_options", kBody)) {
    const std::string where = kBody + ": 'stream_options'";
    refuse_unknown_members(*options, {"include_usage"}, where);
    if (!out.stream) throw_data(where, " are for \"stream\": true");
    out.include_usage = get_bool(*options, "include_usage", where, false);
  }
  out.user = get_string(json, "user", kBody, "").substr(0, 64);
  if (const Json* recipe = find_member(json, "recipe", kBody)) {
    out.recipe = recipe_of(*recipe, limits);
  }
  return out;
}

SteerRequest parse_steer(std::string_view body, const RequestLimits& limits) {
  const Json json = parse_body(body);
  refuse_unknown_members(json, {"prompt", "recipe", "baseline", "scales"}, kBody);
  SteerRequest out;
  out.prompt = get_string(json, "prompt", kBody);
  out.recipe = recipe_of(get_member(json, "recipe", kBody), limits);
  out.baseline = get_bool(json, "baseline", kBody, true);
  out.scales = {1.0};
  if (find_member(json, "scales", kBody) != nullptr) {
    out.scales = get_doubles(json, "scales", kBody);
    if (out.scales.empty() || out.scales.size() > kMaxScales) {
      throw_data(kBody, ": ", out.scales.size(), " scales, wanted 1 to ", kMaxScales);
    }
    std::vector<double> sorted = out.scales;
    std::sort(sorted.begin(), sorted.end());
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
      throw_data(kBody, ": 'scales' has one twice");
    }
  }
  for (const double scale : out.scales) {
    for (SteeringEdit edit : out.recipe.edits) {
      edit.strength *= scale;
      if (!std::isfinite(edit.absolute_strength())) {
        throw_data(kBody, ": 'scales': ", scale, " makes a strength that is no number");
      }
    }
  }
  return out;
}

ActivationsRequest parse_activations(std::string_view body) {
  const Json json = parse_body(body);
  refuse_unknown_members(json, {"text", "top_k", "features"}, kBody);
  ActivationsRequest out;
  out.text = get_string(json, "text", kBody);
  out.top_k = integer_in(json, "top_k", 0, 256).value_or(20);
  if (find_member(json, "features", kBody) != nullptr) {
    out.features = get_ints(json, "features", kBody);
  }
  if (out.features.size() > kMaxFeatures) {
    throw_data(kBody, ": ", out.features.size(), " features, at most ", kMaxFeatures, " are taken");
  }
  return out;
}

std::string parse_label(std::string_view body) {
  const Json json = parse_body(body);
  refuse_unknown_members(json, {"label"}, kBody);
  std::string label = get_string(json, "label", kBody);
  if (label.size() > kMaxLabelBytes) {
    throw_data(kBody, ": 'label' has ", label.size(), " bytes, at most ", kMaxLabelBytes,
               " are kept");
  }
  return label;
}

}  // namespace drrik
