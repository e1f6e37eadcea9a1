#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/viz/frontier.h"
#include "viz/figures.h"
#include "viz/text_layout.h"

namespace drrik {
namespace {

using detail::Axis;
using detail::Box;
using detail::Canvas;
using detail::Curve;
using detail::HAlign;

// Told apart by colour-blind readers too (Okabe & Ito, 2008), on light and dark.
constexpr std::array<const char*, 7> kColors = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                                "#E69F00", "#56B4E9", "#999999"};

using Series = std::map<std::string, std::vector<std::pair<double, double>>>;

Axis axis_over(const Series& series, bool of_x) {
  double low = INFINITY;
  double high = -INFINITY;
  for (const auto& [name, points] : series) {
    for (const auto& [x, y] : points) {
      low = std::min(low, of_x ? x : y);
      high = std::max(high, of_x ? x : y);
    }
  }
  Axis axis;
  axis.grid = true;
  if (of_x && low > 0 && high / low > 4) {
    axis.log = true;
    axis.low = low / 1.15;
    axis.high = high * 1.15;
    axis.ticks = detail::log_ticks(axis.low, axis.high, 5);
    if (axis.ticks.size() < 2) {  // less than two powers of ten: the values themselves
      axis.ticks.clear();
      for (double at = detail::round_below(axis.low) * 2; at < axis.high; at *= 2) {
        if (at > axis.low) axis.ticks.push_back({at, str(at)});
      }
    }
    return axis;
  }
  const double pad = high > low ? (high - low) * 0.1 : std::max(std::abs(high) * 0.1, 1e-9);
  axis.low = low >= 0 && low < 0.6 * high ? 0.0 : low - pad;
  axis.high = high + pad;
  axis.ticks = detail::linear_ticks(axis.low, axis.high, 6);
  return axis;
}

void frontier_panel(Canvas& canvas, const Box& frame, const std::string& title, Series series,
                    const std::vector<std::string>& names) {
  const detail::Theme& colors = canvas.colors();
  canvas.text(frame.left, frame.top - 0.22, title, {10, colors.text, HAlign::kLeft, true});
  std::vector<Curve> curves;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto found = series.find(names[i]);
    if (found == series.end()) continue;
    std::ranges::sort(found->second);
    Curve curve{found->second, kColors[i % kColors.size()]};
    curve.dots = 1.0;
    curve.dashed = i >= kColors.size();
    curves.push_back(std::move(curve));
  }
  if (curves.empty()) {
    canvas.empty_panel(frame, "Nothing was measured.");
    return;
  }
  canvas.panel(frame, axis_over(series, true), axis_over(series, false), {}, curves);
  canvas.text((frame.left + frame.right) / 2, frame.bottom + 0.40, "L0 (active latents a row)",
              {8.5, colors.muted, HAlign::kCenter});
}

}  // namespace

Figure plot_frontier(const std::vector<FrontierPoint>& points, const VisualizerOptions& options) {
  std::vector<std::string> names;
  Series fvu;
  Series recovered;
  for (const FrontierPoint& point : points) {
    const std::string name = detail::clean_text(point.series);
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    if (std::isfinite(point.fvu)) fvu[name].emplace_back(point.l0, point.fvu);
    if (std::isfinite(point.ce_recovered))
      recovered[name].emplace_back(point.l0, point.ce_recovered);
  }
  const bool both = !recovered.empty();
  const double legend = 0.22 * static_cast<double>((names.size() + 2) / 3);
  const double top = 0.75 + legend;
  Canvas canvas(both ? 10.0 : 6.0, top + 3.9, options);
  const detail::Theme& colors = canvas.colors();
  for (std::size_t i = 0; i < names.size(); ++i) {
    const double x = 0.75 + 1.75 * static_cast<double>(i % 3);
    const double y = 0.35 + 0.22 * static_cast<double>(i / 3);
    canvas.rect({x, y - 0.015, x + 0.2, y + 0.015}, kColors[i % kColors.size()]);
    canvas.text(x + 0.27, y, names[i], {8.5, colors.muted});
  }
  frontier_panel(canvas, {0.75, top, 5.6, top + 3.2}, "Fraction of variance unexplained", fvu,
                 names);
  if (both) {
    frontier_panel(canvas, {6.3, top, 9.7, top + 3.2}, "Cross-entropy recovered", recovered, names);
  }
  const char* extension = options.format == FigureFormat::kSvg ? ".svg" : ".png";
  Figure figure{options.output_dir / (std::string("frontier") + extension)};
  create_folders(options.output_dir);
  write_file_atomic(figure.path, canvas.render());
  return figure;
}

}  // namespace drrik
