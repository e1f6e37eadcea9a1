#include "model_flags.h"

#include <algorithm>

#include "drrik/base/error.h"
#include "drrik/tensor/dtype.h"
#include "options.h"

namespace drrik::cli {

Compute parse_compute(const std::string& dtype) {
  const auto found = find_dtype(dtype);
  if (found == DType::kBF16) return Compute::kBF16;
  if (found == DType::kF32 || found == DType::kF16) return Compute::kF32;
  const std::vector<std::string> names = {"float32", "bfloat16", "float16"};
  throw_usage("--dtype: got '", dtype, "', wanted ", join(names), did_you_mean(dtype, names));
}

std::string hook_help() {
  return join(hook_names()) + "; or blocks.3.hook_mlp_out, model.layers[3].mlp and their like";
}

void add_model_settings(CLI::App& app, Globals& globals) {
  add_setting(app, globals, "--model", "extractor.model.model_name");
  add_setting(app, globals, "--revision", "extractor.model.revision");
  add_setting(app, globals, "--dtype", "extractor.model.torch_dtype");
  add_setting(app, globals, "--stream-weights", "extractor.model.stream_weights");
  add_hub_flags(app, globals);
}

Model load_model(const Config& config, ModelOptions options) {
  options.residency = parse_residency(config.extractor.model.stream_weights);
  options.compute = parse_compute(config.extractor.model.torch_dtype);
  return Model::load(resolve_model(config), options);
}

void add_sampling_settings(CLI::App& app, Globals& globals) {
  add_setting(app, globals, "--max-new-tokens", "steering.max_new_tokens");
  add_setting(app, globals, "--temperature", "steering.temperature");
  add_setting(app, globals, "--top-p", "steering.top_p");
  add_setting(app, globals, "--top-k", "steering.top_k");
  add_setting(app, globals, "--repetition-penalty", "steering.repetition_penalty");
}

TokenBatch token_batch(const std::string& tokens) {
  TokenBatch batch;
  std::vector<std::int32_t> ids;
  // As `drrik tokenize` prints them, or bare.
  std::string text = tokens;
  std::ranges::replace_if(
      text, [](char c) { return c == '[' || c == ']'; }, ' ');
  for (const std::int64_t id : parse_integers(text, "--tokens")) {
    if (id < 0 || id > INT32_MAX) throw_usage("--tokens: ", id, " is not a token id");
    ids.push_back(static_cast<std::int32_t>(id));
  }
  if (ids.empty()) throw_usage("--tokens: got no ids");
  batch.append(ids);
  return batch;
}

std::string finish_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStopId:
      return "stop";
    case FinishReason::kMaxPositions:
      return "max_positions";
    case FinishReason::kCallback:
      return "cancelled";
    case FinishReason::kMaxTokens:
      break;
  }
  return "max_tokens";
}

}  // namespace drrik::cli
