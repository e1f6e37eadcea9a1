#pragma once
// Flags of the subcommands that use a trained autoencoder.

#include <memory>
#include <optional>
#include <string>

#include "drrik/sae/io.h"
#include "drrik/steer/steering.h"
#include "model_flags.h"

namespace drrik::cli {

/// The hook of a model that an autoencoder belongs to: what the flags say, else what it records,
/// else mlp_out. Warns where a flag contradicts the record; throws Error(usage) when nothing names
/// the layer, or the flags name two.
Hook hook_of(const std::optional<std::int64_t>& layer, const std::string& hook,
             const SaeRecord& record, const ModelConfig& model);

/// How to write, by the configuration's `steering` group and seed.
SteeredGeneration steered_generation(const Config& config);

/// --sae, --model, --layer, --hook, --dtype: a model with an autoencoder at one of its hooks.
struct SteerFlags {
  std::string sae;
  std::optional<std::int64_t> layer;
  std::string hook;
  /// Whether the recorded hook is a transcoder's output (steer) or its input.
  bool writes = false;
  void add(CLI::App& app, Globals& globals);
  /// `record`: what the autoencoder's files say, where wanted.
  SaeSteering open(const Globals& globals, SaeRecord* record = nullptr) const;
};

}  // namespace drrik::cli
