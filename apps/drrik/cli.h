#pragma once
// What the subcommands share: global flags, registration, output.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "drrik/config/config.h"
#include "drrik/hub/resolve.h"

namespace drrik::cli {

using Json = nlohmann::ordered_json;

/// Flags every subcommand takes, and the configuration they and --config lead to.
struct Globals {
  bool json = false;
  std::string config_file;
  /// Flags that set an option of the configuration: its dotted path and the text given.
  std::vector<std::pair<std::string, std::string>> settings;
  struct {
    std::string cache_dir;
    std::string token;
    bool offline = false;
  } hub;
  /// What the program ends with when nothing was thrown.
  int exit_code = 0;
  /// Defaults, --config, environment and flags, merged before a subcommand runs.
  Config config;
  /// Whether any of them but the defaults named the extraction's layers.
  bool layers_given = false;
  /// The same of the training options whose defaults are the described architecture's.
  bool learning_rate_given = false;
  bool batch_size_given = false;
  bool epochs_given = false;

  std::uint64_t seed() const { return static_cast<std::uint64_t>(config.random_seed); }
  /// Whether a flag set this option.
  bool given(const std::string& path) const;
  /// A folder option: as given where a flag named it, else inside config.output_dir.
  std::string folder(const std::string& path) const;
  /// `flag_value`, or where it is empty and a configuration file is there, that file's `path`.
  /// Throws Error(usage) naming `flag` when neither is.
  std::string folder_or(const std::string& flag_value, const std::string& flag,
                        const std::string& path) const;
};

/// Declares a flag that sets the option `path` of the configuration; help and default come from
/// the table of options.
CLI::Option* add_setting(CLI::App& app, Globals& globals, const std::string& flag,
                         const std::string& path);
/// A flag without a value that sets `path` to `value`.
CLI::Option* add_switch(CLI::App& app, Globals& globals, const std::string& flag,
                        const std::string& path, const std::string& value, const std::string& help);

/// One subcommand. `make` declares its flags on `app`, which lives as long as the program, and
/// returns what runs when it is chosen.
struct Command {
  const char* name;
  const char* summary;
  const char* examples;
  std::function<std::function<void()>(CLI::App& app, Globals& globals)> make;
};

/// The table of subcommands, in the order --help shows them.
const std::vector<Command>& commands();

/// Prints a result: `json` when --json was given, else `text` (with a final newline).
void emit(const Globals& globals, const Json& json, const std::string& text);

/// A prompt and what is written after it, as one text on standard output. The prompt comes with the
/// first piece, so that what is refused prints nothing.
class PromptedOutput {
 public:
  explicit PromptedOutput(std::string prompt) : prompt_(std::move(prompt)) {}
  void write(std::string_view piece);
  /// The prompt, where no piece came, and a newline.
  void finish();

 private:
  std::string prompt_;
  bool begun_ = false;
};

/// "1 2 3" or "1,2,3" -> numbers. Throws Error(usage) naming `flag` and the part that is no number.
std::vector<std::int64_t> parse_integers(const std::string& text, const std::string& flag);
std::vector<double> parse_doubles(const std::string& text, const std::string& flag);

/// --cache-dir and --offline, once for each subcommand.
void add_hub_flags(CLI::App& app, Globals& globals);
/// What the environment, the .env file and the flags say. Throws Error(usage).
HubOptions hub_options(const Globals& globals);

/// The folder of the configured model: a local one, as given, or one from the Hub's cache, fetched
/// when it is not there. Throws as resolve_model_folder().
std::string resolve_model(const Config& config, ModelPart part = ModelPart::kWhole);

// One file each: cmd_<name>.cpp.
Command bench_command();
Command cache_command();
Command completion_command();
Command config_command();
Command convert_command();
Command dashboard_command();
Command data_command();
Command decode_command();
Command download_command();
Command encode_command();
Command eval_command();
Command extract_command();
Command features_command();
Command generate_command();
Command hooks_command();
Command info_command();
Command logits_command();
Command run_command();
Command serve_command();
Command steer_command();
Command sweep_command();
Command tokenize_command();
Command train_command();
Command visualize_command();

}  // namespace drrik::cli
