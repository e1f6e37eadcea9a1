#include "model/checkpoint.h"

#include <algorithm>
#include <string>
#include <vector>

#include "drrik/io/weight_files.h"

namespace drrik::detail {
namespace {

class Checkpoint final : public TensorSource {
 public:
  Checkpoint(const std::filesystem::path& folder, std::string_view prefix)
      : folder_(folder), files_(WeightFiles::open(folder)), prefix_(prefix) {
    const std::vector<std::string> names = files_.names();
    bare_ = std::none_of(names.begin(), names.end(),
                         [&](const std::string& name) { return name.starts_with(prefix_); });
  }

  Tensor get(const std::string& name, std::span<const std::int64_t> shape) const override {
    const std::string key = bare_ && name.starts_with(prefix_) ? name.substr(prefix_.size()) : name;
    const StoredTensor* entry = files_.find(key);
    if (!entry) {
      throw_data("tensor '", key, "': absent from ", folder_.string(), ", wanted ",
                 shape_string(shape), did_you_mean(key, files_.names()));
    }
    const std::string where =
        str("tensor '", key, "' in ", files_.file_of(key).filename().string());
    if (!std::ranges::equal(shape, entry->shape)) {
      throw_data(where, ": shape ", shape_string(entry->shape), ", config.json wants ",
                 shape_string(shape));
    }
    if (entry->dtype != DType::kF32 && entry->dtype != DType::kBF16 &&
        entry->dtype != DType::kF16) {
      throw_data(where, ": type ", entry->dtype_text, ", wanted F32, BF16 or F16");
    }
    return files_.get(key);
  }

 private:
  std::filesystem::path folder_;
  WeightFiles files_;
  std::string prefix_;
  bool bare_ = false;
};

}  // namespace

std::unique_ptr<TensorSource> open_checkpoint(const std::filesystem::path& folder,
                                              std::string_view prefix) {
  return std::make_unique<Checkpoint>(folder, prefix);
}

}  // namespace drrik::detail
