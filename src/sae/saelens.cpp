// Reading SAELens's folders: the layout of version 6, the flat one before it, and training
// checkpoints, whose input scaling is not folded yet.

#include <array>
#include <cmath>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/io/safetensors.h"
#include "drrik/ops/convert.h"
#include "io/json.h"
#include "sae/saelens.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = kSaelensConfig;
constexpr const char* kScaler = "activation_scaler.json";
constexpr const char* kWhitening = "activation_whitening.safetensors";

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// One architecture as SAELens names it. Adding one is a line here.
struct Architecture {
  std::string_view saelens_name;
  const char* name;
  bool trained = false;  // What a training checkpoint holds: a batch's scalar threshold.
};

constexpr std::array kArchitectures = {
    Architecture{"standard", "standard"},
    Architecture{"topk", "topk"},
    Architecture{"jumprelu", "jumprelu"},
    Architecture{"gated", "gated"},
    Architecture{"batchtopk", "batchtopk", true},
    Architecture{"matryoshka_batchtopk", "matryoshka", true},
    // Ours, where SAELens has no name (saelens_architecture()).
    Architecture{"signed_topk", "topk"},
};

struct Kind {
  Architecture architecture;
  bool transcoder = false;
  bool skip = false;
  bool is_signed = false;
};

Kind kind_of(const std::string& name) {
  Kind kind;
  std::string_view base = name;
  constexpr std::string_view kTranscoder = "transcoder";
  if (base.ends_with(kTranscoder)) {
    kind.transcoder = true;
    base.remove_suffix(kTranscoder.size());
    for (const std::string_view part : {std::string_view("skip_"), std::string_view("_skip_")}) {
      if (base != part && !(part[0] == '_' && base.ends_with(part))) continue;
      kind.skip = true;
      base.remove_suffix(part.size());
    }
    if (base.ends_with("_")) base.remove_suffix(1);
    if (base.empty()) base = "standard";
  }
  std::vector<std::string> known;
  for (const Architecture& architecture : kArchitectures) {
    if (base == architecture.saelens_name) {
      kind.architecture = architecture;
      kind.is_signed = base == "signed_topk";
      return kind;
    }
    known.emplace_back(architecture.saelens_name);
  }
  for (const char* transcoder :
       {"transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"}) {
    known.emplace_back(transcoder);
  }
  throw_data("architecture '", name, "' is not known; known: ", join(known),
             did_you_mean(name, known));
}

// Folders of before version 6 have no architecture when it is the standard one, and a topk one is
// a standard one with another activation function.
std::string architecture_name(const Json& config) {
  const std::string name = get_string(config, "architecture", kConfig, "standard");
  const std::string activation = get_string(
      config, "activation_fn", kConfig, get_string(config, "activation_fn_str", kConfig, "relu"));
  if (activation == "relu" || activation == name) return name;
  if (name == "standard" && activation == "topk") return activation;
  throw_data("activation function '", activation, "' is not known for a ", name,
             " SAE; wanted relu");
}

std::int64_t read_k(const Json& config) {
  double k = 0.0;
  if (const auto own = find_double(config, "k", kConfig)) {
    k = *own;
  } else if (const Json* arguments = find_member(config, "activation_fn_kwargs", kConfig)) {
    k = get_double(expect_object(*arguments, "activation_fn_kwargs"), "k", "activation_fn_kwargs");
  } else {
    k = get_double(config, "k", kConfig);
  }
  if (!(k >= 0.5 && k < 2147483648.0)) throw_data(kConfig, ": 'k' is ", k, ", wanted 1 or more");
  return std::llround(k);  // batchtopk's may be a fraction: it is a mean
}

std::string read_normalization(const Json& config) {
  const Json* value = find_member(config, "normalize_activations", kConfig);
  if (value == nullptr) return "none";
  if (value->is_boolean()) return value->get<bool>() ? "expected_average_only_in" : "none";
  return json_string(*value, "normalize_activations");
}

// The scale of each latent that a finetuning left behind: f · s is decoded.
void fold_finetuning(const Json& config, CoderWeights& weights, SparseCoder& coder) {
  const bool on = get_bool(config, "finetuning_scaling_factor", kConfig, false);
  for (const char* name : {"scaling_factor", "finetuning_scaling_factor"}) {
    if (!weights.has(name)) continue;
    std::vector<float> scale(at(coder.d_sae()));
    weights.read(name, scale);
    if (std::ranges::all_of(scale, [](float s) { return std::abs(s - 1.0F) <= 1e-5F; })) continue;
    if (!on) {
      throw_data("tensor '", name, "' is not 1 everywhere, but finetuning_scaling_factor is false");
    }
    for (std::int64_t j = 0; j < coder.d_sae(); ++j) {
      for (float& w : coder.decoder().row(j)) w *= scale[at(j)];
    }
  }
}

// z = (x − mean) M, x̂ = ẑ M⁻¹ + mean: both affine, so that the weights can hold them.
void fold_whitening(const fs::path& folder, SparseCoder& coder) {
  if (!fs::exists(folder / kWhitening)) {
    throw_data("normalize_activations 'covariance_whitening' without ", kWhitening,
               "; fold it into the weights before saving");
  }
  try {
    const TensorMap tensors = read_tensor_map(folder / kWhitening);
    CoderWeights weights(tensors);
    const std::int64_t d = coder.d_in();
    Tensor matrix = Tensor::uninitialized(DType::kF32, {d, d});
    Tensor inverse = Tensor::uninitialized(DType::kF32, {d, d});
    std::vector<float> mean(at(d));
    weights.read("matrix", matrix.mutable_mat<float>());
    weights.read_transposed("inverse_matrix", inverse.mutable_mat<float>());
    weights.read("mean", mean);
    if (coder.config().rescale_by_decoder_norm) coder.fold_decoder_norms();
    const auto apply = [&](const Tensor& by, std::span<float> row) {
      const std::vector<float> was(row.begin(), row.end());
      for (std::int64_t c = 0; c < d; ++c) {
        row[at(c)] = static_cast<float>(dot(by.mat<float>().row(c), was));
      }
    };
    const auto r_mag = coder.latent_parameter("r_mag");
    const auto b_mag = coder.latent_parameter("b_mag");
    for (std::int64_t j = 0; j < coder.d_sae(); ++j) {
      apply(matrix, coder.encoder().row(j));   // W_enc = M W_enc
      apply(inverse, coder.decoder().row(j));  // W_dec = W_dec M⁻¹
      if (coder.config().apply_b_dec_to_input) continue;
      const auto shift = static_cast<float>(dot(std::as_const(coder).encoder().row(j), mean));
      coder.b_enc()[at(j)] -= shift;
      if (!b_mag.empty()) b_mag[at(j)] -= shift * std::exp(r_mag[at(j)]);
    }
    apply(inverse, coder.b_dec());
    for (std::int64_t c = 0; c < d; ++c) coder.b_dec()[at(c)] += mean[at(c)];
  } catch (Error& error) {
    if (error.kind() == ErrorKind::kData) error.add_context(kWhitening);
    throw;
  }
}

// What a checkpoint's input went through before it reached the weights.
void fold_input(const fs::path& folder, const std::string& normalize, SparseCoder& coder) {
  if (normalize == "expected_average_only_in") {
    if (!fs::exists(folder / kScaler)) {
      throw_data("normalize_activations 'expected_average_only_in' without its factor; ", kScaler,
                 " beside it would hold {\"scaling_factor\": √d_in / mean ‖x‖}");
    }
    const Json scaler = read_json_file(folder / kScaler);
    const double scale = get_double(expect_object(scaler, kScaler), "scaling_factor", kScaler);
    if (!(scale > 0.0) || !std::isfinite(scale)) {
      throw_data(kScaler, ": 'scaling_factor' is ", scale, ", wanted a positive number");
    }
    coder.fold_input_scale(scale, scale);
  } else if (normalize == "covariance_whitening") {
    fold_whitening(folder, coder);
  }
}

RowNormalization row_normalization(const std::string& normalize, bool transcoder) {
  if (normalize == "none" || normalize == "expected_average_only_in" ||
      (normalize == "covariance_whitening" && !transcoder)) {
    return RowNormalization::kNone;
  }
  if (!transcoder && normalize == "layer_norm") return RowNormalization::kLayerNorm;
  if (!transcoder && normalize == "constant_norm_rescale") return RowNormalization::kConstantNorm;
  throw_data("normalize_activations '", normalize, "' is not supported",
             transcoder ? " for a transcoder" : "", "; fold it into the weights before saving");
}

SparseCoder read_coder(const fs::path& folder, const Json& config, const Kind& kind,
                       const TensorMap& tensors, const CoderHints& hints) {
  CoderWeights weights(tensors);
  const bool gated = std::string_view(kind.architecture.name) == "gated";
  const auto [d_in, h] = weights.matrix("W_enc");
  const std::string normalize = read_normalization(config);
  SparseCoderConfig made;
  made.architecture = kind.architecture.name;
  made.d_in = d_in;
  made.d_sae = h;
  if (kind.transcoder) made.d_out = weights.length("b_dec");
  made.skip = kind.skip;
  made.apply_b_dec_to_input = get_bool(config, "apply_b_dec_to_input", kConfig, !kind.transcoder);
  made.relu_after_topk = !kind.is_signed;
  made.row_normalization = row_normalization(normalize, kind.transcoder);
  if (made.architecture == "topk" || kind.architecture.trained) {
    made.k = read_k(config);
    made.rescale_by_decoder_norm =
        get_bool(config, "rescale_acts_by_decoder_norm", kConfig, kind.architecture.trained);
  }
  if (made.architecture == "matryoshka") {
    made.groups = get_ints(config, "matryoshka_widths", kConfig);
    if (made.groups.empty() || made.groups.back() < h) made.groups.push_back(h);
  }
  made.parts = hints.parts;
  // SAELens takes both for the jumprelu that they are for single rows.
  if (made.architecture == "jumprelu" &&
      (hints.architecture == "batchtopk" || hints.architecture == "matryoshka")) {
    made.architecture = hints.architecture;
    made.k = hints.k;
    made.groups = hints.groups;
  }
  expect_size(find_int(config, "d_in", kConfig), d_in, "d_in");
  expect_size(find_int(config, "d_sae", kConfig), h, "d_sae");
  if (kind.transcoder) expect_size(find_int(config, "d_out", kConfig), made.d_out, "d_out");
  // Before room is made for it: a file may claim any size.
  if (weights.matrix("W_dec") != std::array<std::int64_t, 2>{h, made.output_width()}) {
    const auto [rows, cols] = weights.matrix("W_dec");
    throw_data("tensor 'W_dec' has shape [", rows, ", ", cols, "], wanted [", h, ", ",
               made.output_width(), "]");
  }
  SparseCoder coder = coder_in_file(made);
  weights.read_transposed("W_enc", coder.encoder());
  weights.read("W_dec", coder.decoder());
  weights.read("b_dec", coder.b_dec());
  weights.read(gated ? "b_gate" : "b_enc", coder.b_enc());
  if (gated) {
    weights.read("r_mag", coder.latent_parameter("r_mag"));
    weights.read("b_mag", coder.latent_parameter("b_mag"));
  }
  if (const auto theta = coder.latent_parameter("threshold"); !theta.empty()) {
    weights.read_threshold(kind.architecture.trained ? "topk_threshold" : "threshold", theta);
  }
  if (kind.skip) weights.read("W_skip", coder.skip());
  fold_finetuning(config, weights, coder);
  weights.warn_unused();
  fold_input(folder, normalize, coder);
  return coder;
}

// The described architecture, which the trainer of ReluSae takes up again.
bool is_plain(const Kind& kind, const Json& config, const TensorMap& tensors,
              const CoderHints& hints) {
  return std::string_view(kind.architecture.name) == "standard" && !kind.transcoder &&
         hints.architecture.empty() && read_normalization(config) == "none" &&
         tensors.find("scaling_factor") == tensors.end() &&
         tensors.find("finetuning_scaling_factor") == tensors.end();
}

void read_metadata(const Json& config, SaeRecord& record) {
  const Json* nested = find_member(config, "metadata", kConfig);
  const Json& metadata = nested != nullptr ? expect_object(*nested, "metadata") : config;
  record.model_name = get_string(metadata, "model_name", kConfig, "");
  // Folders of before version 6 keep the layer apart.
  record.layer =
      get_int(metadata, "hook_layer", kConfig, get_int(metadata, "hook_point_layer", kConfig, -1));
  set_hook(
      get_string(metadata, "hook_name", kConfig, get_string(metadata, "hook_point", kConfig, "")),
      record);
  record.foreign_hook_name_out = get_string(metadata, "hook_name_out", kConfig, "");
  record.dataset = get_string(metadata, "dataset_path", kConfig, "");
  record.context_size = get_int(metadata, "context_size", kConfig, 0);
}

// log10 of each latent's density.
void read_sparsity(const fs::path& folder, std::int64_t h, SaeRecord& record) {
  if (!fs::exists(folder / kSaelensSparsity)) return;
  try {
    const TensorMap tensors = read_tensor_map(folder / kSaelensSparsity);
    CoderWeights weights(tensors);
    std::vector<float> logs(at(h));
    weights.read("sparsity", logs);
    record.densities.clear();
    for (const float v : logs) record.densities.push_back(std::pow(10.0, static_cast<double>(v)));
  } catch (Error& error) {
    if (error.kind() == ErrorKind::kData) error.add_context(kSaelensSparsity);
    throw;
  }
}

}  // namespace

LoadedSae load_saelens(const fs::path& folder) {
  LoadedSae loaded;
  const Json config = read_json_file(folder / kConfig);
  expect_object(config, kConfig);
  const Kind kind = kind_of(architecture_name(config));
  ReluHints relu;
  CoderHints hints;
  const bool ours = read_sidecar(folder, loaded.record, relu, hints);
  if (!ours) read_metadata(config, loaded.record);
  const TensorMap tensors = read_tensor_map(folder / kSaelensWeights);
  try {
    if (is_plain(kind, config, tensors, hints)) {
      relu.activation_dim = find_int(config, "d_in", kConfig);
      relu.hidden_dim = find_int(config, "d_sae", kConfig);
      loaded.sae = std::make_unique<ReluSae>(relu_from_saelens(
          tensors, relu, get_bool(config, "apply_b_dec_to_input", kConfig, true)));
    } else {
      loaded.sae = std::make_unique<SparseCoder>(read_coder(folder, config, kind, tensors, hints));
    }
  } catch (Error& error) {
    if (error.kind() == ErrorKind::kData) error.add_context(kSaelensWeights);
    throw;
  }
  read_sparsity(folder, loaded.sae->d_sae(), loaded.record);
  loaded.format = ours ? "drrik (SAELens layout)" : "SAELens";
  return loaded;
}

}  // namespace drrik
