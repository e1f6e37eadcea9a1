// The forms in which other viewers take features: Neuronpedia's upload batches and bulk exports,
// and the JSON of the package sae-dashboard. docs/formats/dashboard.md says what of them is left
// empty.

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/interrupt.h"
#include "io/json.h"
#include "viz/dashboard_data.h"
#include "viz/gzip.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kAligned = 3;  // neurons in the table beside a feature
constexpr std::size_t kTokens = 10;  // promoted and suppressed ones
constexpr std::int64_t kBars = 50;
constexpr std::int64_t kBulkFeatures = 1024;  // in one file

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// As SAEDashboard rounds: so many decimals.
double rounded(double value, double scale = 1e3) { return std::round(value * scale) / scale; }

struct Table {
  Json indices = Json::array();
  Json values = Json::array();
  Json l1 = Json::array();  // share of the sum of sizes
};

/// The largest entries of a decoder direction.
Table aligned(std::span<const float> direction) {
  detail::RankedLists lists(1, static_cast<std::int64_t>(kAligned));
  lists.keep(
      0, direction, [](float v) { return v; }, [](std::int32_t) { return true; });
  double sizes = 0.0;
  for (const float v : direction) sizes += std::fabs(static_cast<double>(v));
  Table table;
  for (const detail::Ranked& one : lists.of(0)) {
    const auto value = static_cast<double>(one.value);
    table.indices.push_back(one.index);
    table.values.push_back(rounded(value));
    table.l1.push_back(rounded(sizes > 0.0 ? std::fabs(value) / sizes : 0.0));
  }
  return table;
}

struct Bars {
  Json values = Json::array();  // middles
  Json heights = Json::array();
};

Bars activation_bars(const FeatureExamples& features, std::int64_t f) {
  Bars bars;
  const ActivationHistogram histogram = features.histogram(f, kBars);
  for (std::size_t i = 0; i < histogram.counts.size(); ++i) {
    bars.values.push_back(rounded(histogram.width * (static_cast<double>(i) + 0.5), 1e5));
    bars.heights.push_back(histogram.counts[i]);
  }
  return bars;
}

Bars logit_bars(const Dashboard::Data& data, std::int64_t f) {
  Bars bars;
  if (!data.lens || data.lens->histograms.empty()) return bars;
  const detail::LensHistogram& histogram = data.lens->histograms[at(f)];
  const double width = (static_cast<double>(histogram.high) - static_cast<double>(histogram.low)) /
                       static_cast<double>(histogram.counts.size());
  for (std::size_t i = 0; i < histogram.counts.size(); ++i) {
    bars.values.push_back(
        rounded(static_cast<double>(histogram.low) + width * (static_cast<double>(i) + 0.5), 1e5));
    bars.heights.push_back(histogram.counts[i]);
  }
  return bars;
}

std::span<const detail::Ranked> first(std::span<const detail::Ranked> list, std::size_t count) {
  return list.first(std::min(list.size(), count));
}

/// Calls f(group's name, low, high, share of tokens, its examples); the top group has no bounds.
template <typename F>
void each_group(const FeatureExamples& features, std::int64_t f, F&& visit) {
  const auto tokens = static_cast<double>(std::max<std::int64_t>(features.rows(), 1));
  visit(true, -1.0, static_cast<double>(features.max(f)), -1.0, features.top(f));
  for (const FeatureBand& band : features.bands(f)) {
    visit(false, band.low, band.high, static_cast<double>(band.count) / tokens, band.examples);
  }
}

class Exporter {
 public:
  Exporter(const Dashboard::Data& data, const NeuronpediaOptions& wanted)
      : data_(data), naming_(wanted) {
    if (naming_.model_id.empty()) naming_.model_id = data.options.model_name;
    if (naming_.sae_set.empty()) naming_.sae_set = data.options.sae_name;
    // Ids are parts of addresses there.
    std::ranges::replace(naming_.model_id, '/', '-');
    std::ranges::replace(naming_.sae_set, '/', '-');
    if (naming_.release.empty()) naming_.release = naming_.sae_set;
    if (naming_.batch_features < 1 || naming_.batch_features > 65536) {
      throw_usage("neuronpedia: got batches of ", naming_.batch_features,
                  " features, wanted 1 to 65536");
    }
    source_ = str(data.output.layer, "-", naming_.sae_set,
                  naming_.sae_id_suffix.empty() ? "" : "__" + naming_.sae_id_suffix);
  }

  void write_batches(const fs::path& folder) const;
  void write_bulk(const fs::path& folder) const;

 private:
  Json tokens(std::span<const std::int32_t> ids) const {
    Json out = Json::array();
    for (const std::int32_t id : ids) out.push_back(detail::shown_token(*data_.tokenizer, id));
    return out;
  }
  void add_lens(Json& to, std::int64_t f) const;
  Json statistics(std::int64_t f, std::span<const float> direction) const;
  Json batch_feature(std::int64_t f) const;
  Json bulk_feature(std::int64_t f) const;
  void append_activations(std::int64_t f, std::string& lines) const;

  const Dashboard::Data& data_;
  NeuronpediaOptions naming_;
  std::string source_;
};

void Exporter::add_lens(Json& to, std::int64_t f) const {
  for (const auto& [name, promoted] : {std::pair("neg", false), std::pair("pos", true)}) {
    Json strings = Json::array();
    Json values = Json::array();
    if (data_.lens) {
      const auto& lists = promoted ? data_.lens->promoted : data_.lens->suppressed;
      for (const detail::Ranked& one : first(lists.of(f), kTokens)) {
        strings.push_back(detail::shown_token(*data_.tokenizer, one.index));
        values.push_back(rounded(static_cast<double>(one.value)));
      }
    }
    to[str(name, "_str")] = std::move(strings);
    to[str(name, "_values")] = std::move(values);
  }
}

// Correlations are not computed: their lists are empty, as SAEDashboard's are when it is told not
// to.
Json Exporter::statistics(std::int64_t f, std::span<const float> direction) const {
  const Table table = aligned(direction);
  Json out{{"neuron_alignment_indices", table.indices},
           {"neuron_alignment_values", table.values},
           {"neuron_alignment_l1", table.l1}};
  for (const char* what : {"correlated_neurons", "correlated_features"}) {
    for (const char* part : {"indices", "l1", "pearson"}) {
      out[str(what, "_", part)] = Json::array();
    }
  }
  add_lens(out, f);
  out["frac_nonzero"] = rounded(data_.features.density(f), 1e7);
  const Bars activations = activation_bars(data_.features, f);
  out["freq_hist_data_bar_values"] = activations.values;
  out["freq_hist_data_bar_heights"] = activations.heights;
  const Bars logits = logit_bars(data_, f);
  out["logits_hist_data_bar_heights"] = logits.heights;
  out["logits_hist_data_bar_values"] = logits.values;
  return out;
}

Json Exporter::batch_feature(std::int64_t f) const {
  const std::vector<float> direction = data_.sae->decoder_direction(f);
  Json out{{"feature_index", f}};
  out.update(statistics(f, direction));
  out["n_prompts_total"] = data_.features.sequences();
  out["n_tokens_in_prompt"] = data_.model.context_size;
  out["dataset"] = data_.options.dataset.dataset_name;
  out["decoder_weights_dist"] = Json::array();
  out["activations"] = Json::array();
  each_group(data_.features, f,
             [&](bool top, double low, double high, double share, const auto& examples) {
               for (const FeatureWindow& window : examples) {
                 Json values = Json::array();
                 for (const float v : window.values) {
                   values.push_back(rounded(static_cast<double>(v)));
                 }
                 out["activations"].push_back({{"bin_min", top ? -1.0 : rounded(low)},
                                               {"bin_max", rounded(high)},
                                               {"bin_contains", top ? -1.0 : rounded(share, 1e7)},
                                               {"tokens", tokens(window.tokens)},
                                               {"values", std::move(values)},
                                               {"qualifying_token_index", window.peak}});
               }
             });
  out["vector"] = direction;
  return out;
}

void Exporter::write_batches(const fs::path& folder) const {
  const std::int64_t h = data_.d_sae();
  std::int64_t number = 0;
  for (std::int64_t begin = 0; begin < h; begin += naming_.batch_features) {
    check_interrupt("writing Neuronpedia's batches");
    Json batch{{"model_id", naming_.model_id},
               {"layer", data_.output.layer},
               {"sae_set", naming_.sae_set},
               {"sae_id_suffix",
                naming_.sae_id_suffix.empty() ? Json(nullptr) : Json(naming_.sae_id_suffix)},
               {"features", Json::array()}};
    for (std::int64_t f = begin; f < std::min(begin + naming_.batch_features, h); ++f) {
      // Features that never fired have nothing to show there; SAEDashboard leaves them out too.
      if (data_.features.active(f) > 0) batch["features"].push_back(batch_feature(f));
    }
    write_file_atomic(folder / str("batch-", number++, ".json"), json_text(batch));
  }
  Json skipped = Json::array();
  for (std::int64_t f = 0; f < h; ++f) {
    if (data_.features.active(f) == 0) skipped.push_back(f);
  }
  write_json_file(folder / "skipped_indexes.json",
                  {{"model_id", naming_.model_id},
                   {"layer", str(data_.output.layer)},
                   {"sae_set", naming_.sae_set},
                   {"log", {"features that never fired on the texts"}},
                   {"skipped_indexes", skipped}});
  write_json_file(folder / "run_settings.json",
                  {{"sae_set", naming_.sae_set},
                   {"np_set_name", naming_.sae_set},
                   {"np_sae_id_suffix",
                    naming_.sae_id_suffix.empty() ? Json(nullptr) : Json(naming_.sae_id_suffix)},
                   {"model_id", naming_.model_id},
                   {"layer", data_.output.layer},
                   {"huggingface_dataset_path", data_.options.dataset.dataset_name},
                   {"n_prompts_total", data_.features.sequences()},
                   {"n_tokens_in_prompt", data_.model.context_size},
                   {"n_features_at_a_time", naming_.batch_features}});
}

Json Exporter::bulk_feature(std::int64_t f) const {
  const std::vector<float> direction = data_.sae->decoder_direction(f);
  Json out{{"modelId", naming_.model_id},
           {"layer", source_},
           {"index", std::to_string(f)},
           {"sourceSetName", naming_.sae_set},
           {"creatorName", naming_.creator},
           {"maxActApprox", static_cast<double>(data_.features.max(f))},
           {"hasVector", true},
           {"vector", direction},
           {"vectorDefaultSteerStrength", 10},
           {"hookName", data_.foreign_hook}};
  out.update(statistics(f, direction));
  if (const auto label = data_.labels.find(f); label != data_.labels.end()) {
    out["vectorLabel"] = label->second;
  }
  return out;
}

void Exporter::append_activations(std::int64_t f, std::string& lines) const {
  std::int64_t number = 0;
  each_group(data_.features, f,
             [&](bool top, double low, double high, double share, const auto& examples) {
               for (const FeatureWindow& window : examples) {
                 const auto [least, most] = std::ranges::minmax_element(window.values);
                 Json values = Json::array();
                 for (const float v : window.values) {
                   values.push_back(rounded(static_cast<double>(v), 1e5));
                 }
                 const Json row{{"id", str(naming_.model_id, "-", source_, "-", f, "-", number++)},
                                {"modelId", naming_.model_id},
                                {"layer", source_},
                                {"index", std::to_string(f)},
                                {"tokens", tokens(window.tokens)},
                                {"values", std::move(values)},
                                {"maxValue", rounded(static_cast<double>(*most), 1e5)},
                                {"maxValueTokenIndex", most - window.values.begin()},
                                {"minValue", rounded(static_cast<double>(*least), 1e5)},
                                {"dataSource", data_.options.dataset.dataset_name},
                                {"binMin", top ? -1.0 : rounded(low, 1e5)},
                                {"binMax", rounded(high, 1e5)},
                                {"binContains", top ? -1.0 : rounded(share, 1e7)},
                                {"qualifyingTokenIndex", window.peak}};
                 lines += json_text(row);
                 lines += '\n';
               }
             });
}

void Exporter::write_bulk(const fs::path& folder) const {
  const auto line = [&](const char* name, const Json& row) {
    write_file_atomic(folder / name, json_text(row) + "\n");
  };
  line("release.jsonl", {{"name", naming_.release},
                         {"description", naming_.release},
                         {"creatorName", naming_.creator},
                         {"createdAt", data_.created}});
  line("model.jsonl", {{"id", naming_.model_id},
                       {"displayName", data_.options.model_name},
                       {"layers", data_.model.n_layers},
                       {"createdAt", data_.created}});
  line("sourceset.jsonl", {{"modelId", naming_.model_id},
                           {"name", naming_.sae_set},
                           {"description", naming_.sae_set},
                           {"type", hook_name(data_.output.point)},
                           {"creatorName", naming_.creator},
                           {"releaseName", naming_.release}});
  line("source.jsonl", {{"id", source_},
                        {"modelId", naming_.model_id},
                        {"setName", naming_.sae_set},
                        {"hasDashboards", true},
                        {"dataset", data_.options.dataset.dataset_name},
                        {"num_prompts", data_.features.sequences()},
                        {"num_tokens_in_prompt", data_.model.context_size},
                        {"hookName", data_.foreign_hook}});
  std::int64_t number = 0;
  for (std::int64_t begin = 0; begin < data_.d_sae(); begin += kBulkFeatures) {
    check_interrupt("writing Neuronpedia's export");
    std::string features;
    std::string activations;
    for (std::int64_t f = begin; f < std::min(begin + kBulkFeatures, data_.d_sae()); ++f) {
      features += json_text(bulk_feature(f)) + "\n";
      append_activations(f, activations);
    }
    const std::string name = str("batch-", number++, ".jsonl.gz");
    write_file_atomic(folder / "features" / name, detail::gzip(features));
    write_file_atomic(folder / "activations" / name, detail::gzip(activations));
  }
}

std::string percent(double share) {
  char text[48];
  std::snprintf(text, sizeof text, "%.3f%%", 100.0 * share);
  return text;
}

std::string three_decimals(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.3f", value);
  return text;
}

/// Bars with ticks, as the package's HistogramData; no ticks are chosen.
Json histogram_data(const Bars& bars, const std::string& title) {
  return {{"bar_heights", bars.heights},
          {"bar_values", bars.values},
          {"tick_vals", Json::array()},
          {"title", title.empty() ? Json(nullptr) : Json(title)}};
}

Json vis_feature(const Dashboard::Data& data, std::int64_t f) {
  const Table table = aligned(data.sae->decoder_direction(f));
  Json tables{{"neuron_alignment_indices", table.indices},
              {"neuron_alignment_values", table.values},
              {"neuron_alignment_l1", table.l1}};
  for (const char* what : {"correlated_neurons", "correlated_features", "correlated_b_features"}) {
    for (const char* part : {"indices", "pearson", "cossim"}) {
      tables[str(what, "_", part)] = Json::array();
    }
  }
  Json logits;
  for (const auto& [name, promoted] : {std::pair("bottom", false), std::pair("top", true)}) {
    Json ids = Json::array();
    Json values = Json::array();
    if (data.lens) {
      const auto& lists = promoted ? data.lens->promoted : data.lens->suppressed;
      for (const detail::Ranked& one : first(lists.of(f), kTokens)) {
        ids.push_back(one.index);
        values.push_back(static_cast<double>(one.value));
      }
    }
    logits[str(name, "_token_ids")] = std::move(ids);
    logits[str(name, "_logits")] = std::move(values);
  }
  Json groups = Json::array();
  each_group(data.features, f,
             [&](bool top, double low, double high, double share, const auto& examples) {
               Json sequences = Json::array();
               for (const FeatureWindow& window : examples) {
                 Json values = Json::array();
                 for (const float v : window.values) {
                   values.push_back(rounded(static_cast<double>(v), 1e4));
                 }
                 Json one{{"original_index", window.sequence},
                          // It counts a token in front of those it shows.
                          {"qualifying_token_index", window.peak + 1},
                          {"token_ids", window.tokens},
                          {"feat_acts", std::move(values)},
                          {"token_logits", std::vector<double>(window.tokens.size(), 0.0)}};
                 for (const char* unused : {"loss_contribution", "top_token_ids", "top_logits",
                                            "bottom_token_ids", "bottom_logits"}) {
                   one[unused] = Json::array();
                 }
                 sequences.push_back(std::move(one));
               }
               groups.push_back(
                   {{"title", top ? "TOP ACTIVATIONS<br>MAX = " + three_decimals(high)
                                  : str("INTERVAL ", three_decimals(low), " - ",
                                        three_decimals(high), "<br>CONTAINS ", percent(share))},
                    {"seq_data", std::move(sequences)}});
             });
  return {{"feature_tables_data", std::move(tables)},
          {"acts_histogram_data",
           histogram_data(activation_bars(data.features, f),
                          "ACTIVATIONS<br>DENSITY = " + percent(data.features.density(f)))},
          {"logits_table_data", std::move(logits)},
          {"logits_histogram_data", histogram_data(logit_bars(data, f), "")},
          {"sequence_data", {{"seq_group_data", std::move(groups)}}},
          {"prompt_data", Json::object()},
          {"dfa_data", Json::object()},
          {"decoder_weights_data", nullptr}};
}

}  // namespace

void Dashboard::write_neuronpedia(const fs::path& folder, const NeuronpediaOptions& options) const {
  const Exporter exporter(*data_, options);
  create_folders(folder);
  exporter.write_batches(folder);
  exporter.write_bulk(folder / "bulk");
}

void Dashboard::write_saedashboard(const fs::path& path) const {
  AtomicFile file(path);
  file.write("{\"feature_data_dict\":{");
  Json max = Json::array();
  Json density = Json::array();
  for (std::int64_t f = 0; f < data_->d_sae(); ++f) {
    check_interrupt("writing feature data");
    // A feature that never fired has no sequences, which the package cannot draw.
    if (data_->features.active(f) == 0) continue;
    file.write(str(max.empty() ? "" : ",", "\"", f, "\":"));
    file.write(json_text(vis_feature(*data_, f)));
    max.push_back(static_cast<double>(data_->features.max(f)));
    density.push_back(data_->features.density(f));
  }
  const Json statistics{{"max", max},
                        {"frac_nonzero", density},
                        {"skew", Json::array()},
                        {"kurtosis", Json::array()},
                        {"quantile_data", Json::array()},
                        {"quantiles", Json::array()}};
  file.write(str("},\"feature_stats\":", json_text(statistics), "}"));
  file.commit();
}

}  // namespace drrik
