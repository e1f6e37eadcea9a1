#pragma once
// A page on which figures are laid out in inches from the top left, rendered by gnuplot.
//
// Everything is placed by the figures themselves (margins, ticks, labels): gnuplot draws, and has
// no say in the layout.

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "drrik/viz/visualizer.h"
#include "viz/ticks.h"

namespace drrik::detail {

struct Theme {
  const char* background;
  const char* surface;  ///< Behind numbers in the header.
  const char* text;
  const char* muted;  ///< Axis labels, captions.
  const char* grid;
  const char* primary;    ///< Bars and the first line.
  const char* secondary;  ///< The second line.
  const char* mark;       ///< Behind the token in a text.
};
const Theme& theme(FigureStyle style);

enum class HAlign { kLeft, kCenter, kRight };

struct TextStyle {
  double size = 9.0;  ///< Points.
  const char* color = nullptr;
  HAlign align = HAlign::kLeft;
  bool bold = false;
  bool mono = false;
};

/// Inches from the top left.
struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;
};

struct Axis {
  double low = 0, high = 1;
  bool log = false;
  std::vector<Tick> ticks = {};
  bool grid = false;
};

struct Bar {
  double x0, x1, y0, y1;
};

struct Curve {
  std::vector<std::pair<double, double>> points;
  const char* color = nullptr;
  double dots = 0.0;  ///< Size of the dot at each point; 0: a line only.
  bool dashed = false;
};

/// The options with as few dots an inch as cairo needs to draw a picture that is `inches` high: at
/// most 32767 pixels a side. Says so in a warning when they are fewer than asked for.
VisualizerOptions fitting_options(double inches, const VisualizerOptions& options);

class Canvas {
 public:
  Canvas(double width, double height, const VisualizerOptions& options);

  const Theme& colors() const { return theme_; }
  double width() const { return width_; }
  double height() const { return height_; }
  void set_height(double height) { height_ = height; }

  /// Foreign text must have been through clean_text(). `y` is the middle of the line.
  void text(double x, double y, std::string_view text, const TextStyle& style);
  void rect(const Box& box, const char* color);
  /// A plot: bars below curves, in the coordinates of its axes.
  void panel(const Box& frame, const Axis& x, const Axis& y, const std::vector<Bar>& bars,
             const std::vector<Curve>& curves);
  /// A panel's frame with a sentence in its middle, for when there is nothing to plot.
  void empty_panel(const Box& frame, std::string_view message);

  /// Inches that a column of the monospaced font takes at `size` points (as rendered, hinting
  /// included).
  double column_width(double size) const;

  /// The picture's bytes. Throws Error(io) as run_gnuplot().
  std::string render() const;

 private:
  std::string terminal() const;
  int pixels(double inches) const;

  double width_;
  double height_;
  VisualizerOptions options_;
  const Theme& theme_;
  std::string rects_;
  std::string texts_;
  std::string panels_;
  std::string data_;
  int blocks_ = 0;
};

}  // namespace drrik::detail
