// Crosscoders of two models or several layers: cfg.json and cc_weights.pt, W_enc [parts, d, h],
// W_dec [h, parts, d], b_enc [h], b_dec [parts, d]. Rows of all parts stand side by side here.

#include "drrik/base/checked.h"
#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "io/json.h"
#include "sae/format.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "cfg.json";
constexpr const char* kWeights = "cc_weights.pt";

class Crosscoder final : public SaeFormat {
 public:
  std::string_view name() const override { return "crosscoder"; }
  std::string_view description() const override { return "crosscoder: cfg.json, cc_weights.pt"; }
  bool is_folder(const fs::path& folder) const override { return fs::exists(folder / kWeights); }
  LoadedSae read_folder(const fs::path& folder) const override {
    return read_file(read_tensor_file(folder / kWeights));
  }
  bool fits(const TensorFile& file) const override {
    const auto found = file.tensors.find("W_enc");
    return file.dict && found != file.tensors.end() && found->second.rank() == 3;
  }

  LoadedSae read_file(const TensorFile& file) const override {
    CoderWeights weights(file.tensors);
    const auto encoder = file.tensors.find("W_enc");
    if (encoder == file.tensors.end() || encoder->second.rank() != 3) {
      throw_data("no tensor 'W_enc' of shape [parts, d, h]");
    }
    const std::vector<std::int64_t>& shape = encoder->second.shape();
    const auto width = checked_mul(shape[0], shape[1]);
    if (!width)
      throw_data("tensor 'W_enc' has shape ", shape_string(shape), ", which is too large");
    SparseCoderConfig config;
    config.architecture = "standard";
    config.parts = shape[0];
    config.d_in = *width;
    config.d_sae = shape[2];
    config.apply_b_dec_to_input = false;
    SparseCoder coder = coder_in_file(config);
    Tensor rows = Tensor::uninitialized(DType::kF32, {*width, shape[2]});
    weights.read_shaped("W_enc", shape, rows.mutable_data<float>());
    coder.parameter("W_enc") = transposed(std::as_const(rows).mat<float>());
    weights.read_shaped("W_dec", {shape[2], shape[0], shape[1]},
                        coder.parameter("W_dec").mutable_data<float>());
    weights.read("b_enc", coder.b_enc());
    weights.read_shaped("b_dec", {shape[0], shape[1]}, coder.b_dec());
    weights.warn_unused();
    SaeRecord record;
    const fs::path beside = file.path.parent_path() / kConfig;
    if (fs::exists(beside)) {
      const Json json = read_json_file(beside);
      expect_object(json, kConfig);
      expect_size(find_int(json, "d_in", kConfig), shape[1], "d_in");
      expect_size(find_int(json, "dict_size", kConfig), shape[2], "dict_size");
      set_hook(get_string(json, "hook_point", kConfig, ""), record);
      record.model_name = get_string(json, "model_name", kConfig, "");
    }
    return loaded_coder(std::move(coder), std::move(record), "crosscoder");
  }

  void express(Expression& coder) const override {
    coder.use_standard_for_zero_thresholds();
    coder.allow({"standard"});
    coder.refuse_transcoders();
    coder.refuse_row_normalization();
    coder.centre(false);
  }

  void write(const SparseCoder& coder, const SaeRecord& record,
             const fs::path& folder) const override {
    const SparseCoderConfig& config = coder.config();
    const std::int64_t width = config.d_in / config.parts;
    const auto shaped = [](const Tensor& values, std::vector<std::int64_t> shape) {
      return Tensor::from<float>(values.data<float>(), std::move(shape));
    };
    TensorList tensors;
    tensors.add("W_enc", shaped(transposed(coder.encoder()), {config.parts, width, config.d_sae}));
    for (const NamedTensor& parameter : coder.parameters()) {
      if (parameter.name == "W_dec") {
        tensors.add("W_dec", shaped(*parameter.tensor, {config.d_sae, config.parts, width}));
      }
    }
    tensors.add("b_enc", coder.b_enc());
    tensors.add("b_dec", Tensor::from<float>(coder.b_dec(), {config.parts, width}));
    create_folders(folder);
    write_torch_file(folder / kWeights, tensors.dict());
    write_json_file(folder / kConfig, {{"d_in", width},
                                       {"dict_size", config.d_sae},
                                       {"n_models", config.parts},
                                       {"enc_dtype", "fp32"},
                                       {"model_name", record.model_name},
                                       {"hook_point", lens_hook_name(record)}});
  }
};

}  // namespace

std::unique_ptr<const SaeFormat> make_crosscoder_format() { return std::make_unique<Crosscoder>(); }

}  // namespace drrik
