// drrik eval: what an autoencoder does on activations, and in its model when that is given.

#include <memory>

#include "drrik/activations/row_source.h"
#include "drrik/base/error.h"
#include "drrik/io/npy.h"
#include "drrik/sae/io.h"
#include "options.h"
#include "pipeline.h"
#include "sae_flags.h"

namespace drrik::cli {
namespace {

struct Flags {
  std::string sae;
  std::string activations;
  std::optional<std::int64_t> layer;
  std::string hook;
  std::string density;
};

constexpr std::int64_t kSpliceTexts = 64;

void run(const Globals& globals, const Flags& flags) {
  const bool splices = !globals.config.extractor.model.model_name.empty();
  if (!splices &&
      (flags.layer || !flags.hook.empty() || globals.given("extractor.dataset.dataset_name"))) {
    throw_usage("--layer, --hook and --dataset say where to splice; they need --model");
  }
  const LoadedSae loaded =
      load_sae_with_record(globals.folder_or(flags.sae, "--sae", "autoencoder.output_dir"));
  const auto rows = open_row_source(
      globals.folder_or(flags.activations, "--activations", "extractor.extraction.output_dir"));
  const EvalReport report = evaluate(*loaded.sae, *rows);
  Json json = evaluation_json(report);
  if (!flags.density.empty()) {
    write_npy(flags.density, Tensor::from<double>(report.density, {report.d_sae}));
    json["density"] = flags.density;
  }
  std::string text = evaluation_text(report);
  const Config& config = globals.config;
  if (splices) {
    if (config.extractor.dataset.dataset_name.empty()) {
      throw_usage("--model needs --dataset: texts to splice the autoencoder into");
    }
    const std::string folder = resolve_model(config);
    if (!read_model_config(folder).causal) {
      throw_usage(
          "an encoder predicts no next token, so that nothing can be spliced into it; "
          "without --model the autoencoder is evaluated on its activations");
    }
    const Tokenizer tokenizer = open_tokenizer(config);
    const Model model = load_model(config);
    const SpliceReport splice = evaluate_splice(
        model, *loaded.sae, hook_of(flags.layer, flags.hook, loaded.record, model.config()),
        tokenize_dataset(config, tokenizer,
                         config.extractor.dataset.num_samples.value_or(kSpliceTexts)));
    json["splice"] = splice_json(splice);
    text += splice_text(splice);
  }
  emit(globals, json, text);
}

}  // namespace

Command eval_command() {
  return {"eval", "Measure an autoencoder: L0, FVU, densities; cross-entropy in its model",
          "  drrik eval --sae sae --activations acts\n"
          "  drrik eval --sae sae --activations acts --model assets/demo/model --dataset "
          "assets/demo/text.jsonl --layer 3\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            auto flags = std::make_shared<Flags>();
            app.add_option("--sae", flags->sae, "Autoencoder: a folder or a .pt file");
            app.add_option("--activations", flags->activations, "Activation folder or .npy file");
            app.add_option("--density", flags->density,
                           "Write each latent's density to this file, float64 [d_sae]")
                ->type_name("FILE.npy");
            add_model_settings(app, globals);
            add_dataset_settings(app, globals);
            add_bos_settings(app, globals);
            app.get_option("--num-samples")
                ->description(str("Texts to splice into (default ", kSpliceTexts, ")"));
            add_setting(app, globals, "--max-length", "extractor.dataset.max_length");
            app.add_option("--layer", flags->layer,
                           "Layer (default: what the autoencoder records)");
            app.add_option("--hook", flags->hook, hook_help() + " (default: what it records)");
            return [&globals, flags] { run(globals, *flags); };
          }};
}

}  // namespace drrik::cli
