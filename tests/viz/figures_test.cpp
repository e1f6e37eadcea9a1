// The pictures: that they are drawn, as what, and that no text or data breaks them.

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <limits>

#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "drrik/config/config.h"
#include "drrik/viz/frontier.h"
#include "drrik/viz/visualizer.h"
#include "viz/canvas.h"
#include "viz/figures.h"
#include "viz/fixtures.h"
#include "viz/gnuplot.h"
#include "viz/xml.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using testing::random_rows;
using testing::ReluIdentity;
using testing::Rows;
using testing::ScratchFolder;
using testing::xml_error;

bool has_gnuplot() {
  static const bool found = std::system("gnuplot --version >/dev/null 2>&1") == 0;
  return found;
}

#define NEEDS_GNUPLOT() \
  if (!has_gnuplot()) GTEST_SKIP() << "gnuplot is not installed: figures are NOT tested"

struct Size {
  int width = 0;
  int height = 0;
};

// Of a PNG with all its parts, else {0, 0}.
Size png_size(const std::string& bytes) {
  if (bytes.size() < 60 || !bytes.starts_with("\x89PNG\r\n\x1a\n")) return {};
  if (bytes.substr(12, 4) != "IHDR" || bytes.substr(bytes.size() - 8, 4) != "IEND") return {};
  const auto word = [&](std::size_t at) {
    int value = 0;
    for (std::size_t i = at; i < at + 4; ++i)
      value = value * 256 + static_cast<unsigned char>(bytes[i]);
    return value;
  };
  return {word(16), word(20)};
}

TrainingCurves some_curves() {
  return {{0.5, 0.3, 0.2}, {0.55, 0.33, 0.25}, {100, 50, 30}, {110, 55, 33}};
}

TEST(Figures, ThePngCheckSeesBrokenFiles) {
  EXPECT_EQ(png_size("").width, 0);
  EXPECT_EQ(png_size(std::string(100, 'x')).width, 0);
  EXPECT_EQ(png_size("\x89PNG\r\n\x1a\n" + std::string(80, '\0')).width, 0);
}

TEST(Figures, AllAreDrawnAtTheirSize) {
  NEEDS_GNUPLOT();
  const ScratchFolder folder;
  Rows rows = random_rows(400, 30);
  const ReluIdentity sae(30);
  for (const int dpi : {100, 150}) {
    VisualizerOptions options;
    options.output_dir = folder.path() / std::to_string(dpi);
    options.dpi = dpi;
    FeatureVisualizer visualizer(sae, rows, options);
    visualizer.set_training_curves(some_curves());
    const auto check = [&](const Figure& figure, const char* name, double width, double height) {
      EXPECT_EQ(figure.path, options.output_dir / name);
      const Size size = png_size(figure.bytes());
      EXPECT_NEAR(size.width, width * dpi, 1.0) << name;
      if (height > 0) {
        EXPECT_NEAR(size.height, height * dpi, 1.0) << name;
      } else {
        EXPECT_GT(size.height, dpi);
      }
    };
    check(visualizer.plot_feature_density(), "feature_density.png", 8.0, 5.2);
    check(visualizer.plot_feature_density(20, false), "feature_density.png", 8.0, 5.2);
    check(visualizer.plot_activation_histogram(3), "activation_histogram_feature_3.png", 8.0, 5.2);
    check(visualizer.plot_activation_histogram(3, 10, false), "activation_histogram_feature_3.png",
          8.0, 5.2);
    check(*visualizer.plot_training_curves(), "training_curves.png", 10.5, 4.6);
    check(visualizer.plot_top_features(5, "density"), "top_features_density.png", 10.5, 0);
    check(visualizer.plot_top_features(5, "max_activation"), "top_features_max_activation.png",
          10.5, 0);
    check(visualizer.plot_top_features(5, "mean_activation"), "top_features_mean_activation.png",
          10.5, 0);
    check(visualizer.plot_feature_examples(2), "feature_2_examples.png", 10.5, 0);
    check(visualizer.plot_decoder_weights(), "decoder_weights.png", 11.15, 0);
    check(visualizer.plot_decoder_weights({1, 29}), "decoder_weights.png", 7.05, 0);
    check(visualizer.create_feature_dashboard(2), "feature_2_dashboard.png", 13.0, 7.55);
  }
}

// The size on paper: without it a document takes a PNG for one of 72 or 96 dots an inch.
TEST(Figures, TheFrontierIsDrawnWithOrWithoutCrossEntropy) {
  NEEDS_GNUPLOT();
  const ScratchFolder folder;
  VisualizerOptions options;
  options.output_dir = folder.path();
  std::vector<FrontierPoint> points;
  for (int i = 0; i < 9; ++i) {
    points.push_back({i < 5 ? "topk \"<&> 512" : "gated", 4.0 * (i + 1), 0.5 / (i + 1),
                      std::numeric_limits<double>::quiet_NaN()});
  }
  EXPECT_EQ(png_size(plot_frontier(points, options).bytes()).width, 6 * 150);
  points[3].ce_recovered = 0.8;  // a single point has a second panel too
  EXPECT_EQ(png_size(plot_frontier(points, options).bytes()).width, 10 * 150);
  options.format = FigureFormat::kSvg;
  EXPECT_EQ(xml_error(plot_frontier(points, options).bytes()), "");
  for (FrontierPoint& point : points) point.fvu = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(xml_error(plot_frontier(points, options).bytes()), "");
}

TEST(Figures, PngsSayTheirDotsAnInch) {
  NEEDS_GNUPLOT();
  using std::string_literals::operator""s;
  const std::pair<int, std::string> cases[] = {
      {72, "\0\0\0\x09pHYs\0\0\x0B\x13\0\0\x0B\x13\x01\0\x9A\x9C\x18"s},
      {150, "\0\0\0\x09pHYs\0\0\x17\x12\0\0\x17\x12\x01\x67\x9F\xD2\x52"s}};
  for (const auto& [dpi, chunk] : cases) {
    VisualizerOptions options;
    options.dpi = dpi;
    const std::string png = detail::curves_figure({{0.5}, {}, {30}, {}}, options);
    EXPECT_EQ(png.substr(33, chunk.size()), chunk) << dpi;  // After the signature and IHDR.
    EXPECT_EQ(png.find("pHYs"), png.rfind("pHYs"));
    EXPECT_GT(png_size(png).width, 0);
  }
}

TEST(Figures, SaveAllGivesThoseOfTheDescription) {
  NEEDS_GNUPLOT();
  const ScratchFolder folder;
  Rows rows = random_rows(200, 20);
  const ReluIdentity sae(20);
  FeatureVisualizer visualizer(sae, rows, {.output_dir = folder.path(), .dpi = 50});
  visualizer.set_training_curves(some_curves());
  const auto figures = visualizer.save_all(2);
  ASSERT_EQ(figures.size(), 6U);
  for (const Figure& figure : figures) EXPECT_TRUE(fs::exists(figure.path)) << figure.path;
  EXPECT_TRUE(fs::exists(folder.path() / "training_curves.png"));
}

TEST(Figures, NoHistoryIsAWarningAndNoFile) {
  const ScratchFolder folder;
  Rows rows = random_rows(10, 3);
  const ReluIdentity sae(3);
  FeatureVisualizer visualizer(sae, rows, {.output_dir = folder.path()});
  std::string log;
  set_log_sink([&](LogLevel level, std::string_view message) {
    if (level == LogLevel::kWarning) log += message;
  });
  EXPECT_FALSE(visualizer.plot_training_curves().has_value());
  set_log_sink(nullptr);
  EXPECT_NE(log.find("no training history"), std::string::npos);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

const char* const kHostile[] = {
    "''it's '''' quoted \" and \\\" escaped \\n \\",
    "`touch pwned` $(touch pwned) system('touch pwned') @macro %s %d {/Bold x}_a^b",
    "line one\nline two\r\nset output 'pwned'\n!touch pwned",
    "\x01\x02\x1b[31m \xff\xfe \xc3",
    "<b>&amp;</b> ]]> <!-- --> <?xml",
    "\u65E5\u672C\u8A9E \u05E9\u05DC\u05D5\u05DD \u202E reversed \U0001F469\U000F1234",
    "",
    "   ",
};

RowLabeler hostile_labeler() {
  return [](std::int64_t row) {
    const std::string text = kHostile[static_cast<std::size_t>(row) % std::size(kHostile)];
    if (row % 3 == 0) return RowLabel{text, "", ""};
    return RowLabel{text, text, std::string(5000, 'x') + text};
  };
}

TEST(Figures, HostileTextsAreOnlyText) {
  NEEDS_GNUPLOT();
  const ScratchFolder folder;
  Rows rows = random_rows(64, 8);
  const ReluIdentity sae(8);
  for (const FigureFormat format : {FigureFormat::kPng, FigureFormat::kSvg}) {
    FeatureVisualizer visualizer(
        sae, rows,
        {.output_dir = folder.path() / "it's a \"folder\"", .format = format, .dpi = 60});
    visualizer.set_labeler(hostile_labeler());
    for (const Figure& figure :
         {visualizer.plot_feature_examples(0, {.k = 20}),
          visualizer.plot_top_features(8, "density"), visualizer.create_feature_dashboard(1)}) {
      if (format == FigureFormat::kSvg) {
        EXPECT_EQ(xml_error(figure.bytes()), "") << figure.path;
      } else {
        EXPECT_GT(png_size(figure.bytes()).width, 0) << figure.path;
      }
    }
  }
  EXPECT_FALSE(fs::exists("pwned"));
  EXPECT_FALSE(fs::exists(folder.path() / "pwned"));
}

TEST(Figures, SvgHoldsTheLabels) {
  NEEDS_GNUPLOT();
  const ScratchFolder folder;
  Rows rows = random_rows(64, 8);
  const ReluIdentity sae(8);
  FeatureVisualizer visualizer(sae, rows,
                               {.output_dir = folder.path(), .format = FigureFormat::kSvg});
  visualizer.set_labeler([](std::int64_t row) {
    return RowLabel{"the old ", str("sea", row), " was <calm> & wide"};
  });
  const Figure figure = visualizer.plot_feature_examples(0);
  EXPECT_EQ(figure.path.filename(), "feature_0_examples.svg");
  const std::string svg = figure.bytes();
  EXPECT_EQ(xml_error(svg), "");
  const auto top = visualizer.examples(0, 10);
  ASSERT_EQ(top.size(), 10U);
  for (const LabelledExample& row : top) {
    EXPECT_NE(svg.find("the old " + row.label.token + " was &lt;calm&gt; &amp; wide"),
              std::string::npos);
  }
  EXPECT_NE(svg.find("font-weight=\"bold\""), std::string::npos);
  EXPECT_EQ(svg.find(":Bold"), std::string::npos);
  // Without texts, rows are named by number.
  const std::string plain =
      visualizer.plot_feature_examples(0, {.k = 3, .show_text = false}).bytes();
  EXPECT_EQ(plain.find("the old"), std::string::npos);
  EXPECT_NE(plain.find(str("row ", top[0].example.row)), std::string::npos);
}

TEST(Figures, MaxTextLengthCuts) {
  NEEDS_GNUPLOT();
  const ScratchFolder folder;
  Rows rows = random_rows(20, 4);
  const ReluIdentity sae(4);
  FeatureVisualizer visualizer(sae, rows,
                               {.output_dir = folder.path(), .format = FigureFormat::kSvg});
  visualizer.set_labeler([](std::int64_t) {
    return RowLabel{"first words here and then many more until the LAST", "", ""};
  });
  const std::string svg = visualizer.plot_feature_examples(0, {.max_text_length = 20}).bytes();
  EXPECT_NE(svg.find("first words here \u2026"), std::string::npos);
  EXPECT_EQ(svg.find("LAST"), std::string::npos);
  EXPECT_NE(visualizer.create_feature_dashboard(0).bytes().find("LAST"), std::string::npos);
  EXPECT_NE(visualizer.plot_top_features(3).bytes().find("LAST"), std::string::npos);
  FeatureVisualizer brief(
      sae, rows,
      {.output_dir = folder.path(), .format = FigureFormat::kSvg, .max_text_length = 20});
  brief.set_labeler([](std::int64_t) {
    return RowLabel{"first words here and then many more until the LAST", "", ""};
  });
  for (const Figure& figure : {brief.create_feature_dashboard(0), brief.plot_top_features(3)}) {
    EXPECT_NE(figure.bytes().find("first words here \u2026"), std::string::npos) << figure.path;
    EXPECT_EQ(figure.bytes().find("LAST"), std::string::npos) << figure.path;
  }
}

// Data at the edges of what there is; every figure must come out.
TEST(Figures, OddDataIsDrawnOrSaid) {
  NEEDS_GNUPLOT();
  struct Case {
    const char* name;
    std::int64_t rows;
    std::int64_t width;
    float value;
  };
  for (const Case& c : {Case{"no rows", 0, 5, 1.0F}, Case{"all dead", 30, 5, -1.0F},
                        Case{"one feature, one row", 1, 1, 2.0F}, Case{"equal", 30, 5, 2.5F},
                        Case{"huge", 30, 3, 3e38F}, Case{"tiny", 30, 3, 1e-45F}}) {
    const ScratchFolder folder;
    Rows rows(c.rows, c.width);
    for (std::int64_t r = 0; r < c.rows; ++r) {
      for (std::int64_t f = 0; f < c.width; ++f) rows.at(r, f) = c.value;
    }
    const ReluIdentity sae(c.width);
    FeatureVisualizer visualizer(sae, rows,
                                 {.output_dir = folder.path(), .format = FigureFormat::kSvg});
    visualizer.set_training_curves({{std::nan(""), 1.0}, {}, {0.0}, {}});
    const std::string message = c.rows == 0      ? "There are no rows."
                                : c.value < 0.0F ? "fires on"
                                                 : "activation";
    for (const bool flag : {true, false}) {
      const std::string density = visualizer.plot_feature_density(50, flag).bytes();
      EXPECT_EQ(xml_error(density), "") << c.name;
      const std::string histogram = visualizer.plot_activation_histogram(0, 100, flag).bytes();
      EXPECT_NE(histogram.find(message), std::string::npos) << c.name;
    }
    for (const Figure& figure :
         {visualizer.plot_top_features(10, "mean_activation"), visualizer.plot_feature_examples(0),
          visualizer.plot_decoder_weights(), visualizer.create_feature_dashboard(c.width - 1),
          *visualizer.plot_training_curves()}) {
      const std::string svg = figure.bytes();
      EXPECT_EQ(xml_error(svg), "") << c.name << " " << figure.path;
      EXPECT_EQ(svg.find("nan"), std::string::npos) << c.name << " " << figure.path;
      EXPECT_EQ(svg.find("inf"), std::string::npos) << c.name << " " << figure.path;
    }
  }
}

// "feature 0", "norm ..." and one tick on either side of 0, whatever the largest weight.
TEST(Figures, DecoderWeightsHaveAScale) {
  NEEDS_GNUPLOT();
  VisualizerOptions options;
  options.format = FigureFormat::kSvg;
  const std::pair<float, const char*> cases[] = {
      {0.44F, "0.2"}, {0.5F, "0.2"}, {0.55F, "0.2"}, {0.56F, "0.5"}, {1.0F, "0.5"}};
  for (const auto& [largest, label] : cases) {
    const std::string svg = detail::weights_figure({{0, {largest, -largest / 2, 0.0F}}}, options);
    EXPECT_NE(svg.find(str(">\u2212", label, "<")), std::string::npos) << largest;
    EXPECT_NE(svg.find(str(">", label, "<")), std::string::npos) << largest;
  }
}

// All panels to one vertical scale, which the first of a row names.
TEST(Figures, DecoderWeightsShareTheirHeights) {
  NEEDS_GNUPLOT();
  VisualizerOptions options;
  options.format = FigureFormat::kSvg;
  std::vector<float> flat;
  for (int i = 0; i < 200; ++i) flat.push_back(static_cast<float>(i) / 100 - 1);
  const std::vector<float> narrow(200, 0.01F);
  const std::string both = detail::weights_figure({{0, flat}, {1, narrow}}, options);
  for (const char* label : {">200<", ">100<", ">0<"}) {
    EXPECT_NE(both.find(label), std::string::npos) << label;
  }
  EXPECT_EQ(both.find(">200<"), both.rfind(">200<"));
  const std::string one = detail::weights_figure({{0, flat}}, options);
  EXPECT_EQ(one.find(">200<"), std::string::npos);
  EXPECT_NE(one.find(">4<"), std::string::npos);
}

// One epoch is a point, not a line over epochs that never were.
TEST(Figures, OneEpochIsOnePoint) {
  NEEDS_GNUPLOT();
  VisualizerOptions options;
  options.format = FigureFormat::kSvg;
  const std::string svg = detail::curves_figure({{0.5}, {0.6}, {30}, {31}}, options);
  EXPECT_NE(svg.find(">1<"), std::string::npos);
  EXPECT_EQ(svg.find(">2<"), std::string::npos);
  EXPECT_NE(svg.find("validation"), std::string::npos);
}

TEST(Figures, DrawingTwiceGivesTheSameBytes) {
  NEEDS_GNUPLOT();
  const ScratchFolder folder;
  Rows rows = random_rows(100, 8);
  const ReluIdentity sae(8);
  FeatureVisualizer visualizer(sae, rows, {.output_dir = folder.path(), .dpi = 60});
  const std::string first = visualizer.create_feature_dashboard(0).bytes();
  EXPECT_EQ(visualizer.create_feature_dashboard(0).bytes(), first);
}

TEST(Figures, RefuseTheImpossible) {
  Rows rows = random_rows(20, 4);
  const ReluIdentity sae(4);
  const ScratchFolder folder;
  FeatureVisualizer visualizer(sae, rows, {.output_dir = folder.path()});
  const auto kind_of = [](auto&& f) {
    try {
      f();
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::kInterrupted;
  };
  EXPECT_EQ(kind_of([&] { visualizer.plot_top_features(10, "densty"); }), ErrorKind::kUsage);
  EXPECT_EQ(kind_of([&] { visualizer.plot_top_features(0); }), ErrorKind::kUsage);
  EXPECT_EQ(kind_of([&] { visualizer.plot_activation_histogram(4); }), ErrorKind::kUsage);
  EXPECT_EQ(kind_of([&] { visualizer.plot_activation_histogram(-1); }), ErrorKind::kUsage);
  EXPECT_EQ(kind_of([&] { visualizer.plot_activation_histogram(0, 0); }), ErrorKind::kUsage);
  EXPECT_EQ(kind_of([&] { visualizer.plot_feature_density(0); }), ErrorKind::kUsage);
  EXPECT_EQ(kind_of([&] { visualizer.plot_feature_examples(0, {.k = 0}); }), ErrorKind::kUsage);
  EXPECT_EQ(kind_of([&] { visualizer.plot_decoder_weights({9}); }), ErrorKind::kUsage);
  EXPECT_EQ(kind_of([&] { visualizer.create_feature_dashboard(4); }), ErrorKind::kUsage);
  EXPECT_EQ(kind_of([&] { FeatureVisualizer(sae, rows, {.dpi = 0}); }), ErrorKind::kUsage);
  for (const std::int64_t length : {0, 2001}) {
    EXPECT_EQ(kind_of([&] { FeatureVisualizer(sae, rows, {.max_text_length = length}); }),
              ErrorKind::kUsage);
  }
  EXPECT_EQ(kind_of([&] { parse_figure_style("drak"); }), ErrorKind::kUsage);
  EXPECT_EQ(kind_of([&] { parse_figure_format("jpeg"); }), ErrorKind::kUsage);
}

// What the configuration lets through must not be refused when the figure's turn comes.
TEST(Figures, TakeWhatTheConfigurationTakes) {
  NEEDS_GNUPLOT();
  const ScratchFolder folder;
  Rows rows = random_rows(200, 300);
  const ReluIdentity sae(300);
  FeatureVisualizer visualizer(
      sae, rows, {.output_dir = folder.path(), .format = FigureFormat::kSvg, .dpi = 60});
  const auto allowed = [](const char* name, std::int64_t value) {
    Config config;
    try {
      set(config, name, std::to_string(value));
    } catch (const Error&) {
      return false;
    }
    return true;
  };
  const auto drawn = [](auto&& f) {
    try {
      f();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage) << error.what();
      return false;
    }
    return true;
  };
  for (const std::int64_t n : {0, 1, 100, 101, 200, 201, 1000, 1001, 2000, 2001, 10000}) {
    EXPECT_EQ(allowed("visualization.top_features", n),
              drawn([&] { visualizer.plot_top_features(n); }))
        << n;
    EXPECT_EQ(allowed("visualization.examples", n),
              drawn([&] { visualizer.plot_feature_examples(0, {.k = n, .show_text = false}); }))
        << n;
    EXPECT_EQ(allowed("visualization.max_text_length", n),
              drawn([&] { visualizer.plot_feature_examples(0, {.k = 1, .max_text_length = n}); }))
        << n;
    if (allowed("visualization.top_features", n)) {
      EXPECT_TRUE(drawn([&] { visualizer.plot_decoder_weights({}, n); })) << n;
    }
  }
  // The densest hundred are drawn when more are asked for.
  const std::string most = visualizer.plot_decoder_weights({}, 200).bytes();
  EXPECT_EQ(visualizer.plot_decoder_weights({}, 100).bytes(), most);
}

// Cairo draws at most 32767 pixels a side.
TEST(Figures, TallOnesAreDrawnAtFewerDots) {
  NEEDS_GNUPLOT();
  const ScratchFolder folder;
  Rows rows(120, 1);
  for (std::int64_t r = 0; r < 120; ++r) rows.at(r, 0) = static_cast<float>(r + 1);
  const ReluIdentity sae(1);
  std::string log;
  set_log_sink([&](LogLevel level, std::string_view message) {
    if (level == LogLevel::kWarning) log += message;
  });
  FeatureVisualizer visualizer(sae, rows, {.output_dir = folder.path()});
  visualizer.set_labeler([](std::int64_t) {
    std::string words;
    while (words.size() < 2000) words += "so many words ";
    return RowLabel{words, " token", words};
  });
  const Figure figure = visualizer.plot_feature_examples(0, {.k = 100, .max_text_length = 2000});
  const Size size = png_size(figure.bytes());
  EXPECT_GT(size.height, 32000);
  EXPECT_LE(size.height, 32767);
  EXPECT_NE(log.find("dots an inch"), std::string::npos) << log;
  // The tallest of the others: 200 features at 600 dots an inch.
  EXPECT_EQ(detail::fitting_options(69.3, {.dpi = 600}).dpi, 472);
  EXPECT_EQ(detail::fitting_options(69.3, {.dpi = 472}).dpi, 472);
  EXPECT_EQ(detail::fitting_options(69.3, {.format = FigureFormat::kSvg, .dpi = 600}).dpi, 600);
  set_log_sink(nullptr);
}

class PathTest : public ::testing::Test {
 protected:
  PathTest() : path_(std::getenv("PATH") != nullptr ? std::getenv("PATH") : "") {}
  ~PathTest() override { ::setenv("PATH", path_.c_str(), 1); }
  std::string message() {
    try {
      detail::run_gnuplot("set output\n", "figure.png", 0.5);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kIo);
      return error.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
  }
  // A program called gnuplot that does as told.
  void fake_gnuplot(const std::string& body) {
    const fs::path program = folder_.path() / "gnuplot";
    std::ofstream(program) << "#!/bin/sh\n" << body << "\n";
    fs::permissions(program, fs::perms::owner_all);
    ::setenv("PATH", (folder_.path().string() + ":" + path_).c_str(), 1);
  }

  std::string path_;
  ScratchFolder folder_;
};

TEST_F(PathTest, MissingGnuplotNamesThePackage) {
  ::setenv("PATH", folder_.path().c_str(), 1);
  const std::string text = message();
  EXPECT_NE(text.find("gnuplot-nox"), std::string::npos) << text;
  Rows rows = random_rows(20, 4);
  const ReluIdentity sae(4);
  FeatureVisualizer visualizer(sae, rows, {.output_dir = folder_.path() / "pictures"});
  EXPECT_THROW(visualizer.plot_feature_density(), Error);
  EXPECT_FALSE(fs::exists(folder_.path() / "pictures" / "feature_density.png"));
}

TEST_F(PathTest, FailuresAndHangsAreErrors) {
  fake_gnuplot("echo 'line 3: unknown or ambiguous terminal name' >&2; exit 1");
  EXPECT_NE(message().find("unknown or ambiguous terminal"), std::string::npos);
  fake_gnuplot("exit 0");
  EXPECT_NE(message().find("no figure came out"), std::string::npos);
  fake_gnuplot("exec sleep 30");
  EXPECT_NE(message().find("it was ended"), std::string::npos);
  fake_gnuplot("kill -9 $$");
  EXPECT_NE(message().find("no figure came out"), std::string::npos);
}

TEST(Xml, TheCheckSeesBrokenOnes) {
  EXPECT_EQ(xml_error("<?xml version='1.0'?><a b=\"1\"><c/>x &amp; y</a>"), "");
  for (const char* text : {"<a>", "<a></b>", "</a>", "<a b=\"<\"></a>", "<a>&nope;</a>",
                           "<a>& b</a>", "<a>\x01</a>", "<a", "<>", "<a><!-- </a>", "<a>]]></a>"}) {
    EXPECT_NE(xml_error(text), "") << text;
  }
}

}  // namespace
}  // namespace drrik
