// Gemma Scope (params.npz) and Gemma Scope 2 (params.safetensors with config.json): jumprelu
// autoencoders and transcoders that do not centre their input.

#include <array>
#include <cmath>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/io/npy.h"
#include "drrik/io/safetensors.h"
#include "io/json.h"
#include "io/lens_names.h"
#include "sae/format.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.json";

struct Names {
  const char* w_enc;  // [d_in, h]
  const char* w_dec;  // [h, d_out]
  const char* skip;   // [d_in, d_out]
};

constexpr Names kFirst = {"W_enc", "W_dec", ""};
constexpr Names kSecond = {"w_enc", "w_dec", "affine_skip_connection"};

SparseCoder read_coder(const TensorMap& tensors, const Names& names, bool transcoder) {
  CoderWeights weights(tensors);
  SparseCoderConfig config;
  config.architecture = "jumprelu";
  config.apply_b_dec_to_input = false;
  const auto [d, h] = weights.matrix(names.w_enc);
  config.d_in = d;
  config.d_sae = h;
  const std::int64_t d_out = weights.length("b_dec");
  config.skip = *names.skip != '\0' && weights.has(names.skip);
  if (transcoder || config.skip || d_out != d) config.d_out = d_out;
  if (const auto [rows, cols] = weights.matrix(names.w_dec); rows != h || cols != d_out) {
    throw_data("tensor '", names.w_dec, "' has shape [", rows, ", ", cols, "], wanted [", h, ", ",
               d_out, "]");
  }
  SparseCoder coder = coder_in_file(config);
  weights.read_transposed(names.w_enc, coder.encoder());
  weights.read(names.w_dec, coder.decoder());
  weights.read("b_enc", coder.b_enc());
  weights.read("b_dec", coder.b_dec());
  weights.read_threshold("threshold", coder.latent_parameter("threshold"));
  if (config.skip) weights.read_transposed(names.skip, coder.skip());
  weights.warn_unused();
  return coder;
}

// "…/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71/params.npz"
void read_place(const fs::path& file, SaeRecord& record) {
  std::string path = fs::absolute(file).lexically_normal().string();
  if (const auto layer = number_after(path, "layer_")) record.layer = *layer;
  const std::size_t repository = path.find("gemma-scope");
  if (repository == std::string::npos) return;
  path.erase(0, repository);
  for (const auto& [size, model] : {std::pair{"27b-pt", "gemma-2-27b"},
                                    {"9b-pt", "gemma-2-9b"},
                                    {"2b-pt", "gemma-2-2b"},
                                    {"9b-it", "gemma-2-9b-it"}}) {
    if (path.find(size) != std::string::npos) record.model_name = std::string("google/") + model;
  }
  const auto block = [&](const char* place) { return detail::make_lens_name(record.layer, place); };
  if (path.find("embedding") != std::string::npos) {
    set_hook("hook_embed", record);
  } else if (record.layer < 0) {
    return;
  } else if (path.find("-transcoder") != std::string::npos) {
    set_hook(block("ln2.hook_normalized"), record);
    record.foreign_hook_name_out = block("hook_mlp_out");
  } else if (path.find("-res") != std::string::npos) {
    set_hook(block("hook_resid_post"), record);
  } else if (path.find("-mlp") != std::string::npos) {
    set_hook(block("hook_mlp_out"), record);
  } else if (path.find("-att") != std::string::npos) {
    set_hook(block("attn.hook_z"), record);
  }
}

void express_jumprelu(Expression& coder) {
  coder.use_inference_form();
  coder.use_jumprelu_for_gated();
  coder.use_jumprelu_for_standard();
  coder.allow({"jumprelu"});
  coder.refuse_row_normalization();
  coder.refuse_parts();
  coder.centre(false);
}

class GemmaScope final : public SaeFormat {
 public:
  std::string_view name() const override { return "gemma_scope"; }
  std::string_view description() const override { return "Gemma Scope: params.npz"; }
  bool is_folder(const fs::path& folder) const override {
    return fs::exists(folder / "params.npz");
  }
  LoadedSae read_folder(const fs::path& folder) const override {
    return read_file(read_tensor_file(folder / "params.npz"));
  }
  bool fits(const TensorFile& file) const override {
    return file.path.extension() == ".npz" && file.has_all({"W_enc", "W_dec", "threshold"});
  }

  LoadedSae read_file(const TensorFile& file) const override {
    SaeRecord record;
    read_place(file.path, record);
    SparseCoder coder = read_coder(file.tensors, kFirst, !record.foreign_hook_name_out.empty());
    if (record.hook_name == "hook_embed") {
      // Trained on rows of the table; the model's activation is √d times that.
      const double scale = 1.0 / std::sqrt(static_cast<double>(coder.d_in()));
      coder.fold_input_scale(scale, scale);
    }
    return loaded_coder(std::move(coder), std::move(record), "Gemma Scope");
  }

  void express(Expression& coder) const override {
    express_jumprelu(coder);
    coder.refuse_skip();
  }

  void write(const SparseCoder& coder, const SaeRecord&, const fs::path& folder) const override {
    TensorList tensors;
    tensors.add("W_enc", transposed(coder.encoder()));
    tensors.add("W_dec", coder.decoder());
    tensors.add("b_enc", coder.b_enc());
    tensors.add("b_dec", coder.b_dec());
    tensors.add("threshold", coder.latent_parameter("threshold"));
    create_folders(folder);
    write_npz(folder / "params.npz", tensors.named());
  }
};

// The hook points of config.json, HuggingFace's modules, and what SAELens calls them.
struct Place {
  const char* module;
  const char* lens;
};
constexpr std::array kPlaces = {
    Place{".self_attn.o_proj.input", "attn.hook_z"},
    Place{".pre_feedforward_layernorm.output", "hook_mlp_in"},
    Place{".post_feedforward_layernorm.output", "hook_mlp_out"},
    Place{".output", "hook_resid_post"},
};

std::string lens_name(const std::string& module) {
  const auto layer = number_after(module, "layers.");
  if (!layer) return module;
  for (const Place& place : kPlaces) {
    if (module.ends_with(place.module)) return detail::make_lens_name(*layer, place.lens);
  }
  return module;
}

std::string module_name(const std::string& lens) {
  const auto parts = detail::split_lens_name(lens);
  if (!parts) return lens;
  for (const Place& place : kPlaces) {
    if (parts->place == place.lens) return str("model.layers.", parts->layer, place.module);
  }
  return lens;
}

class GemmaScope2 final : public SaeFormat {
 public:
  std::string_view name() const override { return "gemma_scope_2"; }
  std::string_view description() const override {
    return "Gemma Scope 2: params.safetensors, config.json (with affine skip connections)";
  }
  bool is_folder(const fs::path& folder) const override {
    return fs::exists(folder / "params.safetensors");
  }
  LoadedSae read_folder(const fs::path& folder) const override {
    return read_file(read_tensor_file(folder / "params.safetensors"));
  }
  bool fits(const TensorFile& file) const override {
    return file.has_all({"w_enc", "w_dec", "threshold"});
  }

  LoadedSae read_file(const TensorFile& file) const override {
    SaeRecord record;
    read_place(file.path, record);
    const fs::path beside = file.path.parent_path() / kConfig;
    if (fs::exists(beside)) {
      const Json config = read_json_file(beside);
      expect_object(config, kConfig);
      const std::string architecture = get_string(config, "architecture", kConfig, "jump_relu");
      if (architecture != "jump_relu") {
        throw_data(kConfig, ": architecture '", architecture, "' is not known; wanted jump_relu");
      }
      record.model_name = get_string(config, "model_name", kConfig, "");
      const std::string in = get_string(config, "hf_hook_point_in", kConfig, "");
      const std::string out = get_string(config, "hf_hook_point_out", kConfig, "");
      if (!in.empty()) set_hook(lens_name(in), record);
      if (!out.empty() && out != in) record.foreign_hook_name_out = lens_name(out);
    }
    const bool transcoder = !record.foreign_hook_name_out.empty();
    return loaded_coder(read_coder(file.tensors, kSecond, transcoder), std::move(record),
                        "Gemma Scope 2");
  }

  void express(Expression& coder) const override { express_jumprelu(coder); }

  void write(const SparseCoder& coder, const SaeRecord& record,
             const fs::path& folder) const override {
    const SparseCoderConfig& config = coder.config();
    const bool transcoder = Expression(coder, "").is_transcoder();
    TensorList tensors;
    tensors.add("w_enc", transposed(coder.encoder()));
    tensors.add("w_dec", coder.decoder());
    tensors.add("b_enc", coder.b_enc());
    tensors.add("b_dec", coder.b_dec());
    tensors.add("threshold", coder.latent_parameter("threshold"));
    if (config.skip) tensors.add("affine_skip_connection", transposed(coder.skip()));
    Json json = {{"architecture", "jump_relu"},
                 {"model_name", record.model_name},
                 {"width", config.d_sae},
                 {"hf_hook_point_in", module_name(lens_hook_name(record))},
                 {"type", transcoder ? "transcoder" : "sae"}};
    if (transcoder) {
      json["hf_hook_point_out"] = module_name(record.foreign_hook_name_out);
      json["affine_connection"] = config.skip;
    }
    create_folders(folder);
    write_safetensors(folder / "params.safetensors", tensors.named());
    write_json_file(folder / kConfig, json);
  }
};

}  // namespace

std::unique_ptr<const SaeFormat> make_gemma_scope_format() {
  return std::make_unique<GemmaScope>();
}
std::unique_ptr<const SaeFormat> make_gemma_scope_2_format() {
  return std::make_unique<GemmaScope2>();
}

}  // namespace drrik
