// SAELens's folder: cfg.json and sae_weights.safetensors (docs/formats/sae.md).

#include <array>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "drrik/io/safetensors.h"
#include "drrik/ops/convert.h"
#include "io/json.h"
#include "io/lens_names.h"
#include "sae/format.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "cfg.json";
constexpr const char* kWeights = "sae_weights.safetensors";
// The layout written is the one of this version on; without it readers take the older one.
constexpr const char* kLayoutVersion = "6.0.0";

/// One architecture as SAELens names it, and how its folder is read. Adding one is a line here.
struct Reader {
  const char* saelens_name;
  const char* name;
  std::unique_ptr<Sae> (*read)(const Json& config, const TensorMap& tensors,
                               const ReluHints& hints);
};

std::unique_ptr<Sae> read_standard(const Json& config, const TensorMap& tensors,
                                   const ReluHints& hints) {
  const std::string activation = get_string(
      config, "activation_fn", kConfig, get_string(config, "activation_fn_str", kConfig, "relu"));
  if (activation != "relu") {
    throw_data("activation function '", activation,
               "' is not known for a standard SAE; wanted relu");
  }
  const bool centred = get_bool(config, "apply_b_dec_to_input", kConfig, true);
  return std::make_unique<ReluSae>(relu_from_saelens(tensors, hints, centred));
}

constexpr std::array kReaders = {Reader{"standard", "relu", read_standard}};

const Reader& find_reader(const std::string& architecture) {
  std::vector<std::string> known;
  for (const Reader& reader : kReaders) {
    if (architecture == reader.saelens_name) return reader;
    known.emplace_back(reader.saelens_name);
  }
  throw_data("architecture '", architecture, "' is not known; known: ", join(known),
             did_you_mean(architecture, known));
}

// SAELens speaks TransformerLens's names. What one means can depend on the model, which is not
// here: the record keeps the name as it stands beside our nearest point.
std::string saelens_hook_name(const SaeRecord& record) {
  if (!record.foreign_hook_name.empty()) return record.foreign_hook_name;
  const std::string_view place = detail::find_lens_place(record.hook_name);
  return place.empty() || record.layer < 0 ? record.hook_name
                                           : detail::make_lens_name(record.layer, place);
}

void read_hook(const std::string& name, SaeRecord& record) {
  record.hook_name = name;
  record.foreign_hook_name = name;
  const auto parts = detail::split_lens_name(name);
  if (!parts) return;
  record.layer = parts->layer;
  const std::string_view own = detail::find_own_place(parts->place);
  if (!own.empty()) record.hook_name = own;
}

void refuse_foreign_inputs(const Json& config) {
  const std::string normalize = get_string(config, "normalize_activations", kConfig, "none");
  if (normalize != "none") {
    throw_data("normalize_activations '", normalize,
               "' is not supported; fold it into the weights before saving");
  }
  if (get_bool(config, "finetuning_scaling_factor", kConfig, false)) {
    throw_data(
        "finetuning_scaling_factor is not supported; fold it into the weights before saving");
  }
}

void refuse_nonfinite(const char* name, const Tensor& tensor) {
  if (has_nonfinite(tensor.data<float>())) {
    throw_numeric("sae: '", name, "' holds NaN or Inf; nothing was written");
  }
}

}  // namespace

std::vector<std::string> sae_architectures() {
  std::vector<std::string> names;
  names.reserve(std::size(kReaders));
  for (const Reader& reader : kReaders) names.emplace_back(reader.name);
  return names;
}

LoadedSae load_saelens(const fs::path& folder) {
  LoadedSae loaded;
  const Json config = read_json_file(folder / kConfig);
  expect_object(config, kConfig);
  // Folders of before version 6 have no architecture when it is the standard one.
  const Reader& reader = find_reader(get_string(config, "architecture", kConfig, "standard"));
  refuse_foreign_inputs(config);
  ReluHints hints;
  const bool ours = read_sidecar(folder, loaded.record, hints);
  hints.activation_dim = find_int(config, "d_in", kConfig);
  hints.hidden_dim = find_int(config, "d_sae", kConfig);
  if (!ours) {
    const Json* nested = find_member(config, "metadata", kConfig);
    const Json& metadata = nested != nullptr ? expect_object(*nested, "metadata") : config;
    loaded.record.model_name = get_string(metadata, "model_name", kConfig, "");
    // Folders of before version 6 keep the layer apart.
    loaded.record.layer = get_int(metadata, "hook_layer", kConfig,
                                  get_int(metadata, "hook_point_layer", kConfig, -1));
    read_hook(
        get_string(metadata, "hook_name", kConfig, get_string(metadata, "hook_point", kConfig, "")),
        loaded.record);
    loaded.record.dataset = get_string(metadata, "dataset_path", kConfig, "");
    loaded.record.context_size = get_int(metadata, "context_size", kConfig, 0);
  }
  try {
    loaded.sae = reader.read(config, read_tensor_map(folder / kWeights), hints);
  } catch (Error& error) {
    if (error.kind() == ErrorKind::kData) error.add_context(kWeights);
    throw;
  }
  loaded.format = ours ? "drrik (SAELens layout)" : "SAELens";
  return loaded;
}

void save_sae(const ReluSae& sae, const SaeRecord& record, const fs::path& folder) {
  const ReluSaeConfig& config = sae.config();
  const Tensor w_enc = transposed(sae.encoder());
  Tensor w_dec = Tensor::uninitialized(DType::kF32, {sae.d_sae(), sae.d_in()});
  copy(sae.decoder(), w_dec.mutable_mat<float>());
  const Tensor b_enc = Tensor::from<float>(sae.encoder_bias(), {sae.d_sae()});
  const Tensor b_dec = Tensor::from<float>(sae.bias(), {sae.d_in()});
  const std::array<NamedTensor, 4> tensors = {
      {{"W_dec", &w_dec}, {"W_enc", &w_enc}, {"b_dec", &b_dec}, {"b_enc", &b_enc}}};
  for (const NamedTensor& tensor : tensors) refuse_nonfinite(tensor.name.c_str(), *tensor.tensor);

  Json metadata = Json::object();
  metadata["sae_lens_version"] = kLayoutVersion;
  metadata["sae_lens_training_version"] = nullptr;
  if (!record.model_name.empty()) metadata["model_name"] = record.model_name;
  if (!record.hook_name.empty()) {
    metadata["hook_name"] = saelens_hook_name(record);
  }
  if (!record.dataset.empty()) metadata["dataset_path"] = record.dataset;
  if (record.context_size > 0) metadata["context_size"] = record.context_size;
  const Json cfg = {{"d_in", sae.d_in()},
                    {"d_sae", sae.d_sae()},
                    {"dtype", "float32"},
                    {"device", "cpu"},
                    {"apply_b_dec_to_input", config.pre_encoder_bias},
                    {"normalize_activations", "none"},
                    // TransformerLens's heads stand apart, [n_heads, head_dim].
                    {"reshape_activations", record.hook_name == "attn_z" ? "hook_z" : "none"},
                    {"metadata", metadata},
                    {"architecture", "standard"}};
  create_folders(folder);
  write_safetensors(folder / kWeights, tensors);
  write_json_file(folder / kConfig, cfg);
  write_sidecar(sae, record, folder);
}

}  // namespace drrik
