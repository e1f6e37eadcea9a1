// Figures of the whole autoencoder.

#include <algorithm>
#include <cmath>

#include "drrik/base/error.h"
#include "viz/figures.h"
#include "viz/text_layout.h"

namespace drrik::detail {
namespace {

constexpr double kLowestDensity = 1e-8;
constexpr std::int64_t kWeightBins = 50;

double median(std::vector<double> values) {
  if (values.empty()) return 0.0;
  const std::size_t middle = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(middle),
                   values.end());
  if (values.size() % 2 == 1) return values[middle];
  const double upper = values[middle];
  return (upper +
          *std::max_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(middle))) /
         2;
}

Axis count_axis(double most) {
  Axis y;
  y.high = std::max(1.0, most * 1.08);
  y.ticks = integer_ticks(0, y.high, 5);
  y.grid = true;
  return y;
}

std::vector<std::pair<double, double>> by_epoch(const std::vector<double>& values) {
  std::vector<std::pair<double, double>> points;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) points.emplace_back(static_cast<double>(i + 1), values[i]);
  }
  return points;
}

void curve_panel(Canvas& canvas, const Box& frame, const std::string& title,
                 const std::vector<double>& train, const std::vector<double>& validation) {
  const Theme& colors = canvas.colors();
  canvas.text(frame.left, frame.top - 0.22, title, {10, colors.text, HAlign::kLeft, true});
  Curve first{by_epoch(train), colors.primary};
  Curve second{by_epoch(validation), colors.secondary};
  if (first.points.empty() && second.points.empty()) {
    canvas.empty_panel(frame, "Nothing was recorded.");
    return;
  }
  double low = INFINITY;
  double high = -INFINITY;
  std::size_t epochs = 1;
  for (const Curve* curve : {&first, &second}) {
    for (const auto& [x, y] : curve->points) {
      low = std::min(low, y);
      high = std::max(high, y);
      epochs = std::max(epochs, static_cast<std::size_t>(x));
    }
  }
  Axis y;
  y.grid = true;
  if (low > 0 && high / low > 30) {
    y.log = true;
    y.low = low / 1.2;
    y.high = high * 1.2;
    y.ticks = log_ticks(y.low, y.high, 6);
  } else {
    // From zero when that wastes little, so that heights can be compared; a single epoch has no
    // course that it could flatten.
    const double pad = high > low ? (high - low) * 0.08 : std::max(std::abs(high) * 0.1, 1e-12);
    y.low = low >= 0 && (low < 0.6 * high || epochs == 1) ? 0.0 : low - pad;
    y.high = high + std::max(pad, (high - y.low) * 0.08);
    y.ticks = linear_ticks(y.low, y.high, 5);
  }
  Axis x;
  // A single epoch stands in the middle, and is the only one named.
  x.low = epochs > 1 ? 1 : 0.5;
  x.high = epochs > 1 ? static_cast<double>(epochs) : 1.5;
  x.ticks = integer_ticks(x.low, x.high, 8);
  first.dots = second.dots = epochs == 1 ? 1.0 : epochs <= 20 ? 0.5 : 0.0;
  const bool both = !second.points.empty();
  canvas.panel(frame, x, y, {}, {first, second});
  canvas.text((frame.left + frame.right) / 2, frame.bottom + 0.40, "epoch",
              {8.5, colors.muted, HAlign::kCenter});
  if (both) {
    const double right = frame.right;
    canvas.rect({right - 1.72, frame.top - 0.235, right - 1.52, frame.top - 0.205}, colors.primary);
    canvas.text(right - 1.45, frame.top - 0.22, "training", {8.5, colors.muted});
    canvas.rect({right - 0.88, frame.top - 0.235, right - 0.68, frame.top - 0.205},
                colors.secondary);
    canvas.text(right - 0.61, frame.top - 0.22, "validation", {8.5, colors.muted});
  }
}

std::string key_title(FeatureStats::Key key) {
  switch (key) {
    case FeatureStats::Key::kDensity:
      return "Densest features";
    case FeatureStats::Key::kMaxActivation:
      return "Features with the strongest activations";
    case FeatureStats::Key::kMeanActivation:
      break;
  }
  return "Features with the highest mean activation";
}

std::string key_subtitle(FeatureStats::Key key) {
  switch (key) {
    case FeatureStats::Key::kDensity:
      return "Part of the rows on which a feature fires, and where it fires most";
    case FeatureStats::Key::kMaxActivation:
      return "Largest activation of a feature, and where it is";
    case FeatureStats::Key::kMeanActivation:
      break;
  }
  return "Mean activation over the rows on which a feature fires, and where it fires most";
}

}  // namespace

std::string density_figure(const FeatureStats& stats, std::int64_t bins, bool log_scale,
                           const VisualizerOptions& options) {
  if (bins < 1 || bins > 100000) throw_usage("density: got ", bins, " bins, wanted 1 to 100000");
  Canvas canvas(8.0, 5.2, options);
  std::vector<double> alive;
  double densest = 0.0;
  for (const double density : stats.densities()) {
    if (density > 0) alive.push_back(density);
    densest = std::max(densest, density);
  }
  const auto total = static_cast<double>(std::max<std::int64_t>(stats.d_sae(), 1));
  const auto count = static_cast<std::int64_t>(alive.size());
  const double middle = median(alive);
  draw_header(
      canvas, "Feature density",
      str("How often ", counted(stats.d_sae(), "feature"), stats.d_sae() == 1 ? " fires" : " fire",
          ", over ", counted(stats.rows(), "row")));
  draw_tiles(
      canvas, {0.35, 0.84, 7.65, 1.38},
      {{"ACTIVE", str(with_commas(count), "  (", percent(static_cast<double>(count) / total), ")")},
       {"DEAD", str(with_commas(stats.dead_features()), "  (",
                    percent(static_cast<double>(stats.dead_features()) / total), ")")},
       {"MEDIAN DENSITY", alive.empty() ? "none" : percent(middle)},
       {"FEATURES A ROW (L0)", short_number(stats.l0())}});
  const Box frame{0.95, 1.82, 7.65, 4.55};
  if (alive.empty()) {
    canvas.empty_panel({0.35, 1.6, 7.65, 4.85}, stats.rows() == 0
                                                    ? "There are no rows."
                                                    : str("No feature fires on any of these ",
                                                          counted(stats.rows(), "row"), "."));
    return canvas.render();
  }
  std::vector<double> counts(static_cast<std::size_t>(bins), 0.0);
  const double decades = -std::log10(kLowestDensity);
  const auto edge = [&](double i) {
    const double part = i / static_cast<double>(bins);
    return log_scale ? std::pow(10.0, decades * (part - 1)) : densest * part;
  };
  for (const double density : alive) {
    const double part =
        log_scale ? 1 + std::log10(std::max(density, kLowestDensity)) / decades : density / densest;
    const auto bin = std::clamp<std::int64_t>(
        static_cast<std::int64_t>(part * static_cast<double>(bins)), 0, bins - 1);
    counts[static_cast<std::size_t>(bin)] += 1;
  }
  std::vector<Bar> bars;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    bars.push_back({edge(static_cast<double>(i)), edge(static_cast<double>(i + 1)), 0, counts[i]});
  }
  const double most = *std::max_element(counts.begin(), counts.end());
  const Axis y = count_axis(most);
  Axis x;
  if (log_scale) {
    // No density is below one row; the empty decades under that would only squeeze the rest.
    x.log = true;
    x.low = std::pow(10.0, std::floor(std::log10(bars.front().x0) + 1e-9));
    x.high = 1.0;
    if (x.low > 0.1) x.low = 0.1;
    x.ticks = log_ticks(x.low, 1.0, 9);
  } else {
    x.high = densest;
    x.ticks = linear_ticks(0, densest, 6);
  }
  const Curve line{{{middle, 0.0}, {middle, y.high}}, canvas.colors().secondary, 0.0, true};
  canvas.panel(frame, x, y, bars, {line});
  draw_axis_titles(canvas, frame, "density: part of the rows on which a feature fires", "features");
  const double part =
      log_scale ? std::log(middle / x.low) / std::log(x.high / x.low) : middle / x.high;
  canvas.text(std::clamp(frame.left + part * (frame.right - frame.left), frame.left + 0.9,
                         frame.right - 0.2),
              frame.top - 0.12, "median", {8, canvas.colors().secondary, HAlign::kCenter});
  return canvas.render();
}

std::string curves_figure(const TrainingCurves& curves, const VisualizerOptions& options) {
  Canvas canvas(10.5, 4.6, options);
  const std::size_t epochs =
      std::max({curves.train_loss.size(), curves.val_loss.size(), curves.train_l0.size()});
  draw_header(canvas, "Training", str(epochs, epochs == 1 ? " epoch" : " epochs"));
  curve_panel(canvas, {0.95, 1.2, 5.05, 3.95}, "Loss", curves.train_loss, curves.val_loss);
  curve_panel(canvas, {6.1, 1.2, 10.15, 3.95}, "L0 (features a row)", curves.train_l0,
              curves.val_l0);
  return canvas.render();
}

std::string top_features_figure(const FeatureStats& stats,
                                const std::vector<std::int64_t>& features,
                                const std::vector<LabelledExample>& examples, FeatureStats::Key key,
                                std::int64_t asked, const VisualizerOptions& options) {
  const auto count = static_cast<double>(features.size());
  const double step = 0.34;
  const double height = features.empty() ? 3.0 : 1.0 + step * count + 0.3;
  Canvas canvas(10.5, height, fitting_options(height, options));
  const Theme& colors = canvas.colors();
  std::string subtitle = key_subtitle(key);
  if (static_cast<std::int64_t>(features.size()) < asked && !features.empty()) {
    subtitle += str("  (", features.size(),
                    features.size() == 1 ? " feature fires" : " features fire", " at all)");
  }
  draw_header(canvas, key_title(key), subtitle);
  if (features.empty()) {
    canvas.empty_panel({0.35, 0.9, 10.15, 2.7},
                       str("No feature fires on any of these ", counted(stats.rows(), "row"), "."));
    return canvas.render();
  }
  const auto score = [&](std::int64_t f) {
    if (key == FeatureStats::Key::kDensity) return stats.density(f);
    return key == FeatureStats::Key::kMaxActivation ? static_cast<double>(stats.max(f))
                                                    : stats.mean_active(f);
  };
  const double strongest = score(features.front());
  const double font = 8.5;
  const double left = 1.35;
  const double widest = 2.6;
  const double text_left = left + widest + 1.0;
  const double column = canvas.column_width(font);
  const auto columns = static_cast<std::int64_t>((10.15 - text_left) / column);
  for (std::size_t i = 0; i < features.size(); ++i) {
    const double y = 1.05 + step * (static_cast<double>(i) + 0.5);
    const double value = score(features[i]);
    canvas.text(left - 0.12, y, str("feature ", features[i]), {font, colors.text, HAlign::kRight});
    canvas.rect({left, y - 0.10, left + std::max(0.01, widest * value / strongest), y + 0.10},
                colors.primary);
    canvas.text(left + widest + 0.82, y,
                key == FeatureStats::Key::kDensity ? percent(value) : short_number(value),
                {font, colors.text, HAlign::kRight});
    const RowLabel label = fit_label(examples[i].label, options.max_text_length);
    for (const LabelLine& line : layout_label(label, columns, 1)) {
      draw_label_line(canvas, text_left, y, line, font, colors.muted);
    }
  }
  return canvas.render();
}

std::string weights_figure(const std::vector<WeightColumn>& columns,
                           const VisualizerOptions& options) {
  const std::size_t across = std::min<std::size_t>(std::max<std::size_t>(columns.size(), 3), 5);
  const std::size_t down = columns.empty() ? 1 : (columns.size() + across - 1) / across;
  const double cell_width = 2.05;
  const double cell_height = 1.75;
  const double scale_width = 0.4;  // Of the numbers left of a row's first panel.
  Canvas canvas(0.5 + scale_width + cell_width * static_cast<double>(across),
                1.05 + cell_height * static_cast<double>(down), options);
  draw_header(canvas, "Decoder weights",
              columns.size() > 1
                  ? "How many dimensions of a feature's direction have which weight; "
                    "all panels to one scale"
                  : "How many dimensions of the feature's direction have which weight");
  if (columns.empty()) {
    canvas.empty_panel({0.35, 0.9, canvas.width() - 0.35, canvas.height() - 0.3},
                       "No feature fires; name features to see their weights.");
    return canvas.render();
  }
  WeightScale scale;
  for (const WeightColumn& column : columns) {
    scale.limit = std::max(scale.limit, largest_weight(column.weights));
  }
  for (const WeightColumn& column : columns) {
    const std::vector<double> counts = count_weights(column.weights, kWeightBins, scale.limit);
    scale.most = std::max(scale.most, *std::max_element(counts.begin(), counts.end()));
  }
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const double left = 0.35 + scale_width + cell_width * static_cast<double>(i % across);
    const double top = 0.95 + cell_height * static_cast<double>(i / across);
    const Box frame{left, top + 0.28, left + cell_width - 0.25, top + cell_height - 0.42};
    canvas.text(left, top + 0.12, str("feature ", columns[i].feature),
                {8.5, canvas.colors().text, HAlign::kLeft, true});
    canvas.text(frame.right, top + 0.12, str("norm ", short_number(norm(columns[i].weights))),
                {8, canvas.colors().muted, HAlign::kRight});
    draw_weights(canvas, frame, columns[i].weights, kWeightBins, scale, i % across == 0);
  }
  return canvas.render();
}

}  // namespace drrik::detail
