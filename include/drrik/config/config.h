#pragma once
// Config: every option of a run, and the one table of fields that drives YAML files, environment
// variables, flags, printing and the reference.
//
// Sources, later wins: defaults, a YAML file, environment variables, command-line flags (set()).
// Plain values only; the command maps them to the options of the other rooms.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/config/environment.h"

namespace drrik {

struct Config {
  struct Model {
    std::string model_name;
    std::string revision = "main";
    std::string torch_dtype = "float16";
    std::string device_map = "auto";
    std::string stream_weights = "auto";
    bool trust_remote_code = false;
  };
  struct Dataset {
    std::string dataset_name;
    std::string dataset_config;
    std::string dataset_revision = "main";
    std::string split = "train";
    std::optional<std::int64_t> shuffle_seed;
    std::int64_t skip = 0;
    std::optional<std::int64_t> num_samples;
    std::string text_column;
    std::int64_t max_length = 512;
    bool add_special_tokens = true;
    std::string bos = "tokenizer";
    bool pack = false;
    std::string sample_by = "line";
  };
  struct Extraction {
    std::vector<std::int64_t> mlp_layers = {0};
    std::string hook = "mlp_out";
    std::string positions = "last";
    std::string store_dtype = "float32";
    std::int64_t batch_size = 0;
    std::int64_t max_batch_tokens = 2048;
    std::string output_dir = "activations";
  };
  struct Extractor {
    Model model;
    Dataset dataset;
    Extraction extraction;
  };
  struct Autoencoder {
    std::string architecture = "relu";
    std::int64_t activation_dim = 0;
    std::int64_t hidden_dim = 0;
    double expansion = 8;
    double l1_coefficient = 0.01;
    bool normalize_decoder = true;
    bool pre_encoder_bias = true;
    // Of the architectures beside relu; null: the architecture's own (docs/architectures.md).
    std::int64_t k = 32;
    std::vector<double> groups;
    std::optional<double> sparsity_coefficient;
    std::optional<double> aux_coefficient;
    std::int64_t aux_k = 0;
    std::optional<double> bandwidth;
    std::optional<double> threshold_init;
    std::string jumprelu_loss = "auto";
    double target_l0 = 32;
    std::string decoder = "auto";
    std::string initial_bias = "auto";
    bool skip = false;
    std::string output_dir = "sae";
  };
  struct Training {
    std::int64_t batch_size = 256;
    std::int64_t num_epochs = 100;
    std::int64_t steps = 0;
    double learning_rate = 1e-4;
    double validation_split = 0.1;
    bool shuffle = true;
    bool resample_dead_neurons = true;
    std::int64_t resample_interval = 10000;
    std::int64_t window_size = 100;
    // Of the architectures beside relu.
    std::string normalize_activations = "expected_average_only_in";
    std::string compute = "float32";
    std::optional<std::int64_t> warmup_steps;
    std::optional<std::int64_t> decay_steps;
    bool cosine = false;
    std::optional<std::int64_t> sparsity_warmup_steps;
    std::optional<double> beta1;
    std::optional<double> beta2;
    double weight_decay = 0;
    std::optional<double> clip_norm;
    std::optional<std::int64_t> dead_steps;
    double checkpoint_minutes = 10;
    std::int64_t checkpoint_steps = 0;
    std::int64_t log_every = 100;
    std::string device = "auto";
  };
  struct Visualization {
    bool enabled = true;
    std::string output_dir = "visualizations";
    std::string style = "light";
    std::int64_t dpi = 150;
    std::string format = "png";
    std::int64_t top_features = 10;
    std::int64_t examples = 10;
    std::int64_t max_text_length = 200;
    std::vector<std::int64_t> features;
  };
  struct Steering {
    bool enabled = true;
    std::vector<std::string> prompts;
    std::optional<std::int64_t> layer;
    std::vector<std::int64_t> features;
    std::vector<double> strengths = {0, 1, 2, 3, 5};
    std::string strength_unit = "absolute";
    std::int64_t max_new_tokens = 50;
    double temperature = 0.8;
    double top_p = 0.9;
    std::int64_t top_k = 0;
    double repetition_penalty = 1;
    std::string output_dir = "steering";
  };

  Extractor extractor;
  Autoencoder autoencoder;
  Training training;
  Visualization visualization;
  Steering steering;
  std::int64_t random_seed = 42;
  std::string log_level = "INFO";
  std::int64_t threads = 0;
  std::string output_dir = ".";
};

/// One option, as help texts and the reference show it.
struct ConfigField {
  std::string path;           ///< "autoencoder.hidden_dim"
  std::string type;           ///< "integer", "number", "true/false", "text", "list of integers"...
  std::string default_value;  ///< As YAML writes it; "null" when there is none.
  std::string help;           ///< Meaning, unit and off value.
  std::vector<std::string> choices;  ///< Permitted texts; empty when any will do.
};

/// All options in the order in which they are printed.
std::vector<ConfigField> config_fields();

/// Sets one option from text. `name` is a full dotted path or any unambiguous end of it
/// ("model_name", "model.model_name"); a full path always wins; "autoencoder.batch_size" and the
/// other training options are accepted under autoencoder too. Case and '-' for '_' do not matter.
/// Lists are "1,2,3" or "[1, 2, 3]"; "null" clears an optional value.
/// Throws Error(usage) for an unknown name (with the nearest one), an ambiguous one (with the
/// candidates) and a wrong type or value; the message starts with `where` when it is not empty.
/// `config` is then unchanged.
void set(Config& config, std::string_view name, std::string_view value,
         std::string_view where = "");

/// The value of an option as set() takes it. Throws Error(usage) as set() does.
std::string get(const Config& config, std::string_view name);

/// Merges YAML text; `where` (a file name) starts every message, followed by the line. Unknown and
/// repeated keys, wrong types, more than one document, nesting deeper than the options go and text
/// over 1 MiB are Error(usage); text that is not YAML is Error(data). `config` is then unchanged.
void merge_yaml(Config& config, std::string_view text, std::string_view where = "YAML");

/// merge_yaml on a file. Throws Error(io) when it cannot be read.
void load_yaml(Config& config, const std::filesystem::path& path);

/// Merges variables named DRIK_<PATH> or DRRIK_<PATH>, with __ between the levels, in any case:
/// DRIK_AUTOENCODER__HIDDEN_DIM=16384. DRRIK_ wins when both are there. Unknown names are
/// Error(usage), except those the build and the tests of drrik use (DRRIK_CCACHE, DRRIK_BUILD_*,
/// DRRIK_TEST_*...).
void apply_environment(Config& config, const Environment& environment);

/// Defaults, then the YAML file (when `path` is not empty), then the environment.
Config load_config(const std::filesystem::path& path, const Environment& environment);

/// Every option as YAML that load_yaml reads back to the same values; with `comments`, each after
/// its help. Holds no credential: those are not options.
std::string to_yaml(const Config& config, bool comments = false);

/// The reference of all options as a Markdown table.
std::string config_reference();

/// A folder option resolved against config.output_dir: absolute ones stay as they are.
std::filesystem::path output_path(const Config& config, std::string_view folder);

/// Creates the folders the run writes to: activations, sae, and where enabled visualizations and
/// steering. Throws Error(io).
void create_output_dirs(const Config& config);

}  // namespace drrik
