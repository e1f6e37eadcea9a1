#include "model_flags.h"

#include "drrik/base/error.h"
#include "drrik/tensor/dtype.h"

namespace drrik::cli {

Compute parse_compute(const std::string& dtype) {
  const auto found = find_dtype(dtype);
  if (found == DType::kBF16) return Compute::kBF16;
  if (found == DType::kF32 || found == DType::kF16) return Compute::kF32;
  const std::vector<std::string> names = {"float32", "bfloat16", "float16"};
  throw_usage("--dtype: got '", dtype, "', wanted ", join(names), did_you_mean(dtype, names));
}

void ModelFlags::add(CLI::App& app, bool required) {
  app.add_option("--model", model, "Model folder in HuggingFace layout")->required(required);
  app.add_option("--dtype", dtype, "Precision of the products: float32, bfloat16 or float16")
      ->capture_default_str();
}

Model ModelFlags::load(ModelOptions options) const {
  options.compute = parse_compute(dtype);
  return Model::load(resolve_model(model), options);
}

SamplingOptions described_sampling() {
  SamplingOptions options;
  options.temperature = 0.8;
  options.top_p = 0.9;
  return options;
}

void SamplingFlags::add(CLI::App& app) {
  app.add_option("--max-new-tokens", options.max_new_tokens, "Tokens to write at most")
      ->capture_default_str();
  app.add_option("--temperature", options.temperature, "0 is greedy")->capture_default_str();
  app.add_option("--top-p", options.top_p, "Nucleus; 1 is off")->capture_default_str();
  app.add_option("--top-k", options.top_k, "Keep so many tokens; 0 is off")->capture_default_str();
  app.add_option("--repetition-penalty", options.repetition_penalty, "1 is off")
      ->capture_default_str();
}

SamplingOptions SamplingFlags::with_seed(const Globals& globals) const {
  SamplingOptions result = options;
  result.seed = globals.seed();
  result.validate();
  return result;
}

TokenBatch token_batch(const std::string& tokens) {
  TokenBatch batch;
  std::vector<std::int32_t> ids;
  for (const std::int64_t id : parse_integers(tokens, "--tokens")) {
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
