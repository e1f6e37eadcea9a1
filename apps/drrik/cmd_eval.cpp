// drrik eval: what an autoencoder does on activations, and in its model when that is given.

#include <memory>

#include "drrik/activations/row_source.h"
#include "drrik/base/error.h"
#include "drrik/sae/io.h"
#include "model_flags.h"
#include "options.h"
#include "pipeline.h"

namespace drrik::cli {
namespace {

struct Flags {
  std::string sae;
  std::string activations;
  std::optional<std::int64_t> layer;
  std::string hook;
  std::int64_t max_texts = 64;
};

Hook hook_of(const Flags& flags, const SaeRecord& record) {
  const std::string name = !flags.hook.empty()         ? flags.hook
                           : !record.hook_name.empty() ? record.hook_name
                                                       : "mlp_out";
  const std::int64_t layer = flags.layer.value_or(record.layer);
  if (layer < 0) throw_usage("the autoencoder does not say its layer; --layer names it");
  return {parse_hook(name), layer};
}

void run(const Globals& globals, const Flags& flags) {
  const LoadedSae loaded = load_sae_with_record(flags.sae);
  const auto rows = open_row_source(flags.activations);
  const EvalReport report = evaluate(*loaded.sae, *rows);
  Json json = evaluation_json(report);
  std::string text = evaluation_text(report);
  const Config& config = globals.config;
  const std::string& model_name = config.extractor.model.model_name;
  if (!model_name.empty()) {
    if (config.extractor.dataset.dataset_name.empty()) {
      throw_usage("--model needs --dataset: texts to splice the autoencoder into");
    }
    const std::string folder = resolve_model(model_name);
    const Tokenizer tokenizer = Tokenizer::from_folder(folder);
    const Model model =
        Model::load(folder, {.compute = parse_compute(config.extractor.model.torch_dtype)});
    const SpliceReport splice =
        evaluate_splice(model, *loaded.sae, hook_of(flags, loaded.record),
                        tokenize_dataset(config, tokenizer, flags.max_texts));
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
            app.add_option("--sae", flags->sae, "Autoencoder: a folder or a .pt file")->required();
            app.add_option("--activations", flags->activations, "Activation folder or .npy file")
                ->required();
            add_setting(app, globals, "--model", "extractor.model.model_name");
            add_setting(app, globals, "--dataset", "extractor.dataset.dataset_name");
            add_setting(app, globals, "--text-column", "extractor.dataset.text_column");
            add_setting(app, globals, "--max-length", "extractor.dataset.max_length");
            add_setting(app, globals, "--dtype", "extractor.model.torch_dtype");
            app.add_option("--layer", flags->layer,
                           "Layer (default: what the autoencoder records)");
            app.add_option("--hook", flags->hook, "Hook (default: what the autoencoder records)");
            app.add_option("--num-samples", flags->max_texts, "Texts to splice into")
                ->capture_default_str();
            return [&globals, flags] { run(globals, *flags); };
          }};
}

}  // namespace drrik::cli
