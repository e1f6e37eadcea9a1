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

struct ModelFlags {
  std::string model;
  std::string dtype = "float32";
  void add(CLI::App& app, bool required = true);
  Model load(ModelOptions options = {}) const;
};

/// The description's defaults: temperature 0.8, top-p 0.9, 50 tokens.
SamplingOptions described_sampling();

struct SamplingFlags {
  SamplingOptions options = described_sampling();
  void add(CLI::App& app);
  SamplingOptions with_seed(const Globals& globals) const;
};

/// Ids of --tokens as one sequence.
TokenBatch token_batch(const std::string& tokens);

/// "max_tokens", "stop", "max_positions" for JSON.
std::string finish_name(FinishReason reason);

}  // namespace drrik::cli
