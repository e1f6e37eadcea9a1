// The described PyTorch dictionary, read without running its pickle, and written.

#include <utility>

#include "drrik/base/error.h"
#include "drrik/io/torch_file.h"
#include "sae/format.h"

namespace drrik {
namespace {

// Every tensor member of a dictionary by its key.
TensorMap tensors_of(const PtValue& dict) {
  TensorMap out;
  for (const auto& [key, value] : dict.members()) {
    if (key.kind() == PtValue::Kind::kString && value.kind() == PtValue::Kind::kTensor) {
      out.emplace(key.as_string(), value.as_tensor().clone());
    }
  }
  return out;
}

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

}  // namespace

ReluSae load_described_torch(const std::filesystem::path& path, SaeRecord& record,
                             std::string& format) {
  const PtValue file = read_torch_file(path);
  if (file.kind() != PtValue::Kind::kDict) {
    throw_data("holds a ", file.kind_name(), ", wanted a dictionary with state_dict");
  }
  ReluHints hints;
  const PtValue* state = file.find("state_dict");
  if (state == nullptr) {
    format = "PyTorch tensors";
    return relu_from_tensors(tensors_of(file), hints);
  }
  format = "described .pt";
  const auto integer = [&](const char* key, std::optional<std::int64_t>& to) {
    if (const PtValue* value = file.find(key)) to = value->as_int();
  };
  integer("activation_dim", hints.activation_dim);
  integer("hidden_dim", hints.hidden_dim);
  if (const PtValue* l1 = file.find("l1_coefficient")) hints.l1_coefficient = l1->as_double();
  if (const PtValue* v = file.find("normalize_decoder")) hints.normalize_decoder = v->as_bool();
  if (const PtValue* v = file.find("pre_encoder_bias")) hints.pre_encoder_bias = v->as_bool();
  record.history.training_losses = numbers(file, "training_losses");
  record.history.training_l0_norms = numbers(file, "training_l0_norms");
  return relu_from_tensors(tensors_of(*state), hints);
}

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

}  // namespace drrik
