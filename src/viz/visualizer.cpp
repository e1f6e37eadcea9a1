#include "drrik/viz/visualizer.h"

#include <algorithm>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/log.h"
#include "viz/figures.h"

namespace drrik {
namespace {

void check_text_length(std::int64_t length) {
  if (length < 1 || length > 2000) {
    throw_usage("max_text_length: got ", length, ", wanted 1 to 2000");
  }
}

}  // namespace

FigureStyle parse_figure_style(const std::string& name) {
  if (name == "light") return FigureStyle::kLight;
  if (name == "dark") return FigureStyle::kDark;
  throw_usage("style '", name, "' is unknown; wanted light or dark",
              did_you_mean(name, {"light", "dark"}));
}

FigureFormat parse_figure_format(const std::string& name) {
  if (name == "png") return FigureFormat::kPng;
  if (name == "svg") return FigureFormat::kSvg;
  throw_usage("figure format '", name, "' is unknown; wanted png or svg",
              did_you_mean(name, {"png", "svg"}));
}

std::string Figure::bytes() const { return read_file(path); }

struct FeatureVisualizer::Impl {
  const Sae& sae;
  const RowSource& rows;
  VisualizerOptions options;
  std::optional<FeatureStats> stats;
  RowLabeler labeler = row_number_labeler();
  TrainingCurves curves;

  // Statistics with at least k examples a feature, or as many as there are rows.
  const FeatureStats& collect(std::int64_t k) {
    if (k < 0 || k > 1000) throw_usage("examples: got ", k, ", wanted 0 to 1000");
    if (!stats || (stats->top_k() < k && stats->top_k() < rows.rows())) {
      FeatureStatsOptions collect_options;
      collect_options.top_k = std::max<std::int64_t>(k, 10);
      stats = collect_feature_stats(sae, rows, collect_options);
    }
    return *stats;
  }

  LabelledExample label(const FeatureExample& example) const {
    return {example, labeler(example.row)};
  }

  detail::FeatureView view(std::int64_t feature, std::int64_t k) {
    const FeatureStats& collected = collect(k);
    detail::FeatureView out;
    out.stats = &collected;
    out.feature = feature;
    for (const FeatureExample& example : collected.examples(feature)) {
      if (static_cast<std::int64_t>(out.examples.size()) == k) break;
      out.examples.push_back(label(example));
    }
    out.decoder = sae.decoder_direction(feature);
    return out;
  }

  Figure save(const std::string& name, const std::string& bytes) const {
    const char* extension = options.format == FigureFormat::kSvg ? ".svg" : ".png";
    Figure figure{options.output_dir / (name + extension)};
    write_file_atomic(figure.path, std::string_view(bytes));
    return figure;
  }
};

FeatureVisualizer::FeatureVisualizer(const Sae& sae, const RowSource& rows,
                                     VisualizerOptions options)
    : impl_(new Impl{sae, rows, std::move(options), {}, row_number_labeler(), {}}) {
  const int dpi = impl_->options.dpi;
  if (dpi < 36 || dpi > 600) throw_usage("dpi: got ", dpi, ", wanted 36 to 600");
  check_text_length(impl_->options.max_text_length);
}

FeatureVisualizer::FeatureVisualizer(const Sae& sae, const RowSource& rows, FeatureStats stats,
                                     VisualizerOptions options)
    : FeatureVisualizer(sae, rows, std::move(options)) {
  if (stats.d_sae() != sae.d_sae()) {
    throw_usage("statistics are of ", stats.d_sae(), " features, the autoencoder has ",
                sae.d_sae());
  }
  impl_->stats = std::move(stats);
}

FeatureVisualizer::~FeatureVisualizer() = default;
FeatureVisualizer::FeatureVisualizer(FeatureVisualizer&&) noexcept = default;
FeatureVisualizer& FeatureVisualizer::operator=(FeatureVisualizer&&) noexcept = default;

void FeatureVisualizer::set_labeler(RowLabeler labeler) { impl_->labeler = std::move(labeler); }

void FeatureVisualizer::set_training_curves(TrainingCurves curves) {
  impl_->curves = std::move(curves);
}

const FeatureStats& FeatureVisualizer::stats() { return impl_->collect(10); }

std::vector<LabelledExample> FeatureVisualizer::examples(std::int64_t feature, std::int64_t k) {
  return impl_->view(feature, k).examples;
}

Figure FeatureVisualizer::plot_feature_density(std::int64_t bins, bool log_scale) {
  return impl_->save("feature_density",
                     detail::density_figure(stats(), bins, log_scale, impl_->options));
}

Figure FeatureVisualizer::plot_activation_histogram(std::int64_t feature, std::int64_t bins,
                                                    bool log_y) {
  return impl_->save(
      str("activation_histogram_feature_", feature),
      detail::activation_figure(impl_->view(feature, 0), bins, log_y, impl_->options));
}

std::optional<Figure> FeatureVisualizer::plot_training_curves() {
  const TrainingCurves& curves = impl_->curves;
  if (curves.train_loss.empty() && curves.train_l0.empty()) {
    log_warning("no training history: no training curves are drawn");
    return std::nullopt;
  }
  return impl_->save("training_curves", detail::curves_figure(curves, impl_->options));
}

Figure FeatureVisualizer::plot_top_features(std::int64_t n, const std::string& by) {
  const FeatureStats::Key key = parse_feature_key(by);
  if (n < 1 || n > 200) throw_usage("top features: got ", n, ", wanted 1 to 200");
  const FeatureStats& collected = stats();
  const std::vector<std::int64_t> features = collected.top_features(n, key);
  std::vector<LabelledExample> examples;
  for (const std::int64_t feature : features) {
    examples.push_back(impl_->label(collected.examples(feature).front()));
  }
  return impl_->save(
      "top_features_" + by,
      detail::top_features_figure(collected, features, examples, key, n, impl_->options));
}

Figure FeatureVisualizer::plot_feature_examples(std::int64_t feature,
                                                const ExampleOptions& options) {
  if (options.k < 1 || options.k > 100) {
    throw_usage("examples: got ", options.k, ", wanted 1 to 100");
  }
  check_text_length(options.max_text_length);
  return impl_->save(
      str("feature_", feature, "_examples"),
      detail::examples_figure(impl_->view(feature, options.k), options, impl_->options));
}

Figure FeatureVisualizer::plot_decoder_weights(const std::vector<std::int64_t>& features,
                                               std::int64_t n) {
  constexpr std::int64_t kMax = 100;
  const auto named = static_cast<std::int64_t>(features.size());
  if (named > kMax) throw_usage("decoder weights: got ", named, " features, wanted 1 to ", kMax);
  if (n < 1) throw_usage("decoder weights: got ", n, " features, wanted at least 1");
  std::vector<detail::WeightColumn> columns;
  for (const std::int64_t feature :
       features.empty() ? stats().top_features(std::min(n, kMax), FeatureStats::Key::kDensity)
                        : features) {
    columns.push_back({feature, impl_->sae.decoder_direction(feature)});
  }
  return impl_->save("decoder_weights", detail::weights_figure(columns, impl_->options));
}

Figure FeatureVisualizer::create_feature_dashboard(std::int64_t feature) {
  return impl_->save(str("feature_", feature, "_dashboard"),
                     detail::dashboard_figure(impl_->view(feature, 10), impl_->options));
}

std::vector<Figure> FeatureVisualizer::save_all(std::int64_t n) {
  std::vector<Figure> figures;
  figures.push_back(plot_feature_density());
  if (auto curves = plot_training_curves()) figures.push_back(*curves);
  figures.push_back(plot_top_features(n, "density"));
  figures.push_back(plot_top_features(n, "max_activation"));
  for (const std::int64_t feature : stats().top_features(n, FeatureStats::Key::kDensity)) {
    check_interrupt("drawing figures");
    figures.push_back(create_feature_dashboard(feature));
  }
  return figures;
}

}  // namespace drrik
