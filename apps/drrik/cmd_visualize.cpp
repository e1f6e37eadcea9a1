// drrik visualize: the figures of an autoencoder on activations, from one pass.

#include <memory>

#include "drrik/base/error.h"
#include "drrik/sae/io.h"
#include "pipeline.h"

namespace drrik::cli {
namespace {

constexpr std::size_t kMaxFeatures = 100;  // Panels of the decoder weights.

struct Flags {
  std::string sae;
  std::string activations;
};

void run(const Globals& globals, const Flags& flags) {
  const LoadedSae loaded =
      load_sae_with_record(globals.folder_or(flags.sae, "--sae", "autoencoder.output_dir"));
  const std::string activations =
      globals.folder_or(flags.activations, "--activations", "extractor.extraction.output_dir");
  const auto rows = open_row_source(activations);
  const Config::Visualization& wanted = globals.config.visualization;
  if (wanted.features.size() > kMaxFeatures) {
    throw_usage("--features: got ", wanted.features.size(), ", wanted at most ", kMaxFeatures);
  }
  for (const std::int64_t feature : wanted.features) {
    if (feature < 0 || feature >= loaded.sae->d_sae()) {
      throw_usage("--features: ", feature, ", the autoencoder has 0 to ", loaded.sae->d_sae() - 1);
    }
  }
  FeatureVisualizer visualizer(*loaded.sae, *rows, visualizer_options(globals));
  visualizer.set_labeler(labeler_for(activations));
  visualizer.set_training_curves(training_curves(loaded.record.history));
  std::vector<Figure> figures = visualizer.save_all(wanted.top_features);
  figures.push_back(visualizer.plot_decoder_weights(wanted.features, wanted.top_features));
  for (const std::int64_t feature : wanted.features) {
    figures.push_back(visualizer.create_feature_dashboard(feature));
    figures.push_back(visualizer.plot_activation_histogram(feature));
    figures.push_back(visualizer.plot_feature_examples(
        feature, {.k = wanted.examples, .max_text_length = wanted.max_text_length}));
  }
  Json json{{"figures", Json::array()}};
  std::string text;
  for (const Figure& figure : figures) {
    json["figures"].push_back(figure.path.string());
    text += figure.path.string() + "\n";
  }
  emit(globals, json, text);
}

}  // namespace

Command visualize_command() {
  return {"visualize", "Draw what the features do",
          "  drrik visualize --sae sae --activations acts --output figures\n"
          "  drrik visualize --sae sae --activations acts --features 12,40 --format svg --output "
          "figures\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            auto flags = std::make_shared<Flags>();
            app.add_option("--sae", flags->sae, "Autoencoder: a folder or a .pt file");
            app.add_option("--activations", flags->activations, "Activation folder or .npy file");
            add_setting(app, globals, "--features", "visualization.features");
            add_setting(app, globals, "--top", "visualization.top_features");
            add_setting(app, globals, "--examples", "visualization.examples");
            add_setting(app, globals, "--format", "visualization.format");
            add_setting(app, globals, "--style", "visualization.style");
            add_setting(app, globals, "--dpi", "visualization.dpi");
            add_setting(app, globals, "--output", "visualization.output_dir");
            return [&globals, flags] { run(globals, *flags); };
          }};
}

}  // namespace drrik::cli
