// drrik extract: activations of a model over a dataset, to a folder that numpy opens.

#include <memory>

#include "drrik/activations/extractor.h"
#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "options.h"
#include "ranks.h"

namespace drrik::cli {
namespace {

void run(Globals& globals, bool resume) {
  settle_hook(globals);
  const ExtractorOptions options = extractor_options(globals);
  const ActivationMetadata made = extract_activations(options, resume);
  emit(globals, activation_json(made, options.extraction.output_dir),
       str(options.extraction.output_dir, ": ", made.num_rows, " x ", made.row_dim(), " ",
           dtype_name(made.dtype), " from ", made.num_samples, " texts, ", join(made.layer_paths)));
}

}  // namespace

ActivationMetadata extract_activations(const ExtractorOptions& options, bool resume) {
  ActivationExtractor extractor(options);
  extractor.use_ranks(ranks());
  try {
    return extractor.extract_to({}, resume);
  } catch (Error& error) {
    if (error.kind() == ErrorKind::kInterrupted) {
      throw Error(error.kind(),
                  str(error.what(), "; what was written is valid: --resume continues it"));
    }
    throw;
  }
}

Json activation_json(const ActivationMetadata& metadata, const std::string& folder) {
  return {{"output", folder},
          {"rows", metadata.num_rows},
          {"dim", metadata.row_dim()},
          {"dtype", dtype_name(metadata.dtype)},
          {"samples", metadata.num_samples},
          {"skipped", metadata.skipped},
          {"layers", metadata.layer_paths}};
}

Command extract_command() {
  return {
      "extract", "Collect activations of a model over a dataset",
      "  drrik extract --model assets/demo/model --dataset assets/demo/text.jsonl --layers 2 "
      "--output acts\n"
      "  drrik extract --model pythia-70m --dataset 'corpus/*.jsonl.zst' --layers 2,3 "
      "--positions all --store-dtype bfloat16 --output acts\n"
      "  drrik extract --model gpt2 --dataset text.jsonl --hook blocks.3.mlp.hook_post --output "
      "acts\n",
      [](CLI::App& app, Globals& globals) -> std::function<void()> {
        auto resume = std::make_shared<bool>(false);
        add_extract_settings(app, globals);
        add_setting(app, globals, "--output", "extractor.extraction.output_dir");
        app.add_flag("--resume", *resume, "Continue an extraction that was cut short");
        return [&globals, resume] { run(globals, *resume); };
      }};
}

}  // namespace drrik::cli
