#pragma once
// Flags of what makes a dashboard: `drrik dashboard`, `drrik bench dashboard`.

#include <optional>
#include <string>

#include "cli.h"
#include "drrik/viz/dashboard.h"

namespace drrik::cli {

struct DashboardFlags {
  std::string sae;
  std::optional<std::int64_t> layer;
  std::string hook;
  std::string output_hook;
  std::string title;
  std::int64_t tokens = DashboardOptions{}.tokens;
  bool include_special = false;
  bool no_pack = false;
  DashboardOptions sizes;

  void add(CLI::App& app, Globals& globals);
  DashboardOptions options(const Globals& globals) const;
  /// Loads model, tokenizer and autoencoder; fills the names to show. Throws Error(usage), and as
  /// the loaders do.
  DashboardInputs open(const Globals& globals, DashboardOptions& options) const;
};

}  // namespace drrik::cli
