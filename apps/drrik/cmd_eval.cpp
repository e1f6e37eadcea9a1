// drrik eval: what an autoencoder does on activations, and in its model when that is given.

#include <memory>
#include <optional>

#include "drrik/activations/row_source.h"
#include "drrik/base/error.h"
#include "drrik/io/npy.h"
#include "drrik/model/hook_names.h"
#include "drrik/sae/io.h"
#include "evaluation.h"
#include "options.h"
#include "pipeline.h"
#include "sae_flags.h"

namespace drrik::cli {
namespace {

struct Flags {
  std::string sae;
  std::string activations;
  std::string targets;
  std::optional<std::int64_t> layer;
  std::string hook;
  std::string output_hook;
  std::string density;
  bool exclude_special = false;

  // Probes.
  std::string probe;
  std::string tpp;
  std::string scr;
  bool absorption = false;
  std::string probe_text_column;
  std::string label_column;
  std::string label_values;
  std::string spurious_column;
  std::string spurious_values;
  std::int64_t probe_train = SplitOptions{}.train_size;
  std::int64_t probe_test = SplitOptions{}.test_size;
  std::int64_t probe_length = 128;
  std::int64_t absorption_words = AbsorptionOptions{}.max_words;

  bool probes() const { return !probe.empty() || !tpp.empty() || !scr.empty() || absorption; }
};

constexpr std::int64_t kSpliceTexts = 64;

void check(const Globals& globals, const Flags& flags) {
  const bool has_model = !globals.config.extractor.model.model_name.empty();
  if (!has_model && (flags.layer || !flags.hook.empty() || !flags.output_hook.empty() ||
                     globals.given("extractor.dataset.dataset_name"))) {
    throw_usage("--layer, --hook and --dataset say where to splice; they need --model");
  }
  if (!has_model && flags.probes()) {
    throw_usage("--probe, --tpp, --scr and --absorption run a model over texts; they need --model");
  }
  if ((!flags.probe.empty() || !flags.tpp.empty() || !flags.scr.empty()) &&
      flags.label_column.empty()) {
    throw_usage("--probe, --tpp and --scr need --label-column: what the texts' labels are in");
  }
  if (!flags.scr.empty() && flags.spurious_column.empty()) {
    throw_usage("--scr needs --spurious-column: the labels that the others are confused with");
  }
  for (const auto& [name, value] :
       {std::pair("--probe-train", flags.probe_train), std::pair("--probe-test", flags.probe_test),
        std::pair("--probe-length", flags.probe_length),
        std::pair("--absorption-words", flags.absorption_words)}) {
    if (value < 2) throw_usage(name, ": got ", value, ", wanted at least 2");
  }
}

// "a,b" as the two values of an attribute; empty: found in the data.
Attribute attribute_of(const std::string& column, const std::string& values, const char* flag) {
  Attribute attribute{column, "", ""};
  if (values.empty()) return attribute;
  const std::size_t comma = values.find(',');
  if (comma == std::string::npos || comma == 0 || comma + 1 == values.size() ||
      values.find(',', comma + 1) != std::string::npos) {
    throw_usage(flag, ": got '", values, "', wanted two values with a comma between them");
  }
  attribute.positive = values.substr(0, comma);
  attribute.negative = values.substr(comma + 1);
  return attribute;
}

LabelledTexts labelled(const Config& config, const std::string& path, const Flags& flags,
                       const std::vector<std::string>& columns) {
  DatasetOptions options;
  options.path = path;
  options.config = config.extractor.dataset.dataset_config;
  options.revision = config.extractor.dataset.dataset_revision;
  options.split = config.extractor.dataset.split;
  options.text_column = flags.probe_text_column;
  return read_labelled(options, columns);
}

void run_probes(const Config& config, const Flags& flags, const ProbeModel& probe, Json& json,
                std::string& text) {
  const auto seed = static_cast<std::uint64_t>(config.random_seed);
  SplitOptions split;
  split.train_size = flags.probe_train;
  split.test_size = flags.probe_test;
  if (!flags.probe.empty()) {
    const LabelledTexts data = labelled(config, flags.probe, flags, {flags.label_column});
    SparseProbingOptions options;
    options.split = split;
    options.seed = seed;
    const auto report = sparse_probing(probe, data.texts, data.labels[0], options);
    json["probe"] = probing_json(report);
    text += probing_text(report);
  }
  AblationOptions ablation;
  ablation.split = split;
  ablation.seed = seed;
  if (!flags.tpp.empty()) {
    const LabelledTexts data = labelled(config, flags.tpp, flags, {flags.label_column});
    const auto report = targeted_probe_perturbation(probe, data.texts, data.labels[0], ablation);
    json["tpp"] = tpp_json(report);
    text += tpp_text(report);
  }
  if (!flags.scr.empty()) {
    const LabelledTexts data =
        labelled(config, flags.scr, flags, {flags.label_column, flags.spurious_column});
    const auto report = spurious_correlation_removal(
        probe, data.texts, data.labels[0], data.labels[1],
        attribute_of(flags.label_column, flags.label_values, "--label-values"),
        attribute_of(flags.spurious_column, flags.spurious_values, "--spurious-values"), ablation);
    json["scr"] = scr_json(report);
    text += scr_text(report);
  }
  if (flags.absorption) {
    AbsorptionOptions options;
    options.max_words = flags.absorption_words;
    options.seed = seed;
    const auto report = first_letter_absorption(probe, options);
    json["absorption"] = absorption_json(report);
    text += absorption_text(report);
  }
}

void run_in_model(const Config& config, const Flags& flags, const LoadedSae& loaded, Json& json,
                  std::string& text) {
  const bool splices = !config.extractor.dataset.dataset_name.empty();
  if (!splices && !flags.probes()) {
    throw_usage("--model needs --dataset: texts to splice the autoencoder into");
  }
  const std::string folder = resolve_model(config);
  if (splices && !read_model_config(folder).causal) {
    throw_usage(
        "an encoder predicts no next token, so that nothing can be spliced into it; "
        "without --model the autoencoder is evaluated on its activations");
  }
  const Tokenizer tokenizer = open_tokenizer(config);
  const Model model = load_model(config);
  const Hook hook = hook_of(flags.layer, flags.hook, loaded.record, model.config());
  if (splices) {
    SpliceOptions options;
    if (!flags.output_hook.empty()) {
      const NamedHook named = parse_hook(flags.output_hook, model.config());
      options.output = {named.point, named.layer.value_or(hook.layer)};
    }
    if (flags.exclude_special) {
      options.leave_alone = [&tokenizer](std::int32_t id) { return tokenizer.is_special(id); };
    }
    const SpliceReport splice = evaluate_splice(
        model, *loaded.sae, hook,
        tokenize_dataset(config, tokenizer,
                         config.extractor.dataset.num_samples.value_or(kSpliceTexts)),
        options);
    json["splice"] = splice_json(splice);
    text += splice_text(splice);
  }
  const ProbeModel probe{model, tokenizer,          *loaded.sae,
                         hook,  flags.probe_length, config.extractor.dataset.add_special_tokens};
  run_probes(config, flags, probe, json, text);
}

void run(const Globals& globals, const Flags& flags) {
  check(globals, flags);
  const LoadedSae loaded =
      load_sae_with_record(globals.folder_or(flags.sae, "--sae", "autoencoder.output_dir"));
  const std::string activations =
      globals.folder_or(flags.activations, "--activations", "extractor.extraction.output_dir");
  const auto rows = open_row_source(activations);
  const auto targets = flags.targets.empty() ? nullptr : open_row_source(flags.targets);
  const TokenPolicy policy = policy_of(
      activations, flags.exclude_special ? SpecialTokens::kLeaveOut : SpecialTokens::kCount);
  const EvalReport report = evaluate(
      *loaded.sae, *rows,
      {.target = targets.get(), .keep = policy.keep, .cluster_starts = policy.cluster_starts});
  const DecoderGeometry geometry = decoder_geometry(*loaded.sae);
  Json json = evaluation_json(report, policy);
  json["decoder"] = geometry_json(geometry);
  if (!flags.density.empty()) {
    write_npy(flags.density, Tensor::from<double>(report.density, {report.d_sae}));
    json["density"] = flags.density;
  }
  std::string text = evaluation_text(report, policy) + geometry_text(geometry);
  if (!globals.config.extractor.model.model_name.empty()) {
    run_in_model(globals.config, flags, loaded, json, text);
  }
  emit(globals, json, text);
}

}  // namespace

Command eval_command() {
  return {
      "eval", "Measure an autoencoder: L0, FVU, densities; cross-entropy and probes in its model",
      "  drrik eval --sae sae --activations acts\n"
      "  drrik eval --sae sae --activations acts --exclude-special --model assets/demo/model "
      "--dataset assets/demo/text.jsonl --layer 3\n"
      "  drrik eval --sae sae --activations acts --model M --probe reviews.jsonl --label-column "
      "stars\n"
      "  drrik eval --sae sae --activations acts --model M --absorption\n"
      "  drrik eval --sae sae --activations acts --model M --scr bios.parquet --label-column "
      "profession --spurious-column gender\n"
      "  drrik eval --sae transcoder --activations mlp_in --targets mlp_out\n",
      [](CLI::App& app, Globals& globals) -> std::function<void()> {
        auto flags = std::make_shared<Flags>();
        app.add_option("--sae", flags->sae, "Autoencoder: a folder or a .pt file");
        app.add_option("--activations", flags->activations, "Activation folder or .npy file");
        app.add_option("--targets", flags->targets,
                       "What a transcoder is to give: the same tokens' activations at its output");
        app.add_flag("--exclude-special", flags->exclude_special,
                     "Leave out rows of special tokens (BOS and the like), and splice around them");
        app.add_option("--density", flags->density,
                       "Write each latent's density to this file, float64 [d_sae]")
            ->type_name("FILE.npy");
        add_model_settings(app, globals);
        add_dataset_settings(app, globals);
        add_bos_settings(app, globals);
        app.get_option("--num-samples")
            ->description(str("Texts to splice into (default ", kSpliceTexts, ")"));
        add_setting(app, globals, "--max-length", "extractor.dataset.max_length");
        app.add_option("--layer", flags->layer, "Layer (default: what the autoencoder records)");
        app.add_option("--hook", flags->hook, hook_help() + " (default: what it records)");
        app.add_option("--output-hook", flags->output_hook,
                       "Where a transcoder's output goes (default: where it reads)");
        app.add_option("--probe", flags->probe, "Labelled texts for sparse probing");
        app.add_option("--tpp", flags->tpp, "Labelled texts for targeted probe perturbation");
        app.add_option("--scr", flags->scr, "Labelled texts for spurious correlation removal");
        app.add_flag("--absorption", flags->absorption,
                     "Feature absorption by the first-letter task");
        app.add_option("--label-column", flags->label_column, "The labels of the texts");
        app.add_option("--label-values", flags->label_values,
                       "Two values of it for --scr (default: the most frequent ones)")
            ->type_name("A,B");
        app.add_option("--spurious-column", flags->spurious_column,
                       "Labels that --scr's probe confuses with them");
        app.add_option("--spurious-values", flags->spurious_values,
                       "Two values of it (default: the most frequent ones)")
            ->type_name("A,B");
        app.add_option("--probe-text-column", flags->probe_text_column,
                       "The texts (default: as --text-column's)");
        app.add_option("--probe-train", flags->probe_train, "Texts to train a probe with")
            ->capture_default_str();
        app.add_option("--probe-test", flags->probe_test, "Texts to test a probe with")
            ->capture_default_str();
        app.add_option("--probe-length", flags->probe_length, "Tokens of a text")
            ->capture_default_str();
        app.add_option("--absorption-words", flags->absorption_words,
                       "Words drawn from the vocabulary")
            ->capture_default_str();
        return [&globals, flags] { run(globals, *flags); };
      }};
}

}  // namespace drrik::cli
