#include "drrik/viz/dashboard.h"

#include <algorithm>
#include <cmath>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/log.h"
#include "drrik/base/progress.h"
#include "drrik/base/system.h"
#include "drrik/base/utf8.h"
#include "drrik/model/hook_names.h"
#include "drrik/sae/sparse_coder.h"
#include "viz/dashboard_data.h"
#include "viz/text_rows.h"

namespace drrik {
namespace {

// Entries of a batch's features at worst: all latents on all rows.
constexpr std::int64_t kBatchEntries = std::int64_t{1} << 25;
constexpr std::int64_t kBatchTokens = 2048;
constexpr std::uint64_t kLargestLog = std::uint64_t{1} << 28;

void check(const DashboardInputs& inputs) {
  if (!inputs.model || !inputs.tokenizer || !inputs.sae) {
    throw_usage("a dashboard needs a model, its tokenizer and an autoencoder");
  }
  if (const auto* coder = dynamic_cast<const SparseCoder*>(inputs.sae.get());
      coder != nullptr && coder->config().parts > 1) {
    throw_data("the crosscoder reads ", coder->config().parts,
               " hooks at once; a dashboard shows coders of one");
  }
  const auto fits = [&](const Hook& hook, std::int64_t width, const char* what, const char* hint) {
    inputs.model->check_hook(hook);
    const std::int64_t there = inputs.model->hook_width(hook.point);
    if (there == width) return;
    throw_data("the autoencoder ", what, " ", width, " numbers, ", hook_name(hook.point),
               " of layer ", hook.layer, " has ", there, hint);
  };
  fits(inputs.hook, inputs.sae->d_in(), "reads", "; from another model, layer or hook?");
  fits(inputs.output.value_or(inputs.hook), inputs.sae->d_out(), "writes",
       "; a transcoder needs its output hook");
}

detail::TextRowsOptions rows_options(const DashboardInputs& inputs,
                                     const DashboardOptions& options) {
  detail::TextRowsOptions rows;
  rows.dataset = options.dataset;
  rows.texts = inputs.texts;
  rows.hooks = {inputs.hook};
  if (inputs.output && *inputs.output != inputs.hook) rows.hooks.push_back(*inputs.output);
  rows.max_rows = options.tokens;
  rows.max_batch_tokens = std::clamp<std::int64_t>(
      kBatchEntries / std::max<std::int64_t>(inputs.sae->d_sae(), 1), 1, kBatchTokens);
  rows.drop_special_tokens = options.drop_special_tokens;
  return rows;
}

/// The one pass. Says how many tokens of texts went by.
std::int64_t collect(const DashboardInputs& inputs, const DashboardOptions& options,
                     FeatureExamples& features, ReconstructionSums& sums) {
  detail::TextRows rows(*inputs.model, *inputs.tokenizer, rows_options(inputs, options));
  const bool two = inputs.output && *inputs.output != inputs.hook;
  SparseRows active;
  Tensor buffer;
  std::vector<std::int64_t> sequence;
  std::int64_t tokens = 0;
  Progress progress("Reading features", std::max<std::int64_t>(options.tokens, 0), "tokens");
  while (rows.next()) {
    tokens += rows.tokens().rows();
    const MatView<const float> x = rows.activations(0);
    const std::int64_t n = x.rows();
    if (n == 0) continue;
    if (!buffer.defined() || buffer.dim(0) < n) {
      buffer = Tensor::uninitialized(DType::kF32, {n, inputs.sae->d_out()});
    }
    const auto reconstruction = buffer.mutable_mat<float>().rows_range(0, n);
    inputs.sae->encode_and_reconstruct(x, active, reconstruction);
    const auto& bounds = rows.tokens().boundaries;
    sequence.clear();
    std::size_t s = 0;
    for (const std::int64_t token : rows.rows()) {
      while (bounds[s + 1] <= token) ++s;
      sequence.push_back(features.sequences() + static_cast<std::int64_t>(s));
    }
    sums.add(two ? rows.activations(1) : x, reconstruction, active, sequence, features.rows());
    features.add(rows.tokens().ids, bounds, rows.rows(), active);
    progress.advance(n);
  }
  progress.set_total(features.rows());
  progress.finish();
  if (features.rows() == 0) {
    throw_data("the texts give no token to read features on",
               options.drop_special_tokens ? " besides special ones" : "");
  }
  return tokens;
}

std::vector<TrainingSeries> history_series(const SaeHistory& history) {
  std::vector<TrainingSeries> out;
  const auto add = [&](const char* name, const std::vector<double>& values) {
    TrainingSeries series{name, {}, {}};
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(values[i])) continue;
      series.x.push_back(static_cast<double>(i + 1));
      series.y.push_back(values[i]);
    }
    if (!series.x.empty()) out.push_back(std::move(series));
  };
  add("train_loss", history.training_losses);
  add("validation_loss", history.validation_losses);
  add("train_l0", history.training_l0_norms);
  add("validation_l0", history.validation_l0_norms);
  return out;
}

std::vector<TrainingSeries> training_series(const DashboardInputs& inputs) {
  std::error_code ignored;
  if (!inputs.metrics_log.empty() &&
      std::filesystem::is_regular_file(inputs.metrics_log, ignored)) {
    try {
      auto series = parse_training_log(read_file(inputs.metrics_log, kLargestLog),
                                       inputs.metrics_log.string());
      if (!series.empty()) return series;
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::kInterrupted) throw;
      log_warning("the training curves are left out: ", error.what());
    }
  }
  return history_series(inputs.record.history);
}

void summarize(Dashboard::Data& data, std::int64_t tokens) {
  const ReconstructionMetrics& m = data.metrics;
  data.summary = {{"l0", m.l0},
                  {"fvu", m.fvu},
                  {"explained_variance", m.explained_variance},
                  {"mse", m.mse},
                  {"cosine", m.cosine},
                  {"l2_ratio", m.l2_ratio},
                  {"dead", static_cast<double>(data.features.dead())},
                  {"dense", static_cast<double>(m.dense_1_percent)},
                  {"dense_10_percent", static_cast<double>(m.dense_10_percent)},
                  {"tokens", static_cast<double>(m.rows)},
                  {"tokens_read", static_cast<double>(tokens)}};
}

void read_weights(const DashboardInputs& inputs, const DashboardOptions& options,
                  Dashboard::Data& data) {
  Tensor directions = detail::decoder_directions(*inputs.sae);
  const auto rows = directions.mutable_mat<float>();
  data.norms = detail::direction_norms(rows);
  data.biases = detail::encoder_biases(*inputs.sae);
  std::string lens = "none";
  if (options.lens_tokens > 0) {
    data.lens = detail::logit_lens(*inputs.model, data.output, rows, options.lens_tokens,
                                   options.lens_bins, lens);
  }
  data.neurons = detail::neurons_used(*inputs.model, data.output, rows, options.neurons);
  detail::normalize_directions(rows, data.norms);
  // One at least: the nearest is a column of the overview.
  data.nearest = detail::nearest_features(rows, std::max<std::int64_t>(options.nearest, 1));
  data.map = detail::principal_plane(rows);
  data.notes.emplace_back("lens", lens);
  data.notes.emplace_back("neurons", data.neurons.meaning);
}

}  // namespace

void DashboardOptions::validate() const {
  const auto within = [](const char* name, std::int64_t value, std::int64_t low,
                         std::int64_t high) {
    if (value < low || value > high) {
      throw_usage("dashboard: ", name, " is ", value, ", wanted ", low, " to ", high);
    }
  };
  if (tokens == 0) throw_usage("dashboard: tokens is 0, wanted at least 1 (negative: all)");
  within("lens_tokens", lens_tokens, 0, 1000);
  within("lens_bins", lens_bins, 0, 1000);
  within("nearest", nearest, 0, 1000);
  within("coactive", coactive, 0, 1000);
  within("neurons", neurons, 0, 1000);
  within("histogram_bins", histogram_bins, 1, 256);
  examples.validate();
}

Dashboard Dashboard::make(const DashboardInputs& inputs, const DashboardOptions& options) {
  options.validate();
  check(inputs);
  auto data = std::make_unique<Data>(FeatureExamples(inputs.sae->d_sae(), options.examples));
  const ModelConfig& config = inputs.model->config();
  data->options = options;
  data->created = utc_timestamp();
  data->tokenizer = inputs.tokenizer;
  data->sae = inputs.sae;
  data->record = inputs.record;
  data->hook = inputs.hook;
  data->output = inputs.output.value_or(inputs.hook);
  data->foreign_hook = transformer_lens_name(inputs.hook, config);
  data->model.d_model = config.d_model;
  data->model.n_layers = config.n_layers;
  data->model.vocab_size = config.vocab_size;
  data->model.context_size = std::min(options.dataset.max_length, config.max_positions);
  data->title = !options.title.empty()
                    ? options.title
                    : str(options.sae_name.empty() ? "autoencoder" : options.sae_name, " on ",
                          options.model_name.empty() ? config.family : options.model_name);

  ReconstructionSums sums(inputs.sae->d_out(), inputs.sae->d_sae());
  const std::int64_t tokens = collect(inputs, options, data->features, sums);
  data->metrics = sums.metrics();
  data->coactive = data->features.coactive(options.coactive);
  data->notes.emplace_back(
      "tokens",
      str(data->features.rows(), " of ", tokens, " tokens; special tokens (BOS, EOS, ",
          "padding and the like) ", options.drop_special_tokens ? "are left out" : "count"));
  data->notes.emplace_back(
      "coactivation", str("Jaccard index, ",
                          data->features.pair_rows() == data->features.rows()
                              ? str("exact over all ", data->features.rows(), " tokens")
                              : str("over a uniform sample of ", data->features.pair_rows(), " of ",
                                    data->features.rows(), " tokens"),
                          "; pairs seen together at least twice"));
  read_weights(inputs, options, *data);
  data->training = training_series(inputs);
  summarize(*data, tokens);
  return Dashboard(std::move(data));
}

DashboardRates measure_dashboard(const DashboardInputs& inputs, const DashboardOptions& options) {
  options.validate();
  check(inputs);
  DashboardRates rates;
  {
    // Once over a batch, so that weights are packed before any time is taken.
    auto warm = rows_options(inputs, options);
    warm.max_rows = 1;
    detail::TextRows rows(*inputs.model, *inputs.tokenizer, warm);
    SparseRows active;
    while (rows.next()) inputs.sae->encode(rows.activations(0), active);
  }
  double start = monotonic_seconds();
  {
    auto plain = rows_options(inputs, options);
    plain.hooks.resize(1);
    detail::TextRows rows(*inputs.model, *inputs.tokenizer, plain);
    SparseRows active;
    while (rows.next()) {
      if (!rows.rows().empty()) inputs.sae->encode(rows.activations(0), active);
    }
    rates.rows = rows.rows_so_far();
  }
  rates.plain_seconds = monotonic_seconds() - start;
  start = monotonic_seconds();
  Dashboard::Data data(FeatureExamples(inputs.sae->d_sae(), options.examples));
  ReconstructionSums sums(inputs.sae->d_out(), inputs.sae->d_sae());
  collect(inputs, options, data.features, sums);
  data.metrics = sums.metrics();
  data.coactive = data.features.coactive(options.coactive);
  rates.whole_seconds = monotonic_seconds() - start;
  start = monotonic_seconds();
  data.output = inputs.output.value_or(inputs.hook);
  read_weights(inputs, options, data);
  rates.weights_seconds = monotonic_seconds() - start;
  return rates;
}

Dashboard::Dashboard(std::unique_ptr<Data> data) : data_(std::move(data)) {}
Dashboard::~Dashboard() = default;
Dashboard::Dashboard(Dashboard&&) noexcept = default;
Dashboard& Dashboard::operator=(Dashboard&&) noexcept = default;

const FeatureExamples& Dashboard::features() const { return data_->features; }
const ReconstructionMetrics& Dashboard::metrics() const { return data_->metrics; }
const std::vector<std::pair<std::string, double>>& Dashboard::summary() const {
  return data_->summary;
}
const FeatureLabels& Dashboard::labels() const { return data_->labels; }

void Dashboard::set_labels(FeatureLabels labels) {
  // Those of features that are not there may belong to a larger autoencoder of the same file name.
  if (!labels.empty() && labels.rbegin()->first >= data_->d_sae()) {
    log_warning("labels name feature ", labels.rbegin()->first, ", the autoencoder has 0 to ",
                data_->d_sae() - 1, ": those beyond are not shown");
  }
  data_->labels = std::move(labels);
}

std::vector<std::int32_t> Dashboard::Data::fires_on(std::int64_t feature, std::size_t count) const {
  std::vector<std::int32_t> out;
  for (const FeatureWindow& window : features.top(feature)) {
    if (out.size() == count) break;
    const std::int32_t id = window.tokens[static_cast<std::size_t>(window.peak)];
    if (std::ranges::find(out, id) == out.end()) out.push_back(id);
  }
  return out;
}

namespace detail {

std::string shown_token(const Tokenizer& tokenizer, std::int32_t id) {
  const std::string bytes = tokenizer.token_bytes(id);
  if (bytes.empty()) {
    const std::string_view spelt = tokenizer.token_text(id);
    return spelt.empty() ? str("[", id, "]") : mend_utf8(spelt);
  }
  std::string out;
  for (std::string_view rest = bytes; !rest.empty();) {
    const std::size_t valid = valid_utf8_prefix(rest);
    out += rest.substr(0, valid);
    rest.remove_prefix(valid);
    if (rest.empty()) break;
    constexpr std::string_view kDigits = "0123456789abcdef";
    const auto byte = static_cast<unsigned char>(rest.front());
    out += "\\x";
    out += kDigits[byte >> 4U];
    out += kDigits[byte & 15U];
    rest.remove_prefix(1);
  }
  return out;
}

}  // namespace detail
}  // namespace drrik
