// Parts that several figures are made of.

#include <algorithm>
#include <cmath>

#include "drrik/base/error.h"
#include "viz/figures.h"
#include "viz/text_layout.h"

namespace drrik::detail {
namespace {

constexpr double kPointsPerInch = 72.0;

Axis weight_axis(double limit) {
  Axis x;
  x.high = limit > 0 ? limit : 1.0;
  x.low = -x.high;
  return x;
}

Axis count_axis(double most, int ticks) {
  Axis y;
  y.high = std::max(1.0, most) * 1.05;
  y.ticks = integer_ticks(0, y.high, ticks);
  y.grid = true;
  return y;
}

std::vector<Bar> weight_bars(std::span<const float> weights, std::int64_t bins, double limit) {
  const std::vector<double> counts = count_weights(weights, bins, limit);
  std::vector<Bar> bars;
  const double width = 2 * limit / static_cast<double>(bins);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    const double left = -limit + width * static_cast<double>(i);
    bars.push_back({left, left + width, 0, counts[i]});
  }
  return bars;
}

}  // namespace

double norm(std::span<const float> values) {
  double sum = 0.0;
  for (const float v : values) sum += static_cast<double>(v) * static_cast<double>(v);
  return std::sqrt(sum);
}

void draw_header(Canvas& canvas, std::string_view title, std::string_view subtitle) {
  canvas.text(0.35, 0.36, title, {14, canvas.colors().text, HAlign::kLeft, true});
  canvas.text(0.35, 0.62, subtitle, {9, canvas.colors().muted});
}

void draw_tiles(Canvas& canvas, const Box& box, const std::vector<Tile>& tiles) {
  canvas.rect(box, canvas.colors().surface);
  const double step = (box.right - box.left) / static_cast<double>(tiles.size());
  for (std::size_t i = 0; i < tiles.size(); ++i) {
    const double x = box.left + step * static_cast<double>(i) + 0.18;
    const double middle = (box.top + box.bottom) / 2;
    canvas.text(x, middle - 0.11, tiles[i].caption, {7.5, canvas.colors().muted});
    canvas.text(x, middle + 0.10, tiles[i].value, {11, canvas.colors().text, HAlign::kLeft, true});
  }
}

void draw_axis_titles(Canvas& canvas, const Box& frame, std::string_view x, std::string_view y) {
  canvas.text(frame.left, frame.top - 0.17, y, {8.5, canvas.colors().muted});
  canvas.text((frame.left + frame.right) / 2, frame.bottom + 0.40, x,
              {8.5, canvas.colors().muted, HAlign::kCenter});
}

void draw_activations(Canvas& canvas, const Box& frame, const FeatureStats& stats,
                      std::int64_t feature, std::int64_t bins, bool log_y) {
  const ActivationHistogram histogram = stats.histogram(feature, bins);
  if (histogram.counts.empty()) {
    canvas.empty_panel(
        frame, stats.rows() == 0 ? "There are no rows."
                                 : str("Never fires on these ", counted(stats.rows(), "row"), "."));
    return;
  }
  const auto most =
      static_cast<double>(*std::max_element(histogram.counts.begin(), histogram.counts.end()));
  // Under ten rows a bin a log scale shows less than a plain one.
  log_y = log_y && most >= 10;
  Axis y;
  y.grid = true;
  if (log_y) {
    y.log = true;
    y.low = 0.7;  // So that a count of one is a bar too.
    y.high = most * 1.3;
    y.ticks = log_ticks(1, y.high, 6);
  } else {
    y.high = std::max(1.0, most * 1.05);
    y.ticks = integer_ticks(0, y.high, 5);
  }
  const double end = histogram.width * static_cast<double>(histogram.counts.size());
  Axis x;
  x.high = end;
  x.ticks = linear_ticks(0, end, 6);
  std::vector<Bar> bars;
  for (std::size_t i = 0; i < histogram.counts.size(); ++i) {
    if (histogram.counts[i] == 0) continue;
    const auto left = static_cast<double>(i);
    bars.push_back({left * histogram.width, (left + 1) * histogram.width, y.log ? y.low : 0.0,
                    static_cast<double>(histogram.counts[i])});
  }
  canvas.panel(frame, x, y, bars, {});
  draw_axis_titles(canvas, frame, "activation", log_y ? "rows (log scale)" : "rows");
}

double largest_weight(std::span<const float> weights) {
  double largest = 0.0;
  for (const float w : weights) {
    if (!std::isfinite(w)) throw_numeric("decoder column: holds a weight that is not finite");
    largest = std::max(largest, std::abs(static_cast<double>(w)));
  }
  return largest;
}

std::vector<double> count_weights(std::span<const float> weights, std::int64_t bins, double limit) {
  if (limit <= 0) limit = 1.0;  // All are zero.
  std::vector<double> counts(static_cast<std::size_t>(bins), 0.0);
  for (const float w : weights) {
    const double place = (static_cast<double>(w) / limit + 1) / 2 * static_cast<double>(bins);
    const auto bin = std::clamp<std::int64_t>(static_cast<std::int64_t>(place), 0, bins - 1);
    counts[static_cast<std::size_t>(bin)] += 1;
  }
  return counts;
}

void draw_weights(Canvas& canvas, const Box& frame, std::span<const float> weights,
                  std::int64_t bins, const WeightScale& scale, bool numbers) {
  Axis x = weight_axis(scale.limit);
  const double round = round_below(x.high * 0.9);
  x.ticks = linear_ticks(-round, round, 2);
  Axis y = count_axis(scale.most, 3);
  if (!numbers) {
    for (Tick& tick : y.ticks) tick.label.clear();
  }
  canvas.panel(frame, x, y, weight_bars(weights, bins, x.high), {});
}

void draw_weights(Canvas& canvas, const Box& frame, std::span<const float> weights,
                  std::int64_t bins) {
  Axis x = weight_axis(largest_weight(weights));
  x.ticks = linear_ticks(x.low, x.high, 5);
  const std::vector<double> counts = count_weights(weights, bins, x.high);
  const Axis y = count_axis(*std::max_element(counts.begin(), counts.end()), 4);
  canvas.panel(frame, x, y, weight_bars(weights, bins, x.high), {});
  draw_axis_titles(canvas, frame, "decoder weight", "dimensions");
}

void draw_label_line(Canvas& canvas, double x, double y, const LabelLine& line, double font,
                     const char* color) {
  const double column = canvas.column_width(font);
  const double half = font / kPointsPerInch * 0.75;
  if (line.mark_end > line.mark_begin) {
    canvas.rect({x + column * static_cast<double>(line.mark_begin) - 0.012, y - half,
                 x + column * static_cast<double>(line.mark_end) + 0.012, y + half},
                canvas.colors().mark);
  }
  canvas.text(x, y, line.text, {font, color, HAlign::kLeft, false, true});
}

double draw_examples(Canvas& canvas, double top, const std::vector<LabelledExample>& rows,
                     const ExampleLayout& layout) {
  const Theme& colors = canvas.colors();
  const double column = canvas.column_width(layout.font);
  const double text_left = layout.left + layout.bar_width + 0.85;
  const double line_height = layout.font / kPointsPerInch * 1.5;
  const auto columns =
      std::max<std::int64_t>(8, static_cast<std::int64_t>((layout.right - text_left) / column));
  double strongest = 0.0;
  for (const LabelledExample& row : rows) {
    strongest = std::max(strongest, static_cast<double>(row.example.value));
  }
  double y = top;
  for (const LabelledExample& row : rows) {
    std::vector<LabelLine> lines;
    if (layout.show_text) {
      lines = layout_label(fit_label(row.label, layout.max_text), columns, layout.lines);
    }
    if (lines.empty()) lines.push_back({str("row ", row.example.row), 0, 0});
    const double middle = y + line_height / 2;
    const double width = layout.bar_width * static_cast<double>(row.example.value) / strongest;
    canvas.rect({layout.left, middle - line_height * 0.42, layout.left + std::max(width, 0.01),
                 middle + line_height * 0.42},
                colors.primary);
    canvas.text(layout.left + layout.bar_width + 0.68, middle,
                short_number(static_cast<double>(row.example.value)),
                {layout.font, colors.text, HAlign::kRight});
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const double at = middle + line_height * static_cast<double>(i);
      draw_label_line(canvas, text_left, at, lines[i], layout.font, colors.text);
    }
    y += line_height * static_cast<double>(lines.size()) + line_height * 0.55;
  }
  return y - line_height * 0.55;
}

}  // namespace drrik::detail
