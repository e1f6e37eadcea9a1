#include "viz/canvas.h"

#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "viz/gnuplot.h"
#include "viz/text_layout.h"

namespace drrik::detail {
namespace {

constexpr double kPointsPerInch = 72.0;
// gnuplot's cairo terminals set a point at 1/72 inch of a screen of 96 dots an inch.
constexpr double kScreenDpi = 96.0;
constexpr double kMaxPixels = 32767;      // A side of cairo's pictures.
constexpr double kMonoAdvance = 0.60205;  // DejaVu Sans Mono, of its size

std::string number(double value) {
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value);
  return {buffer, end.ptr};
}

std::string color(const char* hex) { return str("rgb '", hex, "'"); }

std::string tics(const Axis& axis) {
  std::string out = "(";
  for (std::size_t i = 0; i < axis.ticks.size(); ++i) {
    // Labels are our own numbers: gnuplot would read '%' in a tick's label as a format.
    out +=
        (i > 0 ? ", " : "") + gnuplot_string(axis.ticks[i].label) + " " + number(axis.ticks[i].at);
  }
  return out + ")";
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos;
       at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

// A pHYs chunk after the header: cairo writes none, and a reader then has to guess the size on
// paper.
void set_dots_per_inch(std::string& png, int dpi) {
  constexpr std::size_t kHeaderEnd = 33;  // Signature and IHDR.
  if (png.size() < kHeaderEnd || png.substr(12, 4) != "IHDR" ||
      png.find("pHYs") < png.find("IDAT")) {
    return;
  }
  const auto append = [](std::string& out, std::uint32_t word) {
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(word >> shift & 0xFFU);
  };
  const auto dots_per_metre = static_cast<std::uint32_t>(std::lround(dpi / 0.0254));
  std::string body = "pHYs";
  append(body, dots_per_metre);
  append(body, dots_per_metre);
  body += '\x01';  // The unit is the metre.
  std::string chunk;
  append(chunk, static_cast<std::uint32_t>(body.size() - 4));
  chunk += body;
  append(chunk, static_cast<std::uint32_t>(
                    crc32_z(0, reinterpret_cast<const Bytef*>(body.data()), body.size())));
  png.insert(kHeaderEnd, chunk);
}

// gnuplot leaves '>' in texts, which ends an XML document's patience after "]]", and lets runs of
// blanks collapse, which would move what stands behind a text from its place.
std::string tidy_svg(const std::string& svg) {
  constexpr std::string_view kOpen = "<text>";
  constexpr std::string_view kClose = "</text>";
  std::string out;
  std::size_t at = 0;
  for (;;) {
    const std::size_t begin = svg.find(kOpen, at);
    const std::size_t end = svg.find(kClose, begin);
    if (begin == std::string::npos || end == std::string::npos) break;
    out += svg.substr(at, begin - at) + "<text xml:space=\"preserve\">";
    std::string words = svg.substr(begin + kOpen.size(), end - begin - kOpen.size());
    replace_all(words, ">", "&gt;");
    out += words;
    at = end;
  }
  return out + svg.substr(at);
}

}  // namespace

// Blue and orange are told apart with every common colour blindness, and in grey.
const Theme& theme(FigureStyle style) {
  static const Theme light = {"#ffffff", "#f4f6f8", "#1c2430", "#5d6978",
                              "#e4e8ed", "#2f6fae", "#d9772b", "#ffe2b8"};
  static const Theme dark = {"#15191f", "#1e242c", "#e8ebef", "#9aa6b4",
                             "#2b323c", "#6fb1ec", "#f2a65a", "#5c4522"};
  return style == FigureStyle::kDark ? dark : light;
}

VisualizerOptions fitting_options(double inches, const VisualizerOptions& options) {
  VisualizerOptions out = options;
  const int most = static_cast<int>(kMaxPixels / inches);
  if (options.format == FigureFormat::kPng && options.dpi > most) {
    log_warning("a figure of ", std::lround(inches), " inches is drawn at ", most,
                " dots an inch, the most a PNG of that height can have; svg has no such limit");
    out.dpi = most;
  }
  return out;
}

Canvas::Canvas(double width, double height, const VisualizerOptions& options)
    : width_(width), height_(height), options_(options), theme_(theme(options.style)) {}

int Canvas::pixels(double inches) const {
  const double dpi = options_.format == FigureFormat::kPng ? options_.dpi : kScreenDpi;
  return static_cast<int>(std::lround(inches * dpi));
}

double Canvas::column_width(double size) const {
  if (options_.format == FigureFormat::kSvg) return kMonoAdvance * size / kPointsPerInch;
  // Advances are hinted to whole pixels.
  const double dpi = options_.dpi;
  return std::round(kMonoAdvance * size * dpi / kPointsPerInch) / dpi;
}

void Canvas::text(double x, double y, std::string_view words, const TextStyle& style) {
  if (words.empty()) return;
  static constexpr const char* kAligns[] = {"left", "center", "right"};
  // An SVG's texts run from left to right unless told; pango looks at the first letter itself.
  texts_ += str("set label ",
                gnuplot_string(options_.format == FigureFormat::kPng ? drawable_text(words)
                                                                     : as_paragraph(words)),
                " at first ", number(x), ",", number(y), " ",
                kAligns[static_cast<int>(style.align)], " front font 'DejaVu Sans",
                style.mono ? " Mono" : "", style.bold ? ":Bold," : ",", number(style.size),
                "' textcolor ", color(style.color != nullptr ? style.color : theme_.text), "\n");
}

void Canvas::rect(const Box& box, const char* fill) {
  rects_ += str("set object rectangle from first ", number(box.left), ",", number(box.bottom),
                " to first ", number(box.right), ",", number(box.top), " behind fillcolor ",
                color(fill), " fillstyle solid 1.0 noborder\n");
}

void Canvas::panel(const Box& frame, const Axis& x, const Axis& y, const std::vector<Bar>& bars,
                   const std::vector<Curve>& curves) {
  std::string plot;
  const auto block = [&](const std::string& rows, const std::string& style) {
    const std::string name = str("$data", blocks_++);
    data_ += name + " << END\n" + rows + "END\n";
    plot += str(plot.empty() ? "plot " : ", ", name, " ", style);
  };
  const std::string white(theme_.background);
  if (!bars.empty()) {
    std::string rows;
    for (const Bar& b : bars) {
      rows += str(number((b.x0 + b.x1) / 2), " ", number((b.y0 + b.y1) / 2), " ", number(b.x0), " ",
                  number(b.x1), " ", number(b.y0), " ", number(b.y1), "\n");
    }
    block(rows, str("using 1:2:3:4:5:6 with boxxyerror notitle fillstyle solid 1.0 border ",
                    color(theme_.background), " linewidth 0.5 linecolor ", color(theme_.primary)));
  }
  for (const Curve& curve : curves) {
    std::string rows;
    for (const auto& [px, py] : curve.points) rows += number(px) + " " + number(py) + "\n";
    if (rows.empty()) continue;
    block(rows, str("using 1:2 with ", curve.dots > 0 ? "linespoints" : "lines",
                    curve.dots > 0 ? " pt 7 ps " + number(curve.dots) : "", " linewidth 1.8 ",
                    curve.dashed ? "dashtype (6,5) " : "", "linecolor ",
                    color(curve.color != nullptr ? curve.color : theme_.primary), " notitle"));
  }
  if (plot.empty()) plot = "plot NaN notitle";
  const std::string grid = x.grid && y.grid ? "xtics ytics"
                           : x.grid         ? "xtics"
                           : y.grid         ? "ytics"
                                            : "";
  panels_ += str(
      "set lmargin at screen ", number(frame.left / width_), "\nset rmargin at screen ",
      number(frame.right / width_), "\nset tmargin at screen ", number(1 - frame.top / height_),
      "\nset bmargin at screen ", number(1 - frame.bottom / height_), "\nset border 1 linecolor ",
      color(theme_.muted), " linewidth 0.8\n", x.log ? "set logscale x\n" : "unset logscale x\n",
      y.log ? "set logscale y\n" : "unset logscale y\n", "set xrange [", number(x.low), ":",
      number(x.high), "]\nset yrange [", number(y.low), ":", number(y.high),
      "]\nset xtics nomirror out scale 0.4,0 offset 0,0.25 textcolor ", color(theme_.muted),
      " font 'DejaVu Sans,8' ", tics(x), "\n", "set ytics nomirror scale 0 offset 0.6,0 textcolor ",
      color(theme_.muted), " font 'DejaVu Sans,8' ", tics(y), "\n");
  if (x.ticks.empty()) panels_ += "unset xtics\n";
  if (y.ticks.empty()) panels_ += "unset ytics\n";
  panels_ += grid.empty() ? "unset grid\n"
                          : str("set grid ", grid, " back linetype 1 linewidth 0.8 linecolor ",
                                color(theme_.grid), "\n");
  panels_ += plot + "\n";
}

void Canvas::empty_panel(const Box& frame, std::string_view message) {
  rect(frame, theme_.surface);
  text((frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2, message,
       {10, theme_.muted, HAlign::kCenter});
}

std::string Canvas::terminal() const {
  const int w = pixels(width_);
  const int h = pixels(height_);
  if (options_.format == FigureFormat::kSvg) {
    // Numbers are pixels there: a point is 96/72 of one.
    return str("set terminal svg noenhanced size ", w, ",", h, " font 'DejaVu Sans,9' fontscale ",
               number(kScreenDpi / kPointsPerInch), " background ", color(theme_.background), "\n");
  }
  const double scale = options_.dpi / kScreenDpi;
  return str("set terminal pngcairo noenhanced size ", w, ",", h,
             " font 'DejaVu Sans,9' fontscale ", number(scale), " linewidth ", number(scale),
             " pointscale ", number(scale), " background ", color(theme_.background), "\n");
}

std::string Canvas::render() const {
  const bool svg = options_.format == FigureFormat::kSvg;
  const std::string name = svg ? "figure.svg" : "figure.png";
  // First the page with its rectangles and texts in inches, then the panels over it.
  const std::string script = str(
      "set encoding utf8\n", terminal(), "set output '", name, "'\n", data_,
      "unset key\nset multiplot\n"
      "set lmargin at screen 0\nset rmargin at screen 1\nset tmargin at screen 1\n"
      "set bmargin at screen 0\nunset border\nunset xtics\nunset ytics\nset xrange [0:",
      number(width_), "]\nset yrange [", number(height_), ":0]\n", rects_, texts_,
      "plot NaN notitle\nunset label\nunset object\n", panels_, "unset multiplot\nset output\n");
  std::string bytes = run_gnuplot(script, name);
  if (!svg) set_dots_per_inch(bytes, options_.dpi);
  if (svg) {
    bytes = tidy_svg(bytes);
    // The svg terminal writes the face's name as it stands.
    replace_all(bytes, "font-family=\"DejaVu Sans:Bold\"",
                "font-family=\"DejaVu Sans, Verdana, sans-serif\" font-weight=\"bold\"");
    replace_all(bytes, "font-family=\"DejaVu Sans Mono:Bold\"",
                "font-family=\"DejaVu Sans Mono, Menlo, monospace\" font-weight=\"bold\"");
    replace_all(bytes, "font-family=\"DejaVu Sans\"",
                "font-family=\"DejaVu Sans, Verdana, sans-serif\"");
    replace_all(bytes, "font-family=\"DejaVu Sans Mono\"",
                "font-family=\"DejaVu Sans Mono, Menlo, monospace\"");
  }
  return bytes;
}

}  // namespace drrik::detail
