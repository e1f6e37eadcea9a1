#pragma once
// From the configuration's plain values to the options of the library's rooms, and the flags that
// several subcommands share.

#include <memory>
#include <string>

#include "cli.h"
#include "drrik/activations/options.h"
#include "drrik/activations/store.h"
#include "drrik/text/tokenizer.h"

namespace drrik::cli {

/// Of the option stream_weights: "auto", "on", "off".
Residency parse_residency(const std::string& stream_weights);

/// Puts our name in the place of the extraction's hook, however it is spelled, and the layer that
/// it carries in the place of the layers. Throws Error(usage) where other layers were given.
void settle_hook(Globals& globals);

ExtractorOptions extractor_options(const Globals& globals);

/// What --dataset and its companions name. Throws Error(usage) when no dataset is given.
DatasetOptions dataset_options(const Config& config);

/// --dataset, --dataset-config, --split, --text-column, --sample-by, --num-samples.
void add_dataset_settings(CLI::App& app, Globals& globals);

/// --no-bos and --prepend-bos.
void add_bos_settings(CLI::App& app, Globals& globals);

/// The tokenizer of the model that the configuration names, with its rule for BOS. Of a
/// model on the Hub `part` is fetched.
Tokenizer open_tokenizer(const Config& config, ModelPart part = ModelPart::kWhole);

/// --model, --dataset, … of everything that runs a model over a dataset.
void add_extract_settings(CLI::App& app, Globals& globals);

/// Runs an extraction into its output folder.
ActivationMetadata extract_activations(const ExtractorOptions& options, bool resume);
Json activation_json(const ActivationMetadata& metadata, const std::string& folder);

}  // namespace drrik::cli
