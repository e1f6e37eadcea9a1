// The described PyTorch dictionary, read without running its pickle, and written; and tensors
// alone.

#include <utility>

#include "drrik/base/error.h"
#include "drrik/io/torch_file.h"
#include "sae/format.h"

namespace drrik {
namespace {

void append(const Tensor& tensor, std::vector<double>& out) {
  if (tensor.dtype() == DType::kF64) {
    const Tensor values = tensor.clone();  // what the file holds need not be aligned
    const auto data = values.data<double>();
    out.insert(out.end(), data.begin(), data.end());
  } else {
    const Tensor values = tensor.to(DType::kF32);
    const auto data = values.data<float>();
    out.insert(out.end(), data.begin(), data.end());
  }
}

// A history: a list of numbers or of tensors of one, or a vector.
std::vector<double> numbers(const PtValue& dict, const char* key) {
  std::vector<double> out;
  const PtValue* list = dict.find(key);
  if (list == nullptr || list->is_none()) return out;
  try {
    if (list->kind() == PtValue::Kind::kTensor) {
      const Tensor& vector = list->as_tensor();
      if (vector.rank() != 1) {
        throw_data("a tensor of shape ", shape_string(vector.shape()), ", wanted a vector");
      }
      append(vector, out);
      return out;
    }
    for (const PtValue& item : list->items()) {
      if (item.kind() != PtValue::Kind::kTensor) {
        out.push_back(item.as_double());
        continue;
      }
      const Tensor& tensor = item.as_tensor();
      if (tensor.elements() != 1) {
        throw_data("holds a tensor of shape ", shape_string(tensor.shape()), ", wanted numbers");
      }
      append(tensor, out);
    }
  } catch (Error& error) {
    throw error.add_context(key);
  }
  return out;
}

PtValue list_of(const std::vector<double>& values) {
  PtValue list = PtValue::list();
  for (const double value : values) list.add(value);
  return list;
}

class Described final : public SaeFormat {
 public:
  std::string_view name() const override { return "described"; }
  std::string_view description() const override {
    return "the described .pt: one dictionary with state_dict (ReLU and a tied bias alone)";
  }
  bool fits(const TensorFile& file) const override {
    return file.dict && file.dict->find("state_dict") != nullptr;
  }

  LoadedSae read_file(const TensorFile& source) const override {
    const PtValue& file = *source.dict;
    LoadedSae loaded;
    loaded.format = "described .pt";
    ReluHints hints;
    const auto integer = [&](const char* key, std::optional<std::int64_t>& to) {
      if (const PtValue* value = file.find(key)) to = value->as_int();
    };
    integer("activation_dim", hints.activation_dim);
    integer("hidden_dim", hints.hidden_dim);
    if (const PtValue* l1 = file.find("l1_coefficient")) hints.l1_coefficient = l1->as_double();
    if (const PtValue* v = file.find("normalize_decoder")) hints.normalize_decoder = v->as_bool();
    if (const PtValue* v = file.find("pre_encoder_bias")) hints.pre_encoder_bias = v->as_bool();
    loaded.record.history.training_losses = numbers(file, "training_losses");
    loaded.record.history.training_l0_norms = numbers(file, "training_l0_norms");
    loaded.sae =
        std::make_unique<ReluSae>(relu_from_tensors(tensors_of(file.get("state_dict")), hints));
    return loaded;
  }

  std::string_view file_name() const override { return "sae.pt"; }

  void express(Expression& coder) const override {
    coder.use_standard_for_zero_thresholds();
    coder.allow({"standard"});
    coder.refuse_transcoders();
    coder.refuse_row_normalization();
    coder.refuse_parts();
    coder.centre(true);
  }

  void write(const SparseCoder& coder, const SaeRecord& record,
             const std::filesystem::path& path) const override {
    save_torch_sae(relu_from_coder(coder), record, path);
  }
};

// Tensors of the described names or SAELens's with nothing that says what they are.
class Plain final : public SaeFormat {
 public:
  std::string_view name() const override { return "plain"; }
  std::string_view description() const override {
    return "plain tensors of the described names or SAELens's, taken as ReLU (read only)";
  }
  bool writes() const override { return false; }
  bool fits(const TensorFile&) const override { return true; }

  LoadedSae read_file(const TensorFile& file) const override {
    for (const char* other : {"threshold", "topk_threshold", "b_gate", "r_mag", "log_threshold"}) {
      if (file.has(other)) {
        throw_data("tensor '", other, "' says that these are no weights of a ReLU autoencoder; a ",
                   "configuration beside them would say what they are");
      }
    }
    LoadedSae loaded;
    loaded.format = file.dict ? "PyTorch tensors" : "safetensors";
    loaded.sae = std::make_unique<ReluSae>(relu_from_tensors(file.tensors, {}));
    return loaded;
  }
};

}  // namespace

void save_torch_sae(const ReluSae& sae, const SaeRecord& record,
                    const std::filesystem::path& path) {
  const ReluSaeConfig& config = sae.config();
  PtValue state = PtValue::dict(/*ordered=*/true);
  if (config.pre_encoder_bias) {
    state.set("bias", Tensor::from<float>(sae.bias(), {sae.d_in()}));
  }
  state.set("encoder_bias", Tensor::from<float>(sae.encoder_bias(), {sae.d_sae()}));
  Tensor encoder = transposed(sae.encoder());
  state.set("encoder.weight", transposed(std::as_const(encoder).mat<float>()));
  state.set("decoder.weight", transposed(sae.decoder()));
  PtValue file = PtValue::dict();
  file.set("activation_dim", config.activation_dim);
  file.set("hidden_dim", config.hidden_dim);
  file.set("l1_coefficient", config.l1_coefficient);
  file.set("normalize_decoder", config.normalize_decoder);
  file.set("pre_encoder_bias", config.pre_encoder_bias);
  file.set("state_dict", state);
  file.set("training_losses", list_of(record.history.training_losses));
  file.set("training_l0_norms", list_of(record.history.training_l0_norms));
  write_torch_file(path, file);
}

std::unique_ptr<const SaeFormat> make_described_format() { return std::make_unique<Described>(); }
std::unique_ptr<const SaeFormat> make_plain_format() { return std::make_unique<Plain>(); }

}  // namespace drrik
