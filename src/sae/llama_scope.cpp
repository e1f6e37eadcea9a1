// Llama Scope: hyperparams.json with checkpoints/final.safetensors, and its later layout,
// config.json with sae_weights.safetensors. Inputs were scaled to a mean norm of √d, which is
// folded. Read only.

#include <algorithm>
#include <cmath>

#include "drrik/base/error.h"
#include "io/json.h"
#include "sae/format.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFirst = "hyperparams.json";
constexpr const char* kSecond = "config.json";

double scale_of(const Json& norms, const char* side, std::int64_t width) {
  const double norm = get_double(norms, side, "dataset_average_activation_norm");
  if (!(norm > 0.0) || !std::isfinite(norm)) {
    throw_data("dataset_average_activation_norm: '", side, "' is ", norm,
               ", wanted a positive number");
  }
  return std::sqrt(static_cast<double>(width)) / norm;
}

class LlamaScope final : public SaeFormat {
 public:
  std::string_view name() const override { return "llama_scope"; }
  std::string_view description() const override {
    return "Llama Scope: hyperparams.json, checkpoints/final.safetensors (read only)";
  }
  bool writes() const override { return false; }
  bool is_folder(const fs::path& folder) const override {
    return (fs::exists(folder / kFirst) &&
            fs::exists(folder / "checkpoints" / "final.safetensors")) ||
           (fs::exists(folder / kSecond) && fs::exists(folder / "sae_weights.safetensors") &&
            !fs::exists(folder / "cfg.json"));
  }

  LoadedSae read_folder(const fs::path& folder) const override {
    const bool first = fs::exists(folder / kFirst);
    const char* name = first ? kFirst : kSecond;
    const Json config = read_json_file(folder / name);
    expect_object(config, name);
    const std::string activation = get_string(config, "act_fn", name, "jumprelu");
    if (activation != "jumprelu") {
      throw_data(name, ": act_fn '", activation, "' is not supported; wanted jumprelu");
    }
    if (get_bool(config, "use_glu_encoder", name, false)) {
      throw_data(name, ": use_glu_encoder is not supported");
    }
    const TensorMap tensors = read_tensor_map(first ? folder / "checkpoints" / "final.safetensors"
                                                    : folder / "sae_weights.safetensors");
    CoderWeights weights(tensors);
    SparseCoderConfig made;
    made.architecture = "jumprelu";
    const auto [h, d] = weights.matrix("encoder.weight");
    made.d_sae = h;
    made.d_in = d;
    made.apply_b_dec_to_input = get_bool(config, "apply_decoder_bias_to_pre_encoder", name, false);
    expect_size(find_int(config, "d_model", name), d, "d_model");
    expect_size(find_int(config, "d_sae", name), h, "d_sae");
    SaeRecord record;
    set_hook(get_string(config, "hook_point_in", name, ""), record);
    const std::string out = get_string(config, "hook_point_out", name, "");
    if (!out.empty() && out != record.foreign_hook_name) {
      record.foreign_hook_name_out = out;
      made.d_out = d;
      made.apply_b_dec_to_input = false;
    }
    SparseCoder coder = coder_in_file(made);
    weights.read("encoder.weight", coder.encoder());
    weights.read_transposed("decoder.weight", coder.decoder());
    weights.read("encoder.bias", coder.b_enc());
    weights.read("decoder.bias", coder.b_dec());
    const Json* norms = find_member(config, "dataset_average_activation_norm", name);
    if (norms == nullptr) {
      throw_data(name,
                 ": no dataset_average_activation_norm; without it the scale that inputs were "
                 "trained at is not known");
    }
    expect_object(*norms, "dataset_average_activation_norm");
    const double in = scale_of(*norms, "in", d);
    const double back =
        find_member(*norms, "out", name) != nullptr ? scale_of(*norms, "out", d) : in;
    const auto theta = coder.latent_parameter("threshold");
    if (weights.has("log_jumprelu_threshold")) {
      weights.read("log_jumprelu_threshold", theta);
      for (float& t : theta) t = std::exp(t);
    } else {
      // Kept in units of the raw input.
      std::ranges::fill(
          theta,
          static_cast<float>(std::max(0.0, get_double(config, "jump_relu_threshold", name)) * in));
    }
    weights.warn_unused();
    coder.fold_input_scale(in, back);
    return loaded_coder(std::move(coder), std::move(record), "Llama Scope");
  }
};

}  // namespace

std::unique_ptr<const SaeFormat> make_llama_scope_format() {
  return std::make_unique<LlamaScope>();
}

}  // namespace drrik
