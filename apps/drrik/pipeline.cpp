#include "pipeline.h"

#include <cmath>
#include <cstdio>
#include <filesystem>

#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/log.h"
#include "drrik/base/system.h"
#include "drrik/base/threads.h"
#include "drrik/hub/resolve.h"
#include "drrik/ops/convert.h"
#include "drrik/sae/io.h"
#include "drrik/sae/sparse_coder.h"
#include "options.h"

namespace drrik::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCheckpoint = "checkpoint.safetensors";

FitOptions fit_options(const Config& config) {
  const Config::Training& from = config.training;
  FitOptions to;
  to.batch_size = from.batch_size;
  to.epochs = from.num_epochs;
  to.steps = from.steps;
  to.learning_rate = from.learning_rate;
  to.validation_split = from.validation_split;
  to.shuffle = from.shuffle;
  to.resample_dead_neurons = from.resample_dead_neurons;
  to.resample_interval = from.resample_interval;
  to.window_size = from.window_size;
  to.seed = static_cast<std::uint64_t>(config.random_seed);
  return to;
}

// Where training starts, and whether its tied bias is given rather than left to the median.
struct Start {
  ReluSae sae;
  bool has_bias = false;
};

// Weights of `init` under the run's own hyper-parameters.
Start from_init(const std::string& init, ReluSaeConfig config, bool hidden_given) {
  const auto loaded = load_relu_sae(init);
  if (loaded->d_in() != config.activation_dim) {
    throw_data("--init '", init, "' takes activations ", loaded->d_in(), " wide, these are ",
               config.activation_dim);
  }
  if (hidden_given && loaded->d_sae() != config.hidden_dim) {
    throw_data("--init '", init, "' has ", loaded->d_sae(), " latents, --hidden-dim says ",
               config.hidden_dim);
  }
  config.hidden_dim = loaded->d_sae();
  ReluSae sae(config);
  copy(std::as_const(*loaded).encoder(), sae.encoder());
  copy(std::as_const(*loaded).decoder(), sae.decoder());
  std::ranges::copy(std::as_const(*loaded).encoder_bias(), sae.encoder_bias().begin());
  if (config.pre_encoder_bias) {
    std::ranges::copy(std::as_const(*loaded).bias(), sae.bias().begin());
  }
  return {std::move(sae), loaded->config().pre_encoder_bias};
}

std::int64_t hidden_dim_of(const Config::Autoencoder& from, std::int64_t width) {
  if (from.hidden_dim > 0) return from.hidden_dim;
  return static_cast<std::int64_t>(std::llround(from.expansion * static_cast<double>(width)));
}

Start start_of(const Config& config, const TrainJob& job, std::int64_t width) {
  const Config::Autoencoder& from = config.autoencoder;
  if (from.architecture != "relu") {
    std::vector<std::string> known = sparse_coder_architectures();
    known.insert(known.begin(), "relu");
    throw_usage("--arch: '", from.architecture, "' is unknown; wanted ", join(known),
                did_you_mean(from.architecture, known));
  }
  if (from.activation_dim != 0 && from.activation_dim != width) {
    throw_data("autoencoder.activation_dim is ", from.activation_dim, ", the activations are ",
               width, " wide");
  }
  const bool hidden_given = from.hidden_dim > 0;
  ReluSaeConfig made;
  made.activation_dim = width;
  made.hidden_dim = hidden_dim_of(from, width);
  made.l1_coefficient = from.l1_coefficient;
  made.normalize_decoder = from.normalize_decoder;
  made.pre_encoder_bias = from.pre_encoder_bias;
  if (!job.init.empty()) return from_init(job.init, made, hidden_given);
  Rng rng(static_cast<std::uint64_t>(config.random_seed));
  return {ReluSae::random(made, rng), false};
}

SaeRecord provenance(const Config& config, const TrainJob& job) {
  SaeRecord record;
  record.facts["drrik_version"] = version();
  record.facts["trained_at"] = utc_timestamp();
  record.facts["activations"] = job.activations;
  record.facts["seed"] = std::to_string(config.random_seed);
  record.facts["threads"] = std::to_string(num_threads());
  record.facts["batch_size"] = std::to_string(config.training.batch_size);
  record.facts["learning_rate"] = str(config.training.learning_rate);
  record.facts["validation_split"] = str(config.training.validation_split);
  record.facts["num_epochs"] = std::to_string(config.training.num_epochs);
  record.facts["max_steps"] = std::to_string(config.training.steps);
  record.facts["shuffle"] = config.training.shuffle ? "true" : "false";
  record.facts["resample_dead_neurons"] = config.training.resample_dead_neurons ? "true" : "false";
  if (!job.init.empty()) record.facts["init"] = job.init;
  if (!is_activation_store(job.activations)) return record;
  const ActivationMetadata metadata = load_activation_metadata(job.activations, WithSamples::kNo);
  const ExtractorOptions& options = metadata.config;
  record.model_name = options.model.model_name;
  record.dataset = options.dataset.dataset_name;
  record.context_size = options.dataset.max_length;
  record.hook_name = hook_name(options.extraction.hook);
  if (options.extraction.mlp_layers.size() == 1) {
    record.layer = options.extraction.mlp_layers[0];
    if (metadata.lens_names.size() == 1) record.foreign_hook_name = metadata.lens_names[0];
  }
  record.facts["positions"] = positions_name(options.extraction.positions);
  record.facts["layer_paths"] = join(metadata.layer_paths);
  return record;
}

// A finished run is done only for the settings it was made with. Returns its number of latents.
std::int64_t check_same_run(const Config& config, const TrainJob& job, std::int64_t width) {
  SaeRecord was;
  const auto sae = load_relu_sae(job.output, &was);
  const auto expect = [&](const char* what, const std::string& before, const std::string& now) {
    if (before == now) return;
    throw_usage("'", job.output, "' was finished with ", what, " ", before, ", wanted ", now,
                "; without --resume it is trained anew, or name another --output");
  };
  const SaeRecord wanted = provenance(config, job);
  for (const char* name : {"seed", "batch_size", "learning_rate", "validation_split", "num_epochs",
                           "max_steps", "shuffle", "resample_dead_neurons"}) {
    const auto found = was.facts.find(name);
    if (found != was.facts.end()) expect(name, found->second, wanted.facts.at(name));
  }
  const Config::Autoencoder& from = config.autoencoder;
  const auto yes_no = [](bool value) { return std::string(value ? "true" : "false"); };
  if (job.init.empty()) {
    expect("hidden_dim", std::to_string(sae->d_sae()), std::to_string(hidden_dim_of(from, width)));
  }
  expect("l1_coefficient", str(sae->config().l1_coefficient), str(from.l1_coefficient));
  expect("normalize_decoder", yes_no(sae->config().normalize_decoder),
         yes_no(from.normalize_decoder));
  expect("pre_encoder_bias", yes_no(sae->config().pre_encoder_bias), yes_no(from.pre_encoder_bias));
  return sae->d_sae();
}

Json numbers(const std::vector<double>& values) {
  Json list = Json::array();
  for (const double value : values) list.push_back(number_or_null(value));
  return list;
}

}  // namespace

Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Trained train_autoencoder(const Config& config, const TrainJob& job) {
  if (job.output.empty()) throw_usage("no output folder given; --output DIR names one");
  const auto rows = open_row_source(job.activations);
  Trained trained;
  FitOptions options = fit_options(config);
  options.checkpoint = fs::path(job.output) / kCheckpoint;
  options.resume = job.resume && fs::exists(options.checkpoint);
  if (job.resume && !options.resume && is_sae_path(job.output) &&
      fs::exists(fs::path(job.output) / "drrik.json")) {
    trained.hidden_dim = check_same_run(config, job, rows->dim());
    log_info(job.output, ": training was finished before; nothing to resume");
    trained.already_complete = true;
    return trained;
  }
  Start start = start_of(config, job, rows->dim());
  ReluSae& sae = start.sae;
  options.initialize_bias = !start.has_bias;
  trained.hidden_dim = sae.d_sae();
  create_folders(job.output);
  FitCallbacks callbacks;
  if (job.record_steps) {
    callbacks.on_step = [&](const StepRecord& step) { trained.steps.push_back(step); };
  }
  callbacks.on_resample = [](std::int64_t step, const std::vector<std::int64_t>& latents) {
    log_info("step ", step, ": resampled ", latents.size(), " dead latents");
  };
  try {
    trained.fit = fit(sae, *rows, options, callbacks);
  } catch (Error& error) {
    if (error.kind() == ErrorKind::kInterrupted && fs::exists(options.checkpoint)) {
      throw Error(error.kind(), str(error.what(), "; the checkpoint is in '", job.output,
                                    "': the same command with --resume continues it"));
    }
    throw;
  }
  SaeRecord record = provenance(config, job);
  record.history = trained.fit.history;
  record.metrics = trained.fit.metrics();
  record.facts["steps"] = std::to_string(trained.fit.steps);
  record.facts["train_rows"] = std::to_string(trained.fit.train_rows);
  save_sae(sae, record, job.output);
  if (!job.export_pt.empty()) save_torch_sae(sae, record, job.export_pt);
  fs::remove(options.checkpoint);  // the weights are safe; the moments are of no more use
  return trained;
}

Json training_json(const Trained& trained, const std::string& output) {
  Json json{{"output", output}, {"hidden_dim", trained.hidden_dim}};
  if (trained.already_complete) {
    json["already_complete"] = true;
    return json;
  }
  const FitResult& fit = trained.fit;
  json["steps"] = fit.steps;
  json["epochs"] = fit.epochs;
  json["train_rows"] = fit.train_rows;
  json["validation_rows"] = fit.validation_rows;
  json["seconds"] = fit.seconds;
  json["rows_per_second"] = fit.rows_per_second;
  json["resampled"] = fit.resampled;
  for (const auto& [name, value] : fit.metrics()) {
    const bool count = name.starts_with("n_");
    json[name] = count ? Json(std::llround(value)) : number_or_null(value);
  }
  json["training_losses"] = numbers(fit.history.training_losses);
  json["training_l0_norms"] = numbers(fit.history.training_l0_norms);
  json["validation_losses"] = numbers(fit.history.validation_losses);
  json["validation_l0_norms"] = numbers(fit.history.validation_l0_norms);
  if (!trained.steps.empty()) {
    Json losses = Json::array();
    Json mse = Json::array();
    Json l0 = Json::array();
    for (const StepRecord& step : trained.steps) {
      losses.push_back(number_or_null(step.loss.loss));
      mse.push_back(number_or_null(step.loss.mse));
      l0.push_back(number_or_null(step.loss.l0));
    }
    json["step_losses"] = losses;
    json["step_mse"] = mse;
    json["step_l0"] = l0;
  }
  return json;
}

std::vector<std::vector<std::int32_t>> tokenize_dataset(const Config& config,
                                                        const Tokenizer& tokenizer,
                                                        std::int64_t max_texts) {
  const Config::Dataset& dataset = config.extractor.dataset;
  DatasetOptions options = dataset_options(config);
  options.num_samples = max_texts;
  const auto source = open_dataset(options);
  const EncodeOptions encode{.add_special_tokens = dataset.add_special_tokens,
                             .max_length = dataset.max_length};
  std::vector<std::vector<std::int32_t>> sequences;
  while (auto sample = source->next()) {
    check_interrupt("reading the dataset");
    sequences.push_back(tokenizer.encode(sample->text, encode));
  }
  return sequences;
}

std::shared_ptr<const Tokenizer> tokenizer_of(const ActivationMetadata& metadata) {
  const auto& model = metadata.config.model;
  const auto folder = find_model_folder(model.model_name, model.revision, ModelPart::kTokenizer);
  if (!folder || !Tokenizer::is_in(*folder)) return nullptr;
  return std::make_shared<const Tokenizer>(Tokenizer::from_folder(*folder));
}

RowLabeler labeler_for(const std::string& activations) {
  if (!is_activation_store(activations)) return row_number_labeler();
  auto metadata = std::make_shared<const ActivationMetadata>(load_activation_metadata(activations));
  return activation_labeler(metadata, tokenizer_of(*metadata));
}

VisualizerOptions visualizer_options(const Globals& globals) {
  const Config& config = globals.config;
  VisualizerOptions options;
  options.output_dir = globals.folder("visualization.output_dir");
  options.style = parse_figure_style(config.visualization.style);
  options.format = parse_figure_format(config.visualization.format);
  options.dpi = static_cast<int>(config.visualization.dpi);
  options.max_text_length = config.visualization.max_text_length;
  return options;
}

TrainingCurves training_curves(const SaeHistory& history) {
  return {history.training_losses, history.validation_losses, history.training_l0_norms,
          history.validation_l0_norms};
}

}  // namespace drrik::cli
