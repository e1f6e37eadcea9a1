#include "options.h"

#include "drrik/base/error.h"
#include "drrik/model/hook_names.h"

namespace drrik::cli {
namespace {

DType dtype_option(const std::string& name, const char* option) {
  const auto dtype = find_dtype(name);
  if (!dtype) throw_usage(option, ": '", name, "' is no dtype");
  return *dtype;
}

}  // namespace

Residency parse_residency(const std::string& stream_weights) {
  if (stream_weights == "on") return Residency::kStreamed;
  return stream_weights == "off" ? Residency::kResident : Residency::kAuto;
}

DatasetOptions dataset_options(const Config& config) {
  const Config::Dataset& from = config.extractor.dataset;
  if (from.dataset_name.empty()) throw_usage("no dataset given; --dataset names one");
  DatasetOptions to;
  to.path = from.dataset_name;
  to.config = from.dataset_config;
  to.revision = from.dataset_revision;
  to.split = from.split;
  to.skip = from.skip;
  if (from.shuffle_seed) to.shuffle_seed = static_cast<std::uint64_t>(*from.shuffle_seed);
  to.text_column = from.text_column;
  to.sample_by = parse_sample_by(from.sample_by);
  to.num_samples = from.num_samples.value_or(-1);
  return to;
}

void settle_hook(Globals& globals) {
  Config::Extraction& extraction = globals.config.extractor.extraction;
  if (!names_a_place(extraction.hook)) return;
  const ModelConfig model = read_model_config(resolve_model(globals.config));
  const HookLayers found =
      parse_hook(extraction.hook,
                 globals.layers_given ? extraction.mlp_layers : std::vector<std::int64_t>{}, model);
  extraction.hook = hook_name(found.point);
  if (!found.layers.empty()) extraction.mlp_layers = found.layers;
}

ExtractorOptions extractor_options(const Globals& globals) {
  const Config::Extractor& from = globals.config.extractor;
  ExtractorOptions to;
  if (from.dataset.dataset_name.empty()) throw_usage("no dataset given; --dataset names one");
  resolve_model(globals.config);  // before any work on the dataset
  to.model.model_name = from.model.model_name;
  to.model.revision = from.model.revision;
  to.model.torch_dtype = dtype_option(from.model.torch_dtype, "--dtype");
  to.model.device_map = from.model.device_map;
  to.model.residency = parse_residency(from.model.stream_weights);
  to.model.trust_remote_code = from.model.trust_remote_code;
  to.dataset.dataset_name = from.dataset.dataset_name;
  to.dataset.dataset_config = from.dataset.dataset_config;
  to.dataset.dataset_revision = from.dataset.dataset_revision;
  to.dataset.split = from.dataset.split;
  to.dataset.shuffle_seed = from.dataset.shuffle_seed.value_or(-1);
  to.dataset.skip = from.dataset.skip;
  to.dataset.num_samples = from.dataset.num_samples.value_or(-1);
  to.dataset.text_column = from.dataset.text_column;
  to.dataset.max_length = from.dataset.max_length;
  to.dataset.add_special_tokens = from.dataset.add_special_tokens;
  to.dataset.bos = parse_bos_rule(from.dataset.bos);
  to.dataset.pack = from.dataset.pack;
  to.dataset.sample_by = parse_sample_by(from.dataset.sample_by);
  to.extraction.mlp_layers = from.extraction.mlp_layers;
  to.extraction.hook = parse_hook(from.extraction.hook);
  to.extraction.positions = parse_positions(from.extraction.positions);
  to.extraction.batch_size = from.extraction.batch_size;
  to.extraction.max_batch_tokens = from.extraction.max_batch_tokens;
  to.extraction.store_dtype = dtype_option(from.extraction.store_dtype, "--store-dtype");
  to.extraction.output_dir = globals.folder("extractor.extraction.output_dir");
  to.validate();
  return to;
}

void add_dataset_settings(CLI::App& app, Globals& globals) {
  add_setting(app, globals, "--dataset", "extractor.dataset.dataset_name");
  add_setting(app, globals, "--dataset-config", "extractor.dataset.dataset_config");
  add_setting(app, globals, "--dataset-revision", "extractor.dataset.dataset_revision");
  add_setting(app, globals, "--split", "extractor.dataset.split");
  add_setting(app, globals, "--text-column", "extractor.dataset.text_column");
  add_setting(app, globals, "--sample-by", "extractor.dataset.sample_by");
  add_setting(app, globals, "--shuffle-seed", "extractor.dataset.shuffle_seed");
  add_setting(app, globals, "--skip", "extractor.dataset.skip");
  add_setting(app, globals, "--num-samples", "extractor.dataset.num_samples");
  add_hub_flags(app, globals);
}

void add_bos_settings(CLI::App& app, Globals& globals) {
  CLI::Option* never = add_switch(app, globals, "--no-bos", "extractor.dataset.bos", "never",
                                  "No BOS before a text, even where the tokenizer has one");
  add_switch(app, globals, "--prepend-bos", "extractor.dataset.bos", "always",
             "BOS before every text, also where the tokenizer has none (GPT-2)")
      ->excludes(never);
}

Tokenizer open_tokenizer(const Config& config, ModelPart part) {
  Tokenizer tokenizer = Tokenizer::from_folder(resolve_model(config, part));
  tokenizer.set_bos_rule(parse_bos_rule(config.extractor.dataset.bos));
  return tokenizer;
}

void add_extract_settings(CLI::App& app, Globals& globals) {
  add_setting(app, globals, "--model", "extractor.model.model_name");
  add_setting(app, globals, "--revision", "extractor.model.revision");
  add_dataset_settings(app, globals);
  add_setting(app, globals, "--max-length", "extractor.dataset.max_length");
  add_bos_settings(app, globals);
  add_switch(app, globals, "--pack", "extractor.dataset.pack", "true",
             "Join texts into contexts of --max-length tokens instead of cutting each");
  add_setting(app, globals, "--layers", "extractor.extraction.mlp_layers");
  add_setting(app, globals, "--hook", "extractor.extraction.hook");
  add_setting(app, globals, "--positions", "extractor.extraction.positions");
  add_setting(app, globals, "--batch-size", "extractor.extraction.batch_size");
  add_setting(app, globals, "--dtype", "extractor.model.torch_dtype");
  add_setting(app, globals, "--stream-weights", "extractor.model.stream_weights");
  add_setting(app, globals, "--store-dtype", "extractor.extraction.store_dtype");
}

}  // namespace drrik::cli
