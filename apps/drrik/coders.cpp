#include "coders.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <utility>

#include "drrik/activations/live_stream.h"
#include "drrik/activations/row_source.h"
#include "drrik/activations/row_stream.h"
#include "drrik/activations/store.h"
#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "drrik/base/system.h"
#include "drrik/base/threads.h"
#include "drrik/eval/metrics.h"
#include "drrik/sae/io.h"
#include "drrik/train/normalization.h"
#include "drrik/train/recommended.h"
#include "options.h"
#include "ranks.h"

namespace drrik::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCheckpoint = "checkpoint.safetensors";
constexpr const char* kLog = "train_log.jsonl";
constexpr std::int64_t kBatch = 4096;
constexpr std::int64_t kScaleRows = std::int64_t{1} << 14;  // that the input's scale is found on

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// One way of setting the options that a sweep varies.
struct Variation {
  Config config;
  std::string name;  // "_k16_seed2"; empty without a sweep
};

// "training.learning_rate" -> "learning_rate", and the names people use.
std::string short_name(const std::string& key) {
  const std::string last = key.substr(key.rfind('.') + 1);
  if (last == "random_seed") return "seed";
  if (last == "learning_rate") return "lr";
  if (last == "hidden_dim") return "h";
  return last;
}

std::string option_name(const std::string& key) {
  if (key == "arch") return "autoencoder.architecture";
  if (key == "seed") return "random_seed";
  if (key == "lr") return "training.learning_rate";
  return key;
}

std::string name_part(const std::string& key, const std::string& value) {
  std::string part = short_name(key) + value;
  for (char& c : part) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-';
    if (!plain) c = '-';
  }
  return part;
}

std::vector<std::string> split(const std::string& text, char at_char) {
  std::vector<std::string> parts;
  std::size_t from = 0;
  while (true) {
    const std::size_t to = text.find(at_char, from);
    parts.push_back(text.substr(from, to - from));
    if (to == std::string::npos) return parts;
    from = to + 1;
  }
}

// Options that belong to the run and not to one coder.
bool shared_by_all(const std::string& path) {
  for (const char* shared :
       {"training.batch_size", "training.steps", "training.num_epochs", "training.shuffle",
        "training.validation_split", "training.normalize_activations", "training.log_every",
        "training.checkpoint_minutes", "training.checkpoint_steps"}) {
    if (path == shared) return true;
  }
  return !path.starts_with("autoencoder.") && !path.starts_with("training.") &&
         path != "random_seed";
}

std::vector<Variation> variations(const Config& config, const std::vector<std::string>& sweep) {
  std::vector<Variation> all = {{config, ""}};
  for (const std::string& text : sweep) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw_usage("--sweep '", text, "': wanted OPTION=VALUE,VALUE, for example k=16,32,64");
    }
    const std::string key = option_name(text.substr(0, equals));
    // The full path, so that what cannot vary is told.
    std::string path;
    for (const ConfigField& field : config_fields()) {
      const bool ends =
          field.path == key || (field.path.size() > key.size() && field.path.ends_with("." + key));
      if (ends) path = field.path;
    }
    if (!path.empty() && shared_by_all(path)) {
      throw_usage("--sweep ", text, ": ", path, " is the same for all coders of a run");
    }
    std::vector<Variation> next;
    for (const Variation& before : all) {
      for (const std::string& value : split(text.substr(equals + 1), ',')) {
        Variation made = before;
        set(made.config, key, value, "--sweep " + text + ": ");
        // The architecture stands in front of every name anyway.
        if (path != "autoencoder.architecture") {
          made.name += "_" + name_part(text.substr(0, equals), value);
        }
        next.push_back(std::move(made));
      }
    }
    all = std::move(next);
  }
  return all;
}

SparsityOptions::JumpRelu parse_jumprelu(const std::string& name) {
  if (name == "l0") return SparsityOptions::JumpRelu::kL0;
  if (name == "target") return SparsityOptions::JumpRelu::kTarget;
  if (name == "quadratic") return SparsityOptions::JumpRelu::kQuadratic;
  return SparsityOptions::JumpRelu::kTanh;
}

// A job of what the configuration says, the rest as recommended.
CoderJob job_of(const Globals& globals, const Config& config, std::int64_t d_in,
                std::int64_t steps) {
  const Config::Autoencoder& from = config.autoencoder;
  const Config::Training& training = config.training;
  const std::int64_t d_sae =
      from.hidden_dim > 0
          ? from.hidden_dim
          : static_cast<std::int64_t>(std::llround(from.expansion * static_cast<double>(d_in)));
  CoderJob job = recommended_job(from.architecture, d_in, d_sae, steps);
  CoderTraining& t = job.training;
  job.seed = static_cast<std::uint64_t>(config.random_seed);
  job.config.k = std::min(from.k, d_sae);
  job.config.apply_b_dec_to_input = from.pre_encoder_bias;
  job.config.skip = from.skip;
  if (from.architecture == "matryoshka") {
    std::vector<double> shares = from.groups;
    if (shares.empty()) shares = {1.0 / 16, 1.0 / 8, 1.0 / 4, 1.0 / 2, 1.0};
    for (const double share : shares) {
      const auto end = static_cast<std::int64_t>(std::llround(share * static_cast<double>(d_sae)));
      if (end > (job.config.groups.empty() ? 0 : job.config.groups.back())) {
        job.config.groups.push_back(end);
      }
    }
  }
  if (from.architecture == "jumprelu" && from.jumprelu_loss != "auto") {
    recommend_jumprelu(parse_jumprelu(from.jumprelu_loss), steps, job);
  }
  t.sparsity.target_l0 = from.target_l0;
  if (from.decoder != "auto") {
    const bool unit = from.decoder == "unit";
    t.unit_decoder = unit;
    t.sparsity.by_decoder_norm = !unit;
    const bool ranks = from.architecture == "topk" || from.architecture == "batchtopk" ||
                       from.architecture == "matryoshka";
    job.config.rescale_by_decoder_norm = ranks && !unit;
    if (unit) job.init.decoder_norm = 1.0;
    if (unit && from.architecture == "standard") {
      // The 2023 recipe: resampling at four times of the run.
      job.resampling.interval = steps > 0 ? std::clamp<std::int64_t>(steps / 8, 1, 25000) : 25000;
      job.resampling.window = std::max<std::int64_t>(1, job.resampling.interval / 2);
    }
  }
  if (from.sparsity_coefficient) t.sparsity.coefficient = *from.sparsity_coefficient;
  if (from.aux_coefficient) t.aux.coefficient = *from.aux_coefficient;
  t.aux.k = from.aux_k;
  if (from.bandwidth) t.sparsity.bandwidth = *from.bandwidth;
  if (from.threshold_init) job.init.threshold = *from.threshold_init;
  if (from.initial_bias == "zero") job.initial_bias = InitialBias::kZero;
  if (from.initial_bias == "mean") job.initial_bias = InitialBias::kMean;
  if (from.initial_bias == "median") job.initial_bias = InitialBias::kGeometricMedian;
  const bool swept = config.training.learning_rate != globals.config.training.learning_rate;
  if (globals.learning_rate_given || swept) t.adam.learning_rate = training.learning_rate;
  if (training.beta1) t.adam.beta1 = *training.beta1;
  if (training.beta2) t.adam.beta2 = *training.beta2;
  t.adam.decoupled_weight_decay = training.weight_decay;
  if (training.clip_norm) t.clip_norm = *training.clip_norm;
  if (training.dead_steps) t.dead_steps = *training.dead_steps;
  if (training.compute == "bfloat16") t.compute = Compute::kBF16;
  CoderSchedule& s = job.schedule;
  if (training.warmup_steps) s.warmup_steps = *training.warmup_steps;
  if (training.decay_steps) s.decay_steps = *training.decay_steps;
  if (training.sparsity_warmup_steps) s.sparsity_warmup_steps = *training.sparsity_warmup_steps;
  s.cosine = training.cosine;
  if (s.cosine && !training.decay_steps) s.decay_steps = 0;
  if (!training.resample_dead_neurons) job.resampling.interval = 0;
  return job;
}

// Where rows come from, and what is known about them.
struct Source {
  std::vector<std::unique_ptr<RowSource>> stores;
  std::unique_ptr<RowSource> joined;  // inputs, then targets, side by side
  std::vector<RowSite> sites;
  std::size_t inputs = 0;  // of the sites
  std::unique_ptr<RowStream> stream;
  std::int64_t train_rows = -1;  // -1 unknown
  SaeRecord record;              // what all coders share
};

// The sites of a store, one for each of its layers.
void add_store(const std::string& path, Source& source) {
  source.stores.push_back(open_row_source(path));
  const RowSource& rows = *source.stores.back();
  if (!is_activation_store(path)) {
    source.sites.push_back({"", "", -1, rows.dim()});
    return;
  }
  const ActivationMetadata metadata = load_activation_metadata(path, WithSamples::kNo);
  const ExtractorOptions& options = metadata.config;
  for (std::size_t i = 0; i < options.extraction.mlp_layers.size(); ++i) {
    RowSite site;
    site.hook_name = hook_name(options.extraction.hook);
    site.layer = options.extraction.mlp_layers[i];
    site.width = metadata.activation_dim;
    if (i < metadata.lens_names.size()) site.foreign_name = metadata.lens_names[i];
    source.sites.push_back(std::move(site));
  }
  source.record.model_name = options.model.model_name;
  source.record.dataset = options.dataset.dataset_name;
  source.record.context_size = options.dataset.max_length;
  source.record.facts["positions"] = positions_name(options.extraction.positions);
}

// Rows straight from the model that --model names, over --dataset.
Source open_live(const Globals& globals, const CoderCommand& command) {
  Source source;
  const ExtractorOptions from = extractor_options(globals);
  LiveStreamOptions options;
  options.model = from.model;
  options.dataset = from.dataset;
  options.dataset.pack = true;
  options.max_batch_tokens = from.extraction.max_batch_tokens;
  options.shuffle = globals.config.training.shuffle;
  options.seed = globals.seed();
  options.buffer_rows = command.buffer_rows;
  options.drop_special_tokens = !command.keep_special_tokens;
  options.sink_multiple = command.sink_multiple;
  const auto add = [&](HookPoint point) {
    for (const std::int64_t layer : from.extraction.mlp_layers) {
      options.hooks.push_back({point, layer});
    }
  };
  add(from.extraction.hook);
  source.inputs = options.hooks.size();
  if (!command.target_hook.empty()) add(parse_hook(command.target_hook));
  LiveStreamInputs inputs;
  inputs.ranks = &ranks();
  source.stream = make_live_stream(options, std::move(inputs));
  source.sites = source.stream->sites();
  source.record.model_name = from.model.model_name;
  source.record.dataset = from.dataset.dataset_name;
  source.record.context_size = from.dataset.max_length;
  return source;
}

Source open_source(const Globals& globals, const CoderCommand& command) {
  if (command.activations.empty()) return open_live(globals, command);
  const Config& config = globals.config;
  Source source;
  add_store(command.activations, source);
  source.inputs = source.sites.size();
  for (const std::string& target : command.targets) add_store(target, source);
  std::vector<const RowSource*> parts;
  for (const auto& store : source.stores) parts.push_back(store.get());
  source.joined = make_joined_rows(parts);
  const std::int64_t rows = source.joined->rows();
  const auto held_out =
      static_cast<std::int64_t>(static_cast<double>(rows) * config.training.validation_split);
  source.train_rows = rows - held_out;
  if (source.train_rows < 1) throw_data("activations: no rows to train on");
  StoreStreamOptions options;
  options.shuffle = config.training.shuffle;
  options.seed = globals.seed();
  options.end = source.train_rows;
  source.stream = make_store_stream(*source.joined, source.sites, options);
  source.record.facts["activations"] = command.activations;
  source.record.facts["validation_split"] = str(config.training.validation_split);
  return source;
}

std::string site_name(const RowSite& site, std::size_t index) {
  std::string name = site.layer >= 0 ? str("L", site.layer) : str("site", index);
  if (!site.hook_name.empty()) name += "_" + site.hook_name;
  return name;
}

// One coder for each variation and, unless they are to be read together, each site.
std::vector<CoderJob> jobs_of(const Globals& globals, const CoderCommand& command,
                              const Source& source, std::int64_t steps) {
  const std::size_t targets = source.sites.size() - source.inputs;
  if (targets > 0 && targets != source.inputs) {
    throw_usage("--targets: ", targets, " layers for ", source.inputs, " of the input");
  }
  std::vector<CoderJob> jobs;
  for (const Variation& variation : variations(globals.config, command.sweep)) {
    const std::size_t count = command.crosscoder ? 1 : source.inputs;
    for (std::size_t i = 0; i < count; ++i) {
      std::int64_t d_in = source.sites[i].width;
      CoderJob job;
      if (command.crosscoder) {
        d_in *= static_cast<std::int64_t>(source.inputs);
        job = job_of(globals, variation.config, d_in, steps);
        job.inputs.clear();
        for (std::size_t s = 0; s < source.inputs; ++s) {
          job.inputs.push_back(static_cast<std::int64_t>(s));
        }
        if (source.inputs > 1) job.training.unit_decoder = false;
      } else {
        job = job_of(globals, variation.config, d_in, steps);
        job.inputs = {static_cast<std::int64_t>(i)};
        if (targets > 0) job.targets = {static_cast<std::int64_t>(source.inputs + i)};
      }
      job.name = job.config.architecture;
      if (!command.crosscoder && source.inputs > 1) {
        job.name += "_" + site_name(source.sites[i], i);
      }
      job.name += variation.name;
      job.resolve(source.sites);
      jobs.push_back(std::move(job));
    }
  }
  return jobs;
}

// The lines of an earlier part of the run up to `step`, and new ones behind them.
class TrainLog {
 public:
  TrainLog(fs::path path, std::vector<std::string> names)
      : path_(std::move(path)), names_(std::move(names)) {}

  void add(const CoderRecord& record) {
    if (!open_) open(record.step);
    Json line = {{"coder", names_[at(record.job)]}, {"step", record.step}};
    for (const auto& [name, value] : record.metrics()) line[name] = value;
    out_ << line.dump() << "\n";
    out_.flush();
    if (!out_ && !failed_) {
      failed_ = true;
      log_error(path_.string(), " cannot be written; training goes on without it");
    }
  }

 private:
  void open(std::int64_t step) {
    std::string kept;
    std::ifstream before(path_);
    for (std::string line; std::getline(before, line);) {
      const Json json = Json::parse(line, nullptr, false);
      if (json.is_object() && json.contains("step") && json["step"].is_number() &&
          json["step"].get<std::int64_t>() < step) {
        kept += line + "\n";
      }
    }
    before.close();
    write_file_atomic(path_, kept);
    out_.open(path_, std::ios::app);
    open_ = true;
  }

  fs::path path_;
  std::vector<std::string> names_;
  std::ofstream out_;
  bool open_ = false;
  bool failed_ = false;
};

std::map<std::string, double> held_out_metrics(const Source& source, const CoderJob& job,
                                               const SparseCoder& coder) {
  const std::int64_t rows = source.joined ? source.joined->rows() : -1;
  // Crosscoders and transcoders are measured in training; a plain coder on rows it never saw.
  if (rows <= source.train_rows || job.inputs.size() > 1 || !job.targets.empty()) return {};
  std::int64_t column = 0;
  for (std::int64_t i = 0; i < job.inputs.front(); ++i) column += source.sites[at(i)].width;
  const auto view = make_row_view(*source.joined, source.train_rows, rows, column,
                                  source.sites[at(job.inputs.front())].width);
  const EvalReport report = evaluate(coder, *view);
  return {{"validation_rows", static_cast<double>(report.rows)},
          {"validation_fvu", report.fvu},
          {"validation_mse", report.squared_error},
          {"validation_l0", report.l0},
          {"validation_dead_latents", static_cast<double>(report.dead_latents)}};
}

}  // namespace

TrainedCoders train_coder_folders(const Globals& globals, const CoderCommand& command) {
  const Config& config = globals.config;
  if (command.output.empty()) throw_usage("no output folder given; --output DIR names one");
  Source source = open_source(globals, command);
  CoderRunOptions options;
  options.batch_size = globals.batch_size_given ? config.training.batch_size : kBatch;
  if (source.train_rows > 0) options.batch_size = std::min(options.batch_size, source.train_rows);
  options.steps = config.training.steps;
  options.passes = globals.epochs_given ? config.training.num_epochs : 1;
  options.log_every = config.training.log_every;
  options.checkpoint = fs::path(command.output) / kCheckpoint;
  options.checkpoint_minutes = config.training.checkpoint_minutes;
  options.checkpoint_steps = config.training.checkpoint_steps;
  options.resume = command.resume;
  options.ranks = &ranks();
  std::int64_t steps = options.steps;
  if (steps == 0 && source.train_rows > 0) {
    steps = options.passes * ((source.train_rows + options.batch_size - 1) / options.batch_size);
  }
  const std::vector<CoderJob> jobs = jobs_of(globals, command, source, steps);
  TrainedCoders trained;
  const auto folder_of = [&](const CoderJob& job) {
    return jobs.size() == 1 ? fs::path(command.output) : fs::path(command.output) / job.name;
  };
  // What rank 0 finds: a shared file system may show it to the others later.
  std::int64_t finished = 0;
  if (ranks().rank() == 0 && command.resume && !fs::exists(options.checkpoint)) {
    finished =
        std::ranges::all_of(jobs, [&](const CoderJob& job) { return is_sae_path(folder_of(job)); });
  }
  ranks().maximum(std::span(&finished, 1));
  if (finished != 0) {
    log_info(command.output, ": training was finished before; nothing to resume");
    trained.already_complete = true;
    return trained;
  }
  create_folders(command.output);
  // A live stream goes on from the rows that were measured, rather than run the model on them
  // twice.
  const InputScales scales = InputScales::estimate(
      *source.stream, parse_input_normalization(config.training.normalize_activations), kScaleRows,
      source.joined ? AfterEstimate::kGoBack : AfterEstimate::kGoOn);
  options.site_scales.assign(scales.scales().begin(), scales.scales().end());
  std::vector<SparseCoder> start;
  if (!command.init.empty()) {
    for (const CoderJob& job : jobs) {
      SparseCoder coder = load_sparse_coder(command.init);
      if (coder.architecture() != job.config.architecture) {
        throw_usage("--init '", command.init, "' is ", coder.architecture(), ", --arch says ",
                    job.config.architecture);
      }
      if (!options.site_scales.empty()) {
        // The file takes raw rows; training gives scaled ones.
        const double s = 1.0 / options.site_scales[at(job.inputs.front())];
        coder.fold_input_scale(s, s);
      }
      start.push_back(std::move(coder));
    }
  }
  std::vector<std::string> names;
  for (const CoderJob& job : jobs) names.push_back(job.name);
  TrainLog log(fs::path(command.output) / kLog, names);
  CoderCallbacks callbacks;
  callbacks.on_log = [&](const CoderRecord& record) { log.add(record); };
  callbacks.on_resample = [&](std::int64_t job, std::int64_t step,
                              const std::vector<std::int64_t>& latents) {
    log_info(names[at(job)], ", step ", step, ": resampled ", latents.size(), " dead latents");
  };
  try {
    trained.run = train_coders(jobs, *source.stream, options, callbacks, std::move(start));
  } catch (Error& error) {
    if (error.kind() == ErrorKind::kInterrupted && fs::exists(options.checkpoint)) {
      throw Error(error.kind(), str(error.what(), "; the checkpoint is in '", command.output,
                                    "': the same command with --resume continues it"));
    }
    throw;
  }
  if (ranks().rank() > 0) return trained;  // the first one saves and reports
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const CoderJob& job = jobs[i];
    CoderOutcome& out = trained.run.coders[i];
    TrainedCoder coder{job.name, folder_of(job).string(), out.last, {}, out.coder.d_sae()};
    coder.held_out = held_out_metrics(source, job, out.coder);
    SaeRecord record = source.record;
    const RowSite& site = source.sites[at(job.inputs.front())];
    record.hook_name = site.hook_name;
    record.foreign_hook_name = site.foreign_name;
    record.layer = site.layer;
    if (!job.targets.empty()) {
      const RowSite& target = source.sites[at(job.targets.front())];
      record.foreign_hook_name_out =
          target.foreign_name.empty() ? target.hook_name : target.foreign_name;
    }
    record.densities = out.density;
    record.metrics = coder.held_out;
    for (const auto& [name, value] : out.last.metrics()) record.metrics[name] = value;
    record.facts["drrik_version"] = version();
    record.facts["trained_at"] = utc_timestamp();
    record.facts["seed"] = std::to_string(job.seed);
    record.facts["threads"] = std::to_string(num_threads());
    if (ranks().size() > 1) record.facts["ranks"] = std::to_string(ranks().size());
    record.facts["steps"] = std::to_string(trained.run.steps);
    record.facts["batch_size"] = std::to_string(options.batch_size);
    record.facts["learning_rate"] = str(job.training.adam.learning_rate);
    record.facts["sparsity_coefficient"] = str(job.training.sparsity.coefficient);
    record.facts["aux_coefficient"] = str(job.training.aux.coefficient);
    record.facts["compute"] = config.training.compute;
    record.facts["k"] = std::to_string(job.config.k);
    for (const auto& [name, value] : scales.facts()) record.facts[name] = value;
    for (const auto& [name, value] : source.stream->facts()) record.facts["stream_" + name] = value;
    save_sae(out.coder, record, folder_of(job));
    trained.coders.push_back(std::move(coder));
  }
  std::error_code error;
  fs::remove(options.checkpoint, error);  // what it holds is in the folders now
  return trained;
}

Json coders_json(const TrainedCoders& trained, const std::string& output) {
  Json json = {{"output", output}};
  if (trained.already_complete) {
    json["already_complete"] = true;
    return json;
  }
  json["steps"] = trained.run.steps;
  json["rows"] = trained.run.rows;
  json["seconds"] = trained.run.seconds;
  json["rows_per_second"] = trained.run.rows_per_second;
  json["stream_seconds"] = trained.run.stream_seconds;
  json["coders"] = Json::array();
  for (const TrainedCoder& coder : trained.coders) {
    Json one = {{"name", coder.name}, {"folder", coder.folder}, {"d_sae", coder.d_sae}};
    for (const auto& [name, value] : coder.last.metrics()) one[name] = value;
    for (const auto& [name, value] : coder.held_out) one[name] = value;
    json["coders"].push_back(std::move(one));
  }
  return json;
}

std::string coders_text(const TrainedCoders& trained, const std::string& output) {
  if (trained.already_complete) return str(output, ": was finished already");
  char line[320];
  std::snprintf(line, sizeof line, "%lld steps on %lld rows in %.1f s (%.0f rows/s)\n",
                static_cast<long long>(trained.run.steps), static_cast<long long>(trained.run.rows),
                trained.run.seconds, trained.run.rows_per_second);
  std::string text = line;
  for (const TrainedCoder& coder : trained.coders) {
    const auto held = coder.held_out.find("validation_fvu");
    std::snprintf(line, sizeof line, "%-32s FVU %.4f, L0 %.1f, %lld of %lld latents dead%s\n",
                  coder.folder.c_str(),
                  held != coder.held_out.end() ? held->second : coder.last.loss.fvu,
                  coder.last.loss.l0, static_cast<long long>(coder.last.dead),
                  static_cast<long long>(coder.d_sae),
                  held != coder.held_out.end() ? " (FVU on held-out rows)" : "");
    text += line;
  }
  text.pop_back();
  return text;
}

}  // namespace drrik::cli
