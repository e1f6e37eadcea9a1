#pragma once
// FeatureVisualizer: pictures of what an autoencoder's features do.
//
// Drawn by gnuplot (Debian package gnuplot-nox), which is run as a child process; every plot
// function throws Error(io) when it is missing or fails, or when a file cannot be written.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "drrik/activations/row_source.h"
#include "drrik/sae/sae.h"
#include "drrik/viz/feature_stats.h"
#include "drrik/viz/row_label.h"

namespace drrik {

enum class FigureStyle : std::uint8_t { kLight, kDark };
enum class FigureFormat : std::uint8_t { kPng, kSvg };
/// "light", "dark"; "png", "svg". Throw Error(usage) otherwise.
FigureStyle parse_figure_style(const std::string& name);
FigureFormat parse_figure_format(const std::string& name);

struct VisualizerOptions {
  std::filesystem::path output_dir = "visualizations";
  FigureStyle style = FigureStyle::kLight;
  FigureFormat format = FigureFormat::kPng;
  int dpi = 150;  ///< Of PNG pictures; 36 to 600.
  /// Characters of an example's text in dashboards (two lines at most) and beside the top features
  /// (one line); 1 to 2000.
  std::int64_t max_text_length = 200;
};

/// Per epoch, as training recorded it. Shorter ones are fine; the validation curves may be empty.
struct TrainingCurves {
  std::vector<double> train_loss;
  std::vector<double> val_loss;
  std::vector<double> train_l0;
  std::vector<double> val_l0;
};

struct Figure {
  std::filesystem::path path;
  /// The picture. Throws Error(io).
  std::string bytes() const;
};

struct ExampleOptions {
  std::int64_t k = 10;
  bool show_text = true;
  std::int64_t max_text_length = 200;  ///< Characters of each text, the token's context included.
};

/// A row on which a feature fires, with what the row stands for.
struct LabelledExample {
  FeatureExample example;
  RowLabel label;
};

/// The autoencoder and the rows must outlive it. Not thread-safe. Rows are read in one pass when
/// the first figure needs them, and memory does not grow with their number.
class FeatureVisualizer {
 public:
  /// Throws Error(usage) for an impossible dpi or max_text_length.
  FeatureVisualizer(const Sae& sae, const RowSource& rows, VisualizerOptions options = {});
  /// With statistics collected before, which saves the pass.
  FeatureVisualizer(const Sae& sae, const RowSource& rows, FeatureStats stats,
                    VisualizerOptions options = {});
  ~FeatureVisualizer();
  FeatureVisualizer(FeatureVisualizer&&) noexcept;
  FeatureVisualizer& operator=(FeatureVisualizer&&) noexcept;

  /// Texts of rows (default: "row 12").
  void set_labeler(RowLabeler labeler);
  /// History for plot_training_curves().
  void set_training_curves(TrainingCurves curves);

  const FeatureStats& stats();
  /// A feature's k strongest rows with their texts, strongest first. Throws Error(usage).
  std::vector<LabelledExample> examples(std::int64_t feature, std::int64_t k = 10);

  /// Histogram of the densities of living features; log-spaced bins from 1e-8 to 1 (the axis starts
  /// where the data do), or equal ones. feature_density.png
  Figure plot_feature_density(std::int64_t bins = 50, bool log_scale = true);
  /// Histogram of one feature's activations > 0. activation_histogram_feature_N.png
  Figure plot_activation_histogram(std::int64_t feature, std::int64_t bins = 100,
                                   bool log_y = true);
  /// Loss and L0 by epoch; without history a warning and nothing. training_curves.png
  std::optional<Figure> plot_training_curves();
  /// Bars of the strongest features by "density", "max_activation" or "mean_activation", with the
  /// token on which each fires most; Error(usage) otherwise. top_features_BY.png
  Figure plot_top_features(std::int64_t n = 10, const std::string& by = "density");
  /// Bars of the strongest rows with their texts. feature_N_examples.png
  Figure plot_feature_examples(std::int64_t feature, const ExampleOptions& options = {});
  /// Histograms of decoder columns: of `features` (at most 100), or of the min(n, 100) densest ones
  /// when that is empty. decoder_weights.png
  Figure plot_decoder_weights(const std::vector<std::int64_t>& features = {}, std::int64_t n = 10);
  /// All about one feature. feature_N_dashboard.png
  Figure create_feature_dashboard(std::int64_t feature);
  /// Density, training curves, top features by density and by max activation, dashboards of the n
  /// densest features.
  std::vector<Figure> save_all(std::int64_t n = 10);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace drrik
