#include "drrik/steer/steering.h"

#include <algorithm>
#include <cmath>

#include "drrik/base/error.h"
#include "drrik/ops/convert.h"

namespace drrik {
namespace {

// Rows encoded together: bounds the memory of dense autoencoders.
constexpr std::int64_t kEncodeRows = 256;

Model load_model(const SteeringOptions& options) {
  if (options.model_name.empty()) throw_usage("no model to steer: model_name is empty");
  if (options.device_map != "auto" && options.device_map != "cpu") {
    throw_usage("device_map '", options.device_map, "', wanted auto or cpu");
  }
  ModelOptions load;
  switch (options.torch_dtype) {
    case DType::kBF16:
      load.compute = Compute::kBF16;
      break;
    case DType::kF32:
    case DType::kF16:
      load.compute = Compute::kF32;
      break;
    default:
      throw_usage("torch_dtype ", dtype_name(options.torch_dtype),
                  ", wanted float32, bfloat16 or float16");
  }
  return Model::load(options.model_name, load);
}

double norm_of(const std::vector<float>& v) { return std::sqrt(sum_squares(v)); }

}  // namespace

SaeSteering::SaeSteering(std::shared_ptr<const Sae> sae, const SteeringOptions& options)
    : sae_(std::move(sae)),
      model_(std::make_shared<const Model>(load_model(options))),
      tokenizer_(std::make_shared<const Tokenizer>(Tokenizer::from_folder(options.model_name))),
      hook_{options.hook, options.layer},
      reads_(hook_) {
  check();
}

SaeSteering::SaeSteering(std::shared_ptr<const Sae> sae, std::shared_ptr<const Model> model,
                         std::shared_ptr<const Tokenizer> tokenizer, const Hook& hook,
                         const std::optional<Hook>& reads)
    : sae_(std::move(sae)),
      model_(std::move(model)),
      tokenizer_(std::move(tokenizer)),
      hook_(hook),
      reads_(reads.value_or(hook)) {
  check();
}

void SaeSteering::check() const {
  if (!sae_ || !model_ || !tokenizer_) {
    throw_usage("steering needs an autoencoder, a model and a tokenizer");
  }
  model_->check_hook(hook_);
  const std::int64_t width = model_->hook_width(hook_.point);
  if (reads_ != hook_) {
    model_->check_hook(reads_);
    const std::int64_t read = model_->hook_width(reads_.point);
    if (read != sae_->d_in() || width != sae_->d_out()) {
      throw_usage("the transcoder maps ", sae_->d_in(), " values to ", sae_->d_out(), "; ",
                  model_->module_path(reads_), " (", hook_name(reads_.point), ") has ", read, ", ",
                  model_->module_path(hook_), " (", hook_name(hook_.point), ") ", width);
    }
    return;
  }
  // A transcoder reads at one hook and writes at another: each use checks its own.
  if (width != sae_->d_in() && width != sae_->d_out()) {
    throw_usage("the autoencoder reads ", sae_->d_in(), " values, ", model_->module_path(hook_),
                " (", hook_name(hook_.point), ") has ", width,
                "; was it trained on another model or hook?");
  }
}

SteeringResults SaeSteering::compare_steering(const std::string& text, std::int64_t feature,
                                              const std::vector<double>& strengths,
                                              const SteeredGeneration& options) const {
  if (strengths.empty()) throw_usage("no strengths to compare");
  get_steering_direction(feature, false);  // Refuses a wrong index even when all strengths are 0.
  SteeringResults results;
  for (const double strength : strengths) {
    const std::string label = strength_label(strength);
    const bool known = std::any_of(results.begin(), results.end(),
                                   [&](const auto& entry) { return entry.first == label; });
    if (known) continue;
    SteeredGeneration one = options;
    one.feature_indices.clear();
    one.strengths.clear();
    one.feature_idx = feature;
    one.strength = strength;
    results.emplace_back(label, generate(text, one).text);
  }
  return results;
}

std::vector<SteeringFeature> SaeSteering::find_steering_features(
    const std::string& text, const FindFeaturesOptions& options) const {
  if (options.top_k < 1) throw_usage("top_k ", options.top_k, ", wanted at least 1");
  MatView<const float> rows = options.activations;
  std::vector<float> own;
  if (rows.empty()) {
    TokenBatch batch;
    batch.append(tokenizer_->encode(text));
    const std::int64_t limit = model_->config().max_positions;
    if (batch.rows() == 0) throw_usage("the text has no tokens");
    if (limit > 0 && batch.rows() > limit) {
      throw_data("the text has ", batch.rows(), " tokens, the model takes ", limit);
    }
    std::int64_t kept = 0;
    ForwardOptions forward;
    forward.hooks = {reads_};
    forward.on_hook = [&](const Hook&, MatView<float> activations) {
      for (std::int64_t r = 0; r < activations.rows(); ++r) {
        const std::int32_t id = batch.ids[static_cast<std::size_t>(r)];
        if (!options.include_special_tokens && tokenizer_->is_special(id)) continue;
        const auto row = activations.row(r);
        own.insert(own.end(), row.begin(), row.end());
        ++kept;
      }
    };
    model_->forward(batch, forward);
    if (kept == 0) throw_usage("the text has no tokens besides special ones");
    rows = {own.data(), kept, sae_->d_in()};
  }
  if (rows.cols() != sae_->d_in()) {
    throw_data("activations of width ", rows.cols(), ", the autoencoder reads ", sae_->d_in());
  }
  if (has_nonfinite(rows)) throw_numeric("activations hold NaN or Inf");

  std::vector<double> sum(static_cast<std::size_t>(sae_->d_sae()), 0.0);
  SparseRows active;
  for (std::int64_t r = 0; r < rows.rows(); r += kEncodeRows) {
    sae_->encode(rows.rows_range(r, std::min(kEncodeRows, rows.rows() - r)), active);
    for (std::size_t i = 0; i < active.latent.size(); ++i) {
      sum[static_cast<std::size_t>(active.latent[i])] += static_cast<double>(active.value[i]);
    }
  }
  std::vector<std::int64_t> order;
  for (std::size_t i = 0; i < sum.size(); ++i) {
    sum[i] /= static_cast<double>(rows.rows());
    if (sum[i] > options.min_activation) order.push_back(static_cast<std::int64_t>(i));
  }
  const auto mean = [&](std::int64_t feature) { return sum[static_cast<std::size_t>(feature)]; };
  const std::size_t count = std::min(order.size(), static_cast<std::size_t>(options.top_k));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    [&](std::int64_t a, std::int64_t b) {
                      return mean(a) != mean(b) ? mean(a) > mean(b) : a < b;
                    });
  std::vector<SteeringFeature> out;
  for (std::size_t i = 0; i < count; ++i) {
    SteeringFeature feature;
    feature.feature_idx = order[i];
    feature.activation = mean(order[i]);
    feature.decoder_weight_norm = norm_of(sae_->decoder_direction(order[i]));
    feature.normalized_activation =
        feature.decoder_weight_norm > 0.0 ? feature.activation / feature.decoder_weight_norm : 0.0;
    out.push_back(feature);
  }
  return out;
}

std::vector<float> SaeSteering::get_steering_direction(std::int64_t feature, bool normalize) const {
  if (feature < 0 || feature >= sae_->d_sae()) {
    throw_usage("feature ", feature, " does not exist: the autoencoder has ", sae_->d_sae(),
                ", 0 to ", sae_->d_sae() - 1);
  }
  std::vector<float> direction = sae_->decoder_direction(feature);
  const double norm = norm_of(direction);
  if (normalize && norm > 0.0) {
    for (float& value : direction) value = static_cast<float>(static_cast<double>(value) / norm);
  }
  return direction;
}

}  // namespace drrik
