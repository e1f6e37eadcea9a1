// drrik run: the whole pipeline from one configuration: extract, train, evaluate, visualize, steer,
// and a report of it all.

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <memory>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "drrik/base/system.h"
#include "drrik/sae/io.h"
#include "drrik/steer/steering.h"
#include "drrik/viz/report.h"
#include "evaluation.h"
#include "interesting.h"
#include "options.h"
#include "pipeline.h"
#include "sae_flags.h"

namespace drrik::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kSpliceTexts = 32;

// Everything the stages hand on to each other.
struct Run {
  Run(const Globals& given, bool go_on) : globals(given), config(given.config), resume(go_on) {}

  const Globals& globals;
  const Config& config;
  bool resume;
  std::string model;
  std::string activations;
  std::string sae_folder;
  Json result = Json::object();
  Report report;

  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const Sae> sae;
  SaeRecord record;
  std::vector<InterestingFeature> interesting;
};

Hook trained_hook(const Run& run) {
  const Config::Extraction& extraction = run.config.extractor.extraction;
  return {parse_hook(extraction.hook), extraction.mlp_layers.front()};
}

void extract(Run& run) {
  const ExtractorOptions options = extractor_options(run.globals);
  const ActivationMetadata made = extract_activations(options, run.resume);
  run.result["extract"] = activation_json(made, run.activations);
  auto& facts = run.report.tables.emplace_back(ReportTable{"What was looked at", {}}).rows;
  facts.emplace_back("Model", run.config.extractor.model.model_name);
  facts.emplace_back("Dataset", run.config.extractor.dataset.dataset_name);
  facts.emplace_back("Hook",
                     str(hook_name(options.extraction.hook), " at ", join(made.layer_paths)));
  facts.emplace_back("Activations",
                     str(made.num_rows, " rows of ", made.row_dim(), " from ", made.num_samples,
                         " texts, positions ", positions_name(options.extraction.positions)));
}

void train(Run& run) {
  const Trained trained = train_autoencoder(
      run.config, {.activations = run.activations, .output = run.sae_folder, .resume = run.resume});
  run.result["train"] = training_json(trained, run.sae_folder);
  LoadedSae loaded = load_sae_with_record(run.sae_folder);
  run.sae = std::move(loaded.sae);
  run.record = std::move(loaded.record);
  run.report.tables.front().rows.emplace_back(
      "Autoencoder",
      str(run.sae->architecture(), ", ", run.sae->d_in(), " to ", run.sae->d_sae(), " latents"));
}

void evaluate(Run& run, const RowSource& rows) {
  const TokenPolicy policy = policy_of(run.activations, SpecialTokens::kCount);
  const EvalReport report =
      drrik::evaluate(*run.sae, rows, {.cluster_starts = policy.cluster_starts});
  const DecoderGeometry geometry = decoder_geometry(*run.sae);
  run.result["eval"] = evaluation_json(report, policy);
  run.result["eval"]["decoder"] = geometry_json(geometry);
  log_info("evaluation\n", evaluation_text(report, policy), geometry_text(geometry));
  ReportTable table{"How well it reconstructs", {}};
  const auto metric = [&](const char* name, double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4g", value);
    table.rows.emplace_back(name, text);
  };
  metric("L0 (active latents a token)", report.l0);
  metric("FVU (fraction of variance unexplained)", report.fvu);
  metric("Cosine of input and reconstruction", report.cosine);
  metric("Dead latents", static_cast<double>(report.dead_latents));
  metric("Latents on over 1 % of tokens", static_cast<double>(report.dense_1_percent));
  const Config::Extraction& extraction = run.config.extractor.extraction;
  // A joint autoencoder has no single hook, and an encoder no next token to predict.
  if (extraction.mlp_layers.size() != 1 || !read_model_config(run.model).causal) {
    run.report.tables.push_back(std::move(table));
    return;
  }
  const Model model = load_model(run.config);
  const std::int64_t splice_texts =
      std::min(kSpliceTexts, run.config.extractor.dataset.num_samples.value_or(kSpliceTexts));
  const SpliceReport splice =
      evaluate_splice(model, *run.sae, trained_hook(run),
                      tokenize_dataset(run.config, *run.tokenizer, splice_texts));
  run.result["eval"]["splice"] = splice_json(splice);
  log_info("spliced into the model\n", splice_text(splice));
  metric("Cross-entropy, clean (nats a token)", splice.ce_clean);
  metric("Cross-entropy, spliced", splice.ce_spliced);
  metric("Cross-entropy recovered against zero ablation", splice.ce_recovered);
  run.report.tables.push_back(std::move(table));
}

void visualize(Run& run, FeatureVisualizer& visualizer) {
  const Config::Visualization& wanted = run.config.visualization;
  visualizer.set_labeler(labeler_for(run.activations));
  visualizer.set_training_curves(training_curves(run.record.history));
  const FeatureStats& stats = visualizer.stats();
  Json figures = Json::array();
  const auto show = [&](const Figure& figure, const char* title, const char* caption) {
    figures.push_back(figure.path.string());
    run.report.figures.push_back({title, figure.path, caption});
  };
  if (const auto curves = visualizer.plot_training_curves()) {
    show(*curves, "Training", "Loss and active latents a token, by epoch.");
  }
  show(visualizer.plot_feature_density(), "Feature density",
       "On what share of tokens each living feature is active.");
  show(visualizer.plot_top_features(wanted.top_features, "density"), "Densest features", "");
  show(visualizer.plot_top_features(wanted.top_features, "max_activation"), "Strongest features",
       "");
  std::vector<InterestingFeature> chosen;
  for (const std::int64_t feature : wanted.features) chosen.push_back({feature, "", 0.0});
  chosen.insert(chosen.end(), run.interesting.begin(), run.interesting.end());
  if (std::ranges::all_of(run.interesting, [](const auto& f) { return f.token.empty(); })) {
    log_warning("no feature stands for one word; the strongest ones are shown");
  }
  Json features = Json::array();
  for (const InterestingFeature& found : chosen) {
    const std::int64_t feature = found.feature;
    figures.push_back(visualizer.create_feature_dashboard(feature).path.string());
    run.report.features.push_back(
        report_feature(visualizer, feature, wanted.examples,
                       found.token.empty() ? "" : str("fires on “", found.token, "”")));
    features.push_back({{"feature", feature},
                        {"token", found.token},
                        {"clarity", found.clarity},
                        {"density", stats.density(feature)},
                        {"max_activation", stats.max(feature)}});
  }
  run.result["figures"] = figures;
  run.result["features"] = features;
}

std::vector<std::string> prompts_of(const Run& run) {
  if (!run.config.steering.prompts.empty()) return run.config.steering.prompts;
  DatasetOptions options = dataset_options(run.config);
  options.num_samples = 1;
  const auto sample = open_dataset(options)->next();
  const std::string text = sample ? sample->text : "";
  std::size_t end = 0;
  for (int words = 0; words < 6 && end != std::string::npos; ++words) end = text.find(' ', end + 1);
  return {text.substr(0, end)};
}

// The configured strengths, times the feature's largest activation where that is their unit.
std::vector<double> strengths_for(const Config::Steering& wanted, const FeatureStats& stats,
                                  std::int64_t feature) {
  std::vector<double> strengths = wanted.strengths;
  if (wanted.strength_unit == "max") {
    for (double& strength : strengths) strength *= static_cast<double>(stats.max(feature));
  }
  return strengths;
}

// How often each word stands in `text`, in lower case.
std::map<std::string, std::int64_t> word_counts(const std::string& text) {
  std::map<std::string, std::int64_t> counts;
  std::string word;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    const auto c = static_cast<unsigned char>(i < text.size() ? text[i] : ' ');
    if (std::isalpha(c) != 0) {
      word += static_cast<char>(std::tolower(c));
    } else if (!word.empty()) {
      ++counts[word];
      word.clear();
    }
  }
  return counts;
}

// Of the interesting features the one that a reader sees at work: whose own word the largest
// strength adds most often to the unsteered text. Many features only read; their words come no more
// often.
std::int64_t most_visible(const Run& run, const FeatureStats& stats, const SaeSteering& steering,
                          const std::string& prompt) {
  std::int64_t best = run.interesting.front().feature;
  std::int64_t best_gain = 0;
  SteeredGeneration options = steered_generation(run.config);
  std::map<std::string, std::int64_t> before = word_counts(steering.generate(prompt, options).text);
  for (const InterestingFeature& found : run.interesting) {
    const std::vector<double> strengths = strengths_for(run.config.steering, stats, found.feature);
    if (found.token.empty() || strengths.empty()) continue;
    options.feature_indices = {found.feature};
    options.strengths = {*std::ranges::max_element(strengths)};
    const std::int64_t gain =
        word_counts(steering.generate(prompt, options).text)[found.token] - before[found.token];
    if (gain <= best_gain) continue;
    best_gain = gain;
    best = found.feature;
  }
  return best;
}

void steer(Run& run, FeatureVisualizer& visualizer) {
  const Config::Steering& wanted = run.config.steering;
  if (run.config.extractor.extraction.mlp_layers.size() != 1 && !wanted.layer) {
    log_warning("steering left out: the autoencoder spans several layers");
    return;
  }
  if (!read_model_config(run.model).causal) {
    log_warning("steering left out: an encoder does not generate text");
    return;
  }
  Hook hook = trained_hook(run);
  hook.layer = wanted.layer.value_or(hook.layer);
  std::vector<std::int64_t> features = wanted.features;
  if (features.empty() && run.interesting.empty()) {
    log_warning("steering left out: no feature fires");
    return;
  }
  const Model model = load_model(run.config);
  const SaeSteering steering(run.sae, std::shared_ptr<const Model>(&model, [](const Model*) {}),
                             run.tokenizer, hook);
  const std::vector<std::string> prompts = prompts_of(run);
  if (features.empty()) {
    features = {most_visible(run, visualizer.stats(), steering, prompts.front())};
  }
  Json comparisons = Json::array();
  for (const std::string& prompt : prompts) {
    for (const std::int64_t feature : features) {
      std::string title;
      for (const InterestingFeature& found : run.interesting) {
        if (found.feature == feature) title = found.token;
      }
      const bool by_max = wanted.strength_unit == "max";
      if (by_max && visualizer.stats().max(feature) == 0.0F) {
        log_warning("feature ", feature, " never fires; it has no maximum to steer with");
        continue;
      }
      const SteeringResults results = steering.compare_steering(
          prompt, feature, strengths_for(wanted, visualizer.stats(), feature),
          steered_generation(run.config));
      const fs::path file = save_steering_analysis(
          results, output_path(run.config, wanted.output_dir), prompt, str("feature_", feature));
      Json texts = Json::object();
      for (const auto& [label, text] : results) texts[label] = text;
      comparisons.push_back(
          {{"prompt", prompt}, {"feature", feature}, {"results", texts}, {"file", file.string()}});
      const std::string name = str("feature ", feature, title.empty() ? "" : " “" + title + "”");
      run.report.steering.push_back({prompt, name, results});
      if (!by_max) continue;
      auto& shown = run.report.steering.back().texts;
      for (std::size_t i = 0; i < shown.size() && i < wanted.strengths.size(); ++i) {
        if (wanted.strengths[i] != 0.0) shown[i].first = str(wanted.strengths[i], " × its maximum");
      }
    }
  }
  run.result["steer"] = comparisons;
}

void run_all(Globals& globals, bool resume) {
  if (globals.config_file.empty()) throw_usage("run: got no configuration; drrik run CONFIG.yaml");
  settle_hook(globals);
  const Config& config = globals.config;
  Run run(globals, resume);
  run.model = resolve_model(config);
  run.activations = globals.folder("extractor.extraction.output_dir");
  run.sae_folder = globals.folder("autoencoder.output_dir");
  create_output_dirs(config);
  run.tokenizer = std::make_shared<const Tokenizer>(open_tokenizer(config));
  run.report.title =
      str("drrik: ", fs::path(config.extractor.model.model_name).filename().string());

  extract(run);
  train(run);
  const auto rows = open_row_source(run.activations);
  evaluate(run, *rows);
  FeatureVisualizer visualizer(*run.sae, *rows, visualizer_options(globals));
  if (config.visualization.enabled || config.steering.enabled) {
    run.interesting =
        interesting_features(visualizer.stats(), load_activation_metadata(run.activations),
                             *run.tokenizer, config.visualization.top_features);
  }
  if (config.visualization.enabled) visualize(run, visualizer);
  if (config.steering.enabled) steer(run, visualizer);
  run.report.footer =
      str("drrik ", version(), ", ", utc_timestamp(), ", seed ", config.random_seed);
  const fs::path report = fs::path(config.output_dir) / "report.html";
  write_report(run.report, report);
  run.result["report"] = report.string();
  // What this run was made with; holds no credential.
  write_file_atomic(fs::path(config.output_dir) / "config.yaml", to_yaml(config));
  emit(globals, run.result, str("report: ", report.string()));
}

}  // namespace

Command run_command() {
  return {"run", "Do everything from one file: extract, train, evaluate, visualize, steer",
          "  drrik run assets/demo/quickstart.yaml\n"
          "  drrik run experiment.yaml --resume --seed 7\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            auto resume = std::make_shared<bool>(false);
            app.add_option("config_file", globals.config_file,
                           "YAML file of settings (or --config)")
                ->type_name("CONFIG.yaml");
            add_setting(app, globals, "--dtype", "extractor.model.torch_dtype");
            add_hub_flags(app, globals);
            app.add_flag("--resume", *resume, "Go on with an extraction or training cut short");
            return [&globals, resume] { run_all(globals, *resume); };
          }};
}

}  // namespace drrik::cli
