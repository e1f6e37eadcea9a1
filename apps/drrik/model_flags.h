#pragma once
// Flags of the subcommands that run a model.

#include <string>

#include "cli.h"
#include "drrik/model/generate.h"
#include "drrik/model/model.h"

namespace drrik::cli {

/// "float32", "bfloat16" or "float16" (whose weights are widened exactly, so products are float32).
/// Throws Error(usage) otherwise.
Compute parse_compute(const std::string& dtype);

/// Help of a --hook flag: the spellings that are accepted.
std::string hook_help();

/// --model and --dtype, which set options of the configuration.
void add_model_settings(CLI::App& app, Globals& globals);
/// The model that the configuration names. Throws Error(usage) when it names none.
Model load_model(const Config& config, ModelOptions options = {});

/// --max-new-tokens, --temperature, …: the options of `steering`, which start at the description's
/// values (temperature 0.8, top-p 0.9, 50 tokens).
void add_sampling_settings(CLI::App& app, Globals& globals);

/// Ids of --tokens as one sequence.
TokenBatch token_batch(const std::string& tokens);

/// "max_tokens", "stop", "max_positions" for JSON.
std::string finish_name(FinishReason reason);

}  // namespace drrik::cli
