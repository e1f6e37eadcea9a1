#include "dashboard_flags.h"

#include <filesystem>

#include "drrik/base/error.h"
#include "drrik/model/hook_names.h"
#include "options.h"
#include "sae_flags.h"

namespace drrik::cli {
namespace {

namespace fs = std::filesystem;

// The last part of a path, for people: "models/gpt2/" is "gpt2". A Hub id keeps its owner.
std::string shown_name(const std::string& name) {
  std::error_code ignored;
  if (!fs::exists(name, ignored)) return name;
  fs::path path = fs::absolute(name).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  const std::string last = path.filename().string();
  // assets/demo/model says more than model.
  return last == "model" ? path.parent_path().filename().string() + "/" + last : last;
}

}  // namespace

void DashboardFlags::add(CLI::App& app, Globals& globals) {
  app.add_option("--sae", sae, "Autoencoder: a folder or a file of any known format");
  add_model_settings(app, globals);
  add_dataset_settings(app, globals);
  add_bos_settings(app, globals);
  add_setting(app, globals, "--max-length", "extractor.dataset.max_length");
  app.add_flag("--no-pack", no_pack,
               "Cut each text at --max-length instead of joining texts into contexts of it");
  app.add_option("--tokens", tokens, "Tokens to read features on; 0: the whole dataset")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_flag("--include-special", include_special,
               "Read features on BOS, EOS and other special tokens too");
  app.add_option("--layer", layer, "Layer (default: what the autoencoder records)");
  app.add_option("--hook", hook, hook_help() + " (default: what it records)");
  app.add_option("--output-hook", output_hook,
                 "Where a transcoder's output goes (default: what it records)");
  app.add_option("--title", title, "Title of the page");
  const auto size = [&](const char* flag, std::int64_t& value, const char* help) {
    app.add_option(flag, value, help)->capture_default_str()->check(CLI::NonNegativeNumber);
  };
  size("--before", sizes.examples.before, "Tokens of an example in front of the one it is about");
  size("--after", sizes.examples.after, "And behind it");
  size("--top", sizes.examples.top, "Strongest examples of a feature");
  size("--bands", sizes.examples.bands, "Parts of the range of activations to sample from");
  size("--band-examples", sizes.examples.band_examples, "Examples sampled of each");
  size("--lens-tokens", sizes.lens_tokens, "Promoted and suppressed tokens; 0: no logit lens");
  size("--nearest", sizes.nearest, "Features of the most similar decoder directions");
  size("--coactive", sizes.coactive, "Features that fire on the same tokens");
  size("--neurons", sizes.neurons, "Neurons that a feature uses");
}

DashboardOptions DashboardFlags::options(const Globals& globals) const {
  DashboardOptions out = sizes;
  // Only what a dataset is; the extraction's layers and hook are the autoencoder's here.
  out.dataset = extractor_options(globals).dataset;
  out.dataset.pack = !no_pack;
  out.tokens = tokens == 0 ? -1 : tokens;
  out.drop_special_tokens = !include_special;
  out.examples.seed = globals.seed();
  out.title = title;
  out.model_name = shown_name(globals.config.extractor.model.model_name);
  out.validate();
  return out;
}

DashboardInputs DashboardFlags::open(const Globals& globals, DashboardOptions& options) const {
  const std::string path = globals.folder_or(sae, "--sae", "autoencoder.output_dir");
  LoadedSae loaded = load_sae_with_record(path);
  const std::string folder = resolve_model(globals.config);
  const ModelConfig config = read_model_config(folder);
  DashboardInputs inputs;
  inputs.hook = hook_of(layer, hook, loaded.record, config);
  if (!output_hook.empty()) {
    const NamedHook named = parse_hook(output_hook, config);
    inputs.output = Hook{named.point, named.layer.value_or(inputs.hook.layer)};
  } else if (!loaded.record.foreign_hook_name_out.empty()) {
    const NamedHook named = parse_hook(loaded.record.foreign_hook_name_out, config);
    inputs.output = Hook{named.point, named.layer.value_or(inputs.hook.layer)};
  }
  inputs.tokenizer = std::make_shared<const Tokenizer>(open_tokenizer(globals.config));
  inputs.model = std::make_shared<const Model>(load_model(globals.config));
  inputs.sae = std::shared_ptr<const Sae>(std::move(loaded.sae));
  inputs.record = std::move(loaded.record);
  std::error_code ignored;
  for (const char* log : {"train_log.jsonl", "metrics.jsonl"}) {  // the tracker's says more
    if (fs::is_regular_file(fs::path(path) / log, ignored))
      inputs.metrics_log = fs::path(path) / log;
  }
  options.sae_name = shown_name(path);
  return inputs;
}

}  // namespace drrik::cli
