#include "drrik/steer/steering.h"

#include <algorithm>
#include <cmath>
#include <numeric>

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
      hook_{options.hook, options.layer} {
  check();
}

SaeSteering::SaeSteering(std::shared_ptr<const Sae> sae, std::shared_ptr<const Model> model,
                         std::shared_ptr<const Tokenizer> tokenizer, const Hook& hook)
    : sae_(std::move(sae)),
      model_(std::move(model)),
      tokenizer_(std::move(tokenizer)),
      hook_(hook) {
  check();
}

void SaeSteering::check() const {
  if (!sae_ || !model_ || !tokenizer_) {
    throw_usage("steering needs an autoencoder, a model and a tokenizer");
  }
  model_->check_hook(hook_);
  const std::int64_t width = model_->hook_width(hook_.point);
  // A transcoder reads at one hook and writes at another: each use checks its own.
  if (width != sae_->d_in() && width != sae_->d_out()) {
    throw_usage("the autoencoder reads ", sae_->d_in(), " values, ", model_->module_path(hook_),
                " (", hook_name(hook_.point), ") has ", width,
                "; was it trained on another model or hook?");
  }
}

std::vector<float> SaeSteering::steering_vector(const SteeredGeneration& options) const {
  std::vector<std::int64_t> features = options.feature_indices;
  std::vector<double> strengths = options.strengths;
  if (options.feature_idx) {
    if (!features.empty()) throw_usage("give feature_idx or feature_indices, not both");
    if (!strengths.empty()) throw_usage("strengths belong to feature_indices; wanted strength");
    features = {*options.feature_idx};
    strengths = {options.strength};
  }
  if (features.empty()) {
    if (!strengths.empty()) throw_usage(strengths.size(), " strengths, but no feature");
    return {};
  }
  if (strengths.empty()) strengths.assign(features.size(), 1.0);
  if (strengths.size() != features.size()) {
    throw_usage(features.size(), " features, but ", strengths.size(), " strengths");
  }
  const std::int64_t width = model_->hook_width(hook_.point);
  if (width != sae_->d_out()) {
    throw_usage("the autoencoder's directions are ", sae_->d_out(), " wide, ",
                model_->module_path(hook_), " gives ", width,
                "; a transcoder steers where it writes");
  }
  std::vector<double> sum(static_cast<std::size_t>(sae_->d_out()), 0.0);
  for (std::size_t i = 0; i < features.size(); ++i) {
    if (!std::isfinite(strengths[i])) throw_usage("strength ", strengths[i], " is no number");
    const std::vector<float> column = get_steering_direction(features[i], false);
    for (std::size_t c = 0; c < sum.size(); ++c) {
      sum[c] += strengths[i] * static_cast<double>(column[c]);
    }
  }
  return {sum.begin(), sum.end()};
}

SteeredText SaeSteering::generate(const std::string& text, const SteeredGeneration& options) const {
  const std::vector<float> vector = steering_vector(options);
  SamplingOptions sampling;
  sampling.temperature = options.temperature;
  sampling.top_p = options.top_p;
  sampling.top_k = options.top_k;
  sampling.repetition_penalty = options.repetition_penalty;
  sampling.seed = options.seed;
  sampling.max_new_tokens = options.max_new_tokens;
  // A config.json may name no eos while the tokenizer knows one.
  const auto eos = tokenizer_->eos_id();
  if (eos && model_->config().eos_ids.empty()) sampling.stop_ids.push_back(*eos);

  SteeredText out;
  out.prompt_ids = tokenizer_->encode(text);
  if (out.prompt_ids.empty()) throw_usage("the prompt has no tokens; give some text");
  StreamDecoder stream(*tokenizer_);
  stream.prime(out.prompt_ids);
  const auto show = [&](const std::string& piece) {
    out.continuation += piece;
    if (options.on_text && !piece.empty()) options.on_text(piece);
  };
  const bool steered =
      std::any_of(vector.begin(), vector.end(), [](float value) { return value != 0.0F; });
  out.generated = drrik::generate(
      *model_, out.prompt_ids, sampling,
      [&](std::int32_t id) {
        show(stream.push(id));
        return true;
      },
      steered ? std::vector<Hook>{hook_} : std::vector<Hook>{},
      [&](const Hook&, MatView<float> activations) { add_row(vector, activations); });
  show(stream.finish());
  out.text = text + out.continuation;
  return out;
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
    forward.hooks = {hook_};
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
