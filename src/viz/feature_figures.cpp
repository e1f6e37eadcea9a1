// Figures of one feature.

#include <algorithm>

#include "drrik/base/error.h"
#include "viz/figures.h"
#include "viz/text_layout.h"

namespace drrik::detail {
namespace {

std::vector<Tile> feature_tiles(const FeatureView& view, bool with_norm) {
  const FeatureStats& stats = *view.stats;
  const std::int64_t active = stats.active_rows(view.feature);
  std::vector<Tile> tiles = {
      {"DENSITY", percent(stats.density(view.feature))},
      {"ROWS", str(with_commas(active), " of ", with_commas(stats.rows()))},
      {"MAX ACTIVATION", short_number(static_cast<double>(stats.max(view.feature)))},
      {"MEAN WHEN ACTIVE", active == 0 ? "none" : short_number(stats.mean_active(view.feature))}};
  if (with_norm) tiles.push_back({"DECODER NORM", short_number(norm(view.decoder))});
  return tiles;
}

std::string never_fires(const FeatureStats& stats) {
  return stats.rows() == 0 ? "There are no rows."
                           : str("Never fires on these ", counted(stats.rows(), "row"), ".");
}

}  // namespace

std::string activation_figure(const FeatureView& view, std::int64_t bins, bool log_y,
                              const VisualizerOptions& options) {
  Canvas canvas(8.0, 5.2, options);
  draw_header(canvas, str("Feature ", view.feature), "Activations on the rows where it fires");
  draw_tiles(canvas, {0.35, 0.84, 7.65, 1.38}, feature_tiles(view, false));
  draw_activations(canvas, {0.95, 1.82, 7.65, 4.55}, *view.stats, view.feature, bins, log_y);
  return canvas.render();
}

std::string examples_figure(const FeatureView& view, const ExampleOptions& example_options,
                            const VisualizerOptions& options) {
  Canvas canvas(10.5, 3.0, options);
  draw_header(canvas, str("Feature ", view.feature),
              view.examples.empty()
                  ? "Where it fires most"
                  : str("The ", counted(static_cast<std::int64_t>(view.examples.size()), "row"),
                        " where it fires most"));
  if (view.examples.empty()) {
    canvas.empty_panel({0.35, 0.9, 10.15, 2.7}, never_fires(*view.stats));
    return canvas.render();
  }
  ExampleLayout layout;
  layout.left = 0.35;
  layout.bar_width = 1.7;
  layout.right = 10.15;
  layout.max_text = example_options.max_text_length;
  layout.show_text = example_options.show_text;
  layout.lines = 2 + example_options.max_text_length / 60;
  const double bottom = draw_examples(canvas, 0.98, view.examples, layout);
  canvas.set_height(bottom + 0.3);
  // The width of a column depends on the dots an inch, so fewer of them are another layout.
  const VisualizerOptions fitting = fitting_options(canvas.height(), options);
  if (fitting.dpi != options.dpi) return examples_figure(view, example_options, fitting);
  return canvas.render();
}

std::string dashboard_figure(const FeatureView& view, const VisualizerOptions& options) {
  Canvas canvas(13.0, 7.55, options);
  const Theme& colors = canvas.colors();
  draw_header(canvas, str("Feature ", view.feature),
              str("One of ", counted(view.stats->d_sae(), "feature"), ", over ",
                  counted(view.stats->rows(), "row")));
  draw_tiles(canvas, {0.35, 0.84, 12.65, 1.38}, feature_tiles(view, true));

  const auto title = [&](double x, double y, const char* words) {
    canvas.text(x, y, words, {10, colors.text, HAlign::kLeft, true});
  };
  title(0.35, 1.68, "Activations");
  draw_activations(canvas, {0.95, 2.1, 5.35, 3.9}, *view.stats, view.feature, 60, true);
  title(0.35, 4.68, "Decoder weights");
  draw_weights(canvas, {0.95, 5.1, 5.35, 6.8}, view.decoder, 50);
  title(5.95, 1.68, "Top examples");
  if (view.examples.empty()) {
    canvas.empty_panel({5.95, 1.95, 12.65, 6.8}, never_fires(*view.stats));
    return canvas.render();
  }
  ExampleLayout layout;
  layout.left = 5.95;
  layout.bar_width = 0.9;
  layout.right = 12.65;
  layout.lines = 2;
  layout.max_text = options.max_text_length;
  std::vector<LabelledExample> rows = view.examples;
  if (rows.size() > 10) rows.resize(10);
  draw_examples(canvas, 2.0, rows, layout);
  return canvas.render();
}

}  // namespace drrik::detail
