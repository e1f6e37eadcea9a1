#pragma once
// Dashboard: everything that is shown of an autoencoder's features, made in one pass over texts,
// and its writing as a page. Formats: docs/formats/dashboard.md.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "drrik/activations/options.h"
#include "drrik/model/hook.h"
#include "drrik/model/model.h"
#include "drrik/sae/io.h"
#include "drrik/sae/reconstruction.h"
#include "drrik/sae/sae.h"
#include "drrik/text/tokenizer.h"
#include "drrik/viz/feature_examples.h"
#include "drrik/viz/labels.h"

namespace drrik {

struct DashboardOptions {
  static ExtractorOptions::DatasetGroup packed() {
    ExtractorOptions::DatasetGroup group;
    group.pack = true;
    return group;
  }
  /// Texts are packed into contexts unless `pack` is turned off, as they are for training.
  ExtractorOptions::DatasetGroup dataset = packed();
  std::int64_t tokens = 1'000'000;  ///< Rows of the pass at most; negative: the whole dataset.
  /// Leaves out BOS, EOS, padding and every token that the tokenizer marks special: features are
  /// not read on them, and windows show 0 there.
  bool drop_special_tokens = true;
  FeatureExamplesOptions examples;
  std::int64_t lens_tokens = 12;  ///< Promoted tokens, and as many suppressed, 0 to 1000.
  std::int64_t lens_bins = 0;     ///< Of the histogram of a feature's logits; 0: none.
  std::int64_t nearest = 8;       ///< 0 to 1000, as the next two.
  std::int64_t coactive = 8;
  std::int64_t neurons = 8;
  std::int64_t histogram_bins = 48;  ///< 1 to 256.
  std::string title;                 ///< Empty: made of the names.
  std::string model_name;            ///< To show.
  std::string sae_name;              ///< To show.

  /// Throws Error(usage) naming the field.
  void validate() const;
};

struct DashboardInputs {
  std::shared_ptr<const Model> model;  ///< Whole; without its head there is no logit lens.
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const Sae> sae;
  SaeRecord record;
  Hook hook;
  /// Where a transcoder's output goes; nothing: where it reads.
  std::optional<Hook> output;
  std::optional<std::vector<std::string>> texts;  ///< Instead of the dataset.
  /// A run's metrics.jsonl, of which the curves are shown; empty or absent: the record's history.
  std::filesystem::path metrics_log;
};

/// One curve of a training run.
struct TrainingSeries {
  std::string name;
  std::vector<double> x;
  std::vector<double> y;
};

/// Curves of a metrics.jsonl or a trainer's train_log.jsonl: a JSON object a line with "_step" (or
/// "step") and numbers by name, those that begin with "_" left out. At most 64 curves, thinned
/// evenly to `points`. A last line that was cut short is left out. Throws Error(data) naming the
/// line.
std::vector<TrainingSeries> parse_training_log(std::string_view text, std::string_view what,
                                               std::size_t points = 1000);

/// How to name the SAE to Neuronpedia.
struct NeuronpediaOptions {
  std::string model_id;               ///< "gpt2-small"; empty: the shown name.
  std::string sae_set;                ///< "res-jb"; empty: the shown name of the autoencoder.
  std::string sae_id_suffix;          ///< May be empty.
  std::string release;                ///< Title of the release; empty: that of the set.
  std::string creator;                ///< Who made it; may be empty.
  std::int64_t batch_features = 128;  ///< Features in a batch file, 1 to 65536.
};

class Dashboard {
 public:
  /// One pass over the texts, then what the weights say. Does not depend on the number of threads,
  /// up to the rounding of the model's own products.
  ///
  /// Memory, the model and the autoencoder's parameters aside: FeatureExamples::memory_bound(), two
  /// copies of the decoder and tiles of 64 MiB, whatever the length of the text.
  ///
  /// Throws Error(usage) for impossible options, a layer or point that the model does not have;
  /// Error(data) where the autoencoder is not as wide as the hook, reads several hooks at once
  /// (crosscoders), or the texts give no token; Error(numeric); Error(interrupted).
  static Dashboard make(const DashboardInputs& inputs, const DashboardOptions& options = {});
  ~Dashboard();
  Dashboard(Dashboard&&) noexcept;
  Dashboard& operator=(Dashboard&&) noexcept;

  const FeatureExamples& features() const;
  const ReconstructionMetrics& metrics() const;
  /// Shown numbers by name: "l0", "fvu", …
  const std::vector<std::pair<std::string, double>>& summary() const;

  const FeatureLabels& labels() const;
  void set_labels(FeatureLabels labels);

  /// Writes index.html and data/ into a folder, and labels.json when there are labels. The data of
  /// an earlier dashboard are replaced when the new ones are complete. Throws Error(usage) where
  /// `data` is there and is not a dashboard's, Error(io). Returns the page's path.
  std::filesystem::path write_folder(const std::filesystem::path& folder) const;
  /// Writes one file that holds page and data, atomically. Throws Error(io).
  void write_file(const std::filesystem::path& path) const;

  /// Writes Neuronpedia's batch files (batch-0.json…), as SAEDashboard's runner does, and in
  /// `bulk/` the form of its bulk exports (release, model, sourceset and source .jsonl, features
  /// and activations .jsonl.gz). Needs options.lens_bins > 0 for the histograms of logits.
  /// Throws Error(io).
  void write_neuronpedia(const std::filesystem::path& folder,
                         const NeuronpediaOptions& options = {}) const;
  /// Writes what SaeVisData.load_json() of the package sae-dashboard reads. Throws Error(io).
  void write_saedashboard(const std::filesystem::path& path) const;

  struct Data;  ///< For the room's own sources.

 private:
  explicit Dashboard(std::unique_ptr<Data> data);
  std::unique_ptr<Data> data_;
};

/// Throws Error(usage) where Dashboard::write_folder() would refuse the folder, so that it is told
/// before a long pass.
void check_dashboard_folder(const std::filesystem::path& folder);

/// Rates of a pass over texts, for `drrik bench dashboard`.
struct DashboardRates {
  std::int64_t rows = 0;
  double plain_seconds = 0.0;    ///< Model up to the hook, and encoding.
  double whole_seconds = 0.0;    ///< The same with all that make() collects on the way.
  double weights_seconds = 0.0;  ///< What the weights say, once for any length of text.
};
/// Runs both passes over the same rows. Throws as Dashboard::make().
DashboardRates measure_dashboard(const DashboardInputs& inputs, const DashboardOptions& options);

}  // namespace drrik
