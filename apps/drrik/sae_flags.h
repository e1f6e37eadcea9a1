#pragma once
// Flags of the subcommands that use a trained autoencoder.

#include <memory>
#include <string>

#include "drrik/sae/sae.h"
#include "drrik/steer/steering.h"
#include "model_flags.h"

namespace drrik::cli {

/// --sae, --model, --layer, --hook, --dtype: a model with an autoencoder at one of its hooks.
struct SteerFlags {
  std::string sae;
  ModelFlags model;
  std::int64_t layer = 0;
  std::string hook = "mlp_out";
  void add(CLI::App& app);
  SaeSteering open() const;
};

}  // namespace drrik::cli
