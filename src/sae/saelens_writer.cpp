// Writing SAELens's folders, and the formats "drrik" and "saelens".

#include <cmath>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/io/safetensors.h"
#include "io/json.h"
#include "sae/saelens.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

Json metadata_of(const SaeRecord& record) {
  Json metadata = Json::object();
  metadata["sae_lens_version"] = kSaelensLayout;
  metadata["sae_lens_training_version"] = nullptr;
  if (!record.model_name.empty()) metadata["model_name"] = record.model_name;
  if (!record.hook_name.empty()) metadata["hook_name"] = lens_hook_name(record);
  if (!record.foreign_hook_name_out.empty()) {
    metadata["hook_name_out"] = record.foreign_hook_name_out;
  }
  if (!record.dataset.empty()) metadata["dataset_path"] = record.dataset;
  if (record.context_size > 0) metadata["context_size"] = record.context_size;
  return metadata;
}

std::string_view normalization_name(RowNormalization normalization) {
  switch (normalization) {
    case RowNormalization::kLayerNorm:
      return "layer_norm";
    case RowNormalization::kConstantNorm:
      return "constant_norm_rescale";
    case RowNormalization::kNone:
      break;
  }
  return "none";
}

Json config_of(std::int64_t d_in, std::int64_t d_sae, bool centred, std::string_view normalize,
               const SaeRecord& record, const std::string& architecture) {
  // SAELens hands such a coder one row a head, which are flat here.
  const bool heads = record.hook_name == "attn_z" || lens_hook_name(record).ends_with("hook_z");
  return {{"d_in", d_in},
          {"d_sae", d_sae},
          {"dtype", "float32"},
          {"device", "cpu"},
          {"apply_b_dec_to_input", centred},
          {"normalize_activations", normalize},
          {"reshape_activations", heads ? "hook_z" : "none"},
          {"metadata", metadata_of(record)},
          {"architecture", architecture}};
}

void write_sparsity(const SaeRecord& record, std::int64_t h, const fs::path& folder) {
  if (record.densities.empty()) return;
  if (static_cast<std::int64_t>(record.densities.size()) != h) {
    throw_usage("the record has ", record.densities.size(), " densities, the coder ", h,
                " latents");
  }
  std::vector<float> logs;
  // SAELens's own floor under densities of 0.
  for (const double d : record.densities) {
    logs.push_back(static_cast<float>(std::log10(d + 1e-10)));
  }
  TensorList tensors;
  tensors.add("sparsity", logs);
  write_safetensors(folder / kSaelensSparsity, tensors.named());
}

class DrrikFormat : public SaeFormat {
 public:
  std::string_view name() const override { return "drrik"; }
  std::string_view description() const override {
    return "our own folder: SAELens's layout and drrik.json; holds every coder";
  }
  void write(const SparseCoder& coder, const SaeRecord& record,
             const fs::path& folder) const override {
    write_saelens(coder, record, folder);
  }
};

class SaelensFormat final : public DrrikFormat {
 public:
  std::string_view name() const override { return "saelens"; }
  std::string_view description() const override {
    return "SAELens: cfg.json, sae_weights.safetensors (also of before version 6)";
  }
  bool is_folder(const fs::path& folder) const override {
    return fs::exists(folder / kSaelensConfig) && fs::exists(folder / kSaelensWeights);
  }
  LoadedSae read_folder(const fs::path& folder) const override { return load_saelens(folder); }

  void express(Expression& coder) const override {
    coder.use_inference_form();
    coder.refuse_signed_topk();
    if (!coder.is_transcoder()) return;
    coder.use_jumprelu_for_gated();
    if (coder.config().architecture == "topk") {
      coder.refuse("SAELens's transcoders are ReLU or jumprelu; sparsify holds topk ones");
    }
    coder.refuse_row_normalization();
    coder.centre(false);
  }
};

}  // namespace

std::string saelens_architecture(const SparseCoder& coder, bool transcoder) {
  const SparseCoderConfig& config = coder.config();
  std::string base = config.architecture;
  if (base == "batchtopk" || base == "matryoshka") base = "jumprelu";
  if (base == "topk" && !config.relu_after_topk) base = "signed_topk";
  if (!transcoder) return base;
  base = base == "standard" ? "" : base + "_";
  return base + (config.skip ? "skip_transcoder" : "transcoder");
}

void write_saelens(const SparseCoder& coder, const SaeRecord& record, const fs::path& folder) {
  const SparseCoderConfig& config = coder.config();
  const bool transcoder = Expression(coder, "").is_transcoder();
  const bool gated = config.architecture == "gated";
  TensorList tensors;
  tensors.add("W_enc", transposed(coder.encoder()));
  tensors.add("W_dec", coder.decoder());
  tensors.add(gated ? "b_gate" : "b_enc", coder.b_enc());
  tensors.add("b_dec", coder.b_dec());
  for (const std::string& name : coder.latent_parameter_names()) {
    tensors.add(name, coder.latent_parameter(name));
  }
  if (config.skip) tensors.add("W_skip", coder.skip());
  Json cfg = config_of(config.d_in, config.d_sae, config.apply_b_dec_to_input,
                       normalization_name(config.row_normalization), record,
                       saelens_architecture(coder, transcoder));
  if (transcoder) cfg["d_out"] = config.output_width();
  if (config.architecture == "topk") {
    cfg["k"] = config.k;
    cfg["rescale_acts_by_decoder_norm"] = false;
  }
  create_folders(folder);
  write_safetensors(folder / kSaelensWeights, tensors.named());
  write_json_file(folder / kSaelensConfig, cfg);
  write_sparsity(record, config.d_sae, folder);
  write_sidecar(coder, record, folder);
}

void save_sae(const SparseCoder& coder, const SaeRecord& record, const fs::path& folder) {
  write_saelens(Expression(coder, "drrik").coder(), record, folder);
}

void save_sae(const ReluSae& sae, const SaeRecord& record, const fs::path& folder) {
  TensorList tensors;
  tensors.add("W_dec", sae.decoder());
  tensors.add("W_enc", transposed(sae.encoder()));
  tensors.add("b_dec", sae.bias());
  tensors.add("b_enc", sae.encoder_bias());
  create_folders(folder);
  write_safetensors(folder / kSaelensWeights, tensors.named());
  write_json_file(folder / kSaelensConfig,
                  config_of(sae.d_in(), sae.d_sae(), sae.config().pre_encoder_bias, "none", record,
                            "standard"));
  write_sparsity(record, sae.d_sae(), folder);
  write_sidecar(sae, record, folder);
}

std::unique_ptr<const SaeFormat> make_drrik_format() { return std::make_unique<DrrikFormat>(); }
std::unique_ptr<const SaeFormat> make_saelens_format() { return std::make_unique<SaelensFormat>(); }

}  // namespace drrik
