#include "model/checkpoint.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "drrik/io/weight_files.h"
#include "model/quantization.h"

namespace drrik::detail {
namespace {

/// The name that the family knows for a tensor of the file.
std::string canonical_name(std::string name) {
  // Old BERT checkpoints, made from TensorFlow's.
  for (const auto& [old, now] : {std::pair{"LayerNorm.gamma", "LayerNorm.weight"},
                                 std::pair{"LayerNorm.beta", "LayerNorm.bias"}}) {
    if (name.ends_with(old))
      name.replace(name.size() - std::string_view(old).size(), name.npos, now);
  }
  // A multimodal model's text model, as transformers before 4.52 and since then lays it out.
  if (name.starts_with("language_model.")) {
    return name.substr(std::string_view("language_model.").size());
  }
  if (name.starts_with("model.language_model.")) {
    return "model." + name.substr(std::string_view("model.language_model.").size());
  }
  return name;
}

class Checkpoint final : public TensorSource {
 public:
  Checkpoint(const std::filesystem::path& folder, std::string_view prefix)
      : folder_(folder),
        quantization_(read_quantization(folder)),
        files_(WeightFiles::open(folder)),
        prefix_(canonical_name(std::string(prefix))) {
    for (const auto& item : files_.tensors()) {
      stored_names_.emplace(canonical_name(item.first), item.first);
    }
    bare_ = std::ranges::none_of(
        stored_names_, [&](const auto& names) { return names.first.starts_with(prefix_); });
  }

  Tensor get(const std::string& name, std::span<const std::int64_t> shape) const override {
    const auto& [key, stored_name] = *lookup(name, shape);
    Tensor tensor = files_.get(stored_name);
    // What is converted as a whole is read as a whole.
    if (tensor.dtype() == DType::kF64 || is_float8(tensor.dtype())) tensor.prefetch();
    if (tensor.dtype() == DType::kF64) return tensor.to(DType::kF32);
    return is_float8(tensor.dtype()) ? widened(tensor, key) : std::move(tensor);
  }

  void check(const std::string& name, std::span<const std::int64_t> shape) const override {
    lookup(name, shape);
  }

  bool only_maps() const override { return !quantization_.fp8; }

  void prefetch(const std::string& start) const override {
    const std::string key = without_prefix(start);
    for (auto it = stored_names_.lower_bound(key);
         it != stored_names_.end() && it->first.starts_with(key); ++it) {
      if (files_.find(it->second)->dtype) files_.get(it->second).prefetch();
    }
  }

 private:
  using Names = std::map<std::string, std::string>;  // canonical -> as in the file

  /// Families name the modules of transformers' classes, which for a text model inside another
  /// lie deeper than the canonical names.
  std::string without_prefix(const std::string& asked) const {
    const std::string name = canonical_name(asked);
    return bare_ && name.starts_with(prefix_) ? name.substr(prefix_.size()) : name;
  }

  std::string where(const std::string& stored_name) const {
    return str("tensor '", stored_name, "' in ", files_.file_of(stored_name).filename().string());
  }

  Names::const_iterator lookup(const std::string& name, std::span<const std::int64_t> shape) const {
    const std::string key = without_prefix(name);
    const auto found = stored_names_.find(key);
    if (found == stored_names_.end()) {
      std::vector<std::string> known;
      known.reserve(stored_names_.size());
      for (const auto& names : stored_names_) known.push_back(names.first);
      // What never has the base model's prefix is the output head's.
      const bool head = !canonical_name(name).starts_with(prefix_);
      throw_data(
          "tensor '", key, "': absent from ", folder_.string(), ", wanted ", shape_string(shape),
          did_you_mean(key, known),
          head ? str("; the ", known.size(), " tensors there have no such output head (a base ",
                     "model's have none, nor have another task's): its activations can be "
                     "read, logits take a checkpoint that was saved with the head")
               : std::string());
    }
    const StoredTensor& stored = *files_.find(found->second);
    if (!std::ranges::equal(shape, stored.shape)) {
      throw_data(where(found->second), ": shape ", shape_string(stored.shape),
                 ", config.json wants ", shape_string(shape));
    }
    if (!stored.dtype || !is_floating(*stored.dtype) || *stored.dtype == DType::kF8E8M0) {
      throw_data(where(found->second), ": type ", stored.dtype_text,
                 ", wanted a floating one (F32, F16, BF16, F64 or an 8-bit float)");
    }
    if (quantization_.fp8 && is_float8(*stored.dtype) && scale_of(key) == stored_names_.end()) {
      throw_data(where(found->second), ": type ", stored.dtype_text,
                 " without a weight_scale_inv or weight_scale beside it, which config.json's "
                 "quantization_config promises");
    }
    return found;
  }

  /// The scales of the matrix `key`, or the end.
  Names::const_iterator scale_of(const std::string& key) const {
    for (const char* suffix : {"_scale_inv", "_scale"}) {
      const auto found = stored_names_.find(key + suffix);
      if (found != stored_names_.end()) return found;
    }
    return stored_names_.end();
  }

  Tensor widened(const Tensor& tensor, const std::string& key) const {
    const auto scale = scale_of(key);
    // Every value of an 8-bit type is one of bfloat16 too.
    if (scale == stored_names_.end()) return tensor.to(DType::kBF16);
    try {
      return scaled(tensor, files_.get(scale->second), quantization_.block);
    } catch (Error& error) {
      throw error.add_context(where(scale->second));
    }
  }

  std::filesystem::path folder_;
  Quantization quantization_;
  WeightFiles files_;
  Names stored_names_;
  std::string prefix_;
  bool bare_ = false;
};

}  // namespace

std::unique_ptr<TensorSource> open_checkpoint(const std::filesystem::path& folder,
                                              std::string_view prefix) {
  return std::make_unique<Checkpoint>(folder, prefix);
}

}  // namespace drrik::detail
