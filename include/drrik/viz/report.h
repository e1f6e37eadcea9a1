#pragma once
// A run on one page: report.html, self-contained (pictures are inside it), without scripts, for
// light and dark screens.

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "drrik/viz/visualizer.h"

namespace drrik {

/// Rows of "name, value", under a heading.
struct ReportTable {
  std::string title;
  std::vector<std::pair<std::string, std::string>> rows;
};

struct ReportFigure {
  std::string title;
  std::filesystem::path path;  ///< A PNG or SVG file.
  std::string caption;         ///< May be empty.
};

struct ReportFeature {
  std::int64_t feature = 0;
  double density = 0.0;
  double max_activation = 0.0;
  std::string note;  ///< Why it is here ("densest"); may be empty.
  std::vector<LabelledExample> examples;
};

struct ReportSteering {
  std::string prompt;
  std::string feature;  ///< "feature 12" or a label.
  /// "baseline", "strength_1.0"... and the text, which may start with the prompt.
  std::vector<std::pair<std::string, std::string>> texts;
};

struct Report {
  std::string title = "drrik";
  std::string summary;              ///< A sentence under the title; may be empty.
  std::vector<ReportTable> tables;  ///< Model, dataset, autoencoder, metrics.
  std::vector<ReportFigure> figures;
  std::vector<ReportFeature> features;
  std::vector<ReportSteering> steering;
  std::string footer;  ///< The command, the version.
};

/// A feature with its k strongest rows.
ReportFeature report_feature(FeatureVisualizer& visualizer, std::int64_t feature,
                             std::int64_t k = 8, std::string note = "");

/// The page. Every text is escaped; any bytes will do. Throws Error(io) when a picture cannot be
/// read, Error(data) when one is neither PNG nor SVG.
std::string render_report(const Report& report);

/// Writes it atomically, creating the folder. Throws Error(io). Returns `path`.
std::filesystem::path write_report(const Report& report, const std::filesystem::path& path);

}  // namespace drrik
