#pragma once
// The figures as functions of what they show; the visualizer gathers it and names the files.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "drrik/viz/feature_stats.h"
#include "drrik/viz/row_label.h"
#include "drrik/viz/visualizer.h"
#include "viz/canvas.h"
#include "viz/text_layout.h"

namespace drrik::detail {

struct Tile {
  std::string caption;
  std::string value;
};

/// Title and a line under it, at the top left.
void draw_header(Canvas& canvas, std::string_view title, std::string_view subtitle);
/// Numbers side by side on a band.
void draw_tiles(Canvas& canvas, const Box& box, const std::vector<Tile>& tiles);
/// What a panel's axes are, in words: y above its top left corner, x below its right end.
void draw_axis_titles(Canvas& canvas, const Box& frame, std::string_view x, std::string_view y);

void draw_activations(Canvas& canvas, const Box& frame, const FeatureStats& stats,
                      std::int64_t feature, std::int64_t bins, bool log_y);
/// The largest |weight|. Throws Error(numeric) for one that is not finite.
double largest_weight(std::span<const float> weights);
/// Counts in `bins` of equal width over [-limit, limit]; those beyond are in the outermost.
std::vector<double> count_weights(std::span<const float> weights, std::int64_t bins, double limit);
/// What several small histograms of weights have in common.
struct WeightScale {
  double limit = 0.0;  ///< x is [-limit, limit].
  double most = 0.0;   ///< Largest count of any.
};
/// A small histogram without titles; `numbers` names the heights.
void draw_weights(Canvas& canvas, const Box& frame, std::span<const float> weights,
                  std::int64_t bins, const WeightScale& scale, bool numbers);
/// A histogram over its own range, with titles.
void draw_weights(Canvas& canvas, const Box& frame, std::span<const float> weights,
                  std::int64_t bins);

/// A line of a wrapped label, its token on a coloured ground; `y` is its middle.
void draw_label_line(Canvas& canvas, double x, double y, const LabelLine& line, double font,
                     const char* color);

struct ExampleLayout {
  double left = 0;         ///< Of the bars.
  double bar_width = 0;    ///< Of the strongest.
  double right = 0;        ///< Of the texts.
  double font = 8.5;       ///< Points.
  std::int64_t lines = 3;  ///< At most, for a text.
  std::int64_t max_text = 200;
  bool show_text = true;
};
/// Draws rows from `top` on; returns where they end.
double draw_examples(Canvas& canvas, double top, const std::vector<LabelledExample>& rows,
                     const ExampleLayout& layout);

/// Everything a figure of one feature shows.
struct FeatureView {
  const FeatureStats* stats = nullptr;
  std::int64_t feature = 0;
  std::vector<float> decoder;             ///< [d]
  std::vector<LabelledExample> examples;  ///< Strongest first.
};

std::string density_figure(const FeatureStats& stats, std::int64_t bins, bool log_scale,
                           const VisualizerOptions& options);
std::string activation_figure(const FeatureView& view, std::int64_t bins, bool log_y,
                              const VisualizerOptions& options);
std::string curves_figure(const TrainingCurves& curves, const VisualizerOptions& options);
/// `examples`: the strongest row of each feature.
std::string top_features_figure(const FeatureStats& stats,
                                const std::vector<std::int64_t>& features,
                                const std::vector<LabelledExample>& examples, FeatureStats::Key key,
                                std::int64_t asked, const VisualizerOptions& options);
std::string examples_figure(const FeatureView& view, const ExampleOptions& example_options,
                            const VisualizerOptions& options);
struct WeightColumn {
  std::int64_t feature = 0;
  std::vector<float> weights;
};
std::string weights_figure(const std::vector<WeightColumn>& columns,
                           const VisualizerOptions& options);
std::string dashboard_figure(const FeatureView& view, const VisualizerOptions& options);

/// L2 norm.
double norm(std::span<const float> values);

}  // namespace drrik::detail
