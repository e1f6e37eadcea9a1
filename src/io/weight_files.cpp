#include "drrik/io/weight_files.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "drrik/io/safetensors.h"
#include "drrik/io/torch_file.h"
#include "io/json.h"

namespace drrik {
namespace fs = std::filesystem;
namespace {

constexpr std::uint64_t kMaxIndex = 100'000'000;

// In transformers' order of preference.
constexpr std::array<const char*, 4> kNames = {"model.safetensors", "model.safetensors.index.json",
                                               "pytorch_model.bin", "pytorch_model.bin.index.json"};

bool plain_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

// The dict of tensors in what torch.save() was given: the whole, or a member that training loops
// call so.
const PtValue& state_dict(const PtValue& root) {
  if (root.kind() != PtValue::Kind::kDict) {
    throw_data("holds a ", root.kind_name(), ", wanted a dict of tensors (a state_dict())");
  }
  const auto has_tensor = [](const PtValue& dict) {
    return std::ranges::any_of(dict.members(), [](const PtValue::Member& member) {
      return member.second.kind() == PtValue::Kind::kTensor;
    });
  };
  if (has_tensor(root)) return root;
  for (const char* key : {"state_dict", "model_state_dict", "model"}) {
    const PtValue* inner = root.find(key);
    if (inner != nullptr && inner->kind() == PtValue::Kind::kDict && has_tensor(*inner)) {
      return *inner;
    }
  }
  throw_data("holds no tensors, wanted a dict of them (a state_dict())");
}

}  // namespace

/// One opened file, of either kind.
class WeightFiles::File {
 public:
  File(const fs::path& path, Format format) {
    if (format == Format::kSafetensors) {
      safetensors_ = SafetensorsFile::open(path);
      return;
    }
    const PtValue root = read_torch_file(path);
    try {
      for (const auto& [key, value] : state_dict(root).members()) {
        if (key.kind() != PtValue::Kind::kString || value.kind() != PtValue::Kind::kTensor) {
          continue;
        }
        torch_.emplace(key.as_string(), value.shared_tensor());
      }
    } catch (Error& error) {
      throw error.add_context(path.string());
    }
  }

  bool contains(std::string_view name) const {
    return safetensors_ ? safetensors_->contains(name) : torch_.find(name) != torch_.end();
  }

  StoredTensor describe(std::string_view name) const {
    if (safetensors_) {
      const SafetensorsEntry& entry = *safetensors_->find_entry(name);
      return {std::string(entry.dtype_text), entry.dtype, entry.shape, entry.bytes};
    }
    const Tensor& tensor = *torch_.find(name)->second;
    return {std::string(dtype_name(tensor.dtype())), tensor.dtype(), tensor.shape(),
            tensor.bytes()};
  }

  template <typename F>
  void for_each_name(F&& f) const {
    if (safetensors_) {
      for (const SafetensorsEntry& entry : safetensors_->entries()) f(entry.name);
    } else {
      for (const auto& item : torch_) f(item.first);
    }
  }

  Tensor get(std::string_view name) const {
    if (safetensors_) return safetensors_->get(name);
    return Tensor::share(torch_.find(name)->second);
  }

 private:
  std::optional<SafetensorsFile> safetensors_;
  std::map<std::string, std::shared_ptr<const Tensor>, std::less<>> torch_;
};

WeightFiles::WeightFiles() = default;
WeightFiles::~WeightFiles() = default;
WeightFiles::WeightFiles(WeightFiles&&) noexcept = default;
WeightFiles& WeightFiles::operator=(WeightFiles&&) noexcept = default;

WeightFiles WeightFiles::open(const fs::path& path) {
  WeightFiles out;
  out.path_ = path;
  fs::path file = path;
  std::error_code error;
  if (fs::is_directory(path, error)) {
    const auto* const found = std::ranges::find_if(
        kNames, [&](const char* name) { return fs::exists(path / name, error); });
    if (found == kNames.end()) {
      const std::string other = foreign_weights(path);
      throw_data("'", path.string(), "' has no weights: wanted ", kNames[0], " or ", kNames[2],
                 ", or the index of one", other.empty() ? "" : "; ", other);
    }
    file = path / *found;
  }
  const std::string extension = file.extension().string();
  const std::string stem = extension == ".json" ? file.stem().string() : file.filename().string();
  const bool torch = extension == ".bin" || extension == ".pt" || extension == ".pth" ||
                     stem.ends_with(".bin.index");
  out.format_ = torch ? Format::kTorch : Format::kSafetensors;
  if (extension == ".json") {
    out.add_index(file);
  } else {
    out.add_file(file);
    out.opened_[0]->for_each_name([&](const std::string& name) {
      out.tensors_.emplace(name, out.opened_[0]->describe(name));
    });
  }
  return out;
}

void WeightFiles::add_file(const fs::path& file) {
  opened_.push_back(std::make_unique<File>(file, format_));
  files_.push_back(file);
}

void WeightFiles::add_index(const fs::path& file) {
  const std::string what = file.string();
  const Json index = read_json_file(file, kMaxIndex);
  const Json& weights =
      expect_object(get_member(index, "weight_map", what), what + ": 'weight_map'");
  std::map<std::string, std::size_t> shard_numbers;
  std::error_code error;
  for (const auto& [name, value] : weights.get_ref<const Json::object_t&>()) {
    const std::string shard = json_string(value, str(what, ": shard of '", name, "'"));
    if (!plain_file_name(shard)) {
      throw_data(what, ": shard '", shard, "' of '", name,
                 "' is not a plain file name beside the index");
    }
    const auto [at, is_new] = shard_numbers.emplace(shard, files_.size());
    if (is_new) {
      const fs::path path = file.parent_path() / shard;
      if (!fs::exists(path, error)) {
        throw_data(what, ": shard '", shard, "' (holding '", name,
                   "') does not exist; incomplete download?");
      }
      add_file(path);
    }
    const File& holder = *opened_[at->second];
    if (!holder.contains(name)) {
      throw_data(what, ": tensor '", name, "' is not in its shard '", shard, "'");
    }
    StoredTensor tensor = holder.describe(name);
    tensor.file = at->second;
    tensors_.emplace(name, std::move(tensor));
  }
  if (tensors_.empty()) throw_data(what, ": 'weight_map' is empty");
}

std::vector<std::string> WeightFiles::names() const {
  std::vector<std::string> out;
  out.reserve(tensors_.size());
  for (const auto& item : tensors_) out.push_back(item.first);
  return out;
}

const StoredTensor* WeightFiles::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

const StoredTensor& WeightFiles::stored(std::string_view name) const {
  if (const StoredTensor* found = find(name)) return *found;
  throw_data(path_.string(), ": no tensor '", name, "'", did_you_mean(name, names()));
}

Tensor WeightFiles::get(std::string_view name) const {
  return opened_[stored(name).file]->get(name);
}

const fs::path& WeightFiles::file_of(std::string_view name) const {
  return files_[stored(name).file];
}

std::uint64_t WeightFiles::total_bytes() const {
  std::uint64_t total = 0;
  for (const auto& item : tensors_) total += item.second.bytes;
  return total;
}

std::string foreign_weights(const fs::path& folder) {
  std::set<std::string> names;
  std::error_code error;
  constexpr std::size_t kMaxFiles = 10'000;
  for (fs::directory_iterator it(folder, error), end;
       !error && it != end && names.size() < kMaxFiles; it.increment(error)) {
    names.insert(it->path().filename().string());
  }
  const auto ending = [&](std::string_view end) {
    return std::ranges::find_if(names,
                                [&](const std::string& name) { return name.ends_with(end); });
  };
  if (const auto found = ending(".gguf"); found != names.end()) {
    return str("it has ", *found,
               ": GGUF files are not read; use the HuggingFace folder it was made from");
  }
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors"}) {
    if (names.count(name) == 0) continue;
    return str("its ", name,
               " makes it a PEFT adapter (LoRA), which is only a change to another "
               "model: merge it into that one (merge_and_unload) and save the whole");
  }
  if (names.count("model_index.json") != 0) {
    return "its model_index.json makes it a diffusers pipeline; only language models are read";
  }
  struct Kind {
    const char* name;
    const char* what;
  };
  static constexpr Kind kKinds[] = {
      {"tf_model.h5", "TensorFlow's weights"},
      {"flax_model.msgpack", "Flax's weights"},
      {"rust_model.ot", "weights of another program"},
      {"params.json", "an original checkpoint"},
      {"consolidated.safetensors", "an original checkpoint"},
      {"consolidated.00.pth", "an original checkpoint"},
  };
  for (const Kind& kind : kKinds) {
    if (names.count(kind.name) == 0) continue;
    return str("it has ", kind.name, ", ", kind.what,
               ", which are not read: load the model with transformers and save it with "
               "save_pretrained");
  }
  if (const auto found = ending(".onnx"); found != names.end()) {
    return str("it has ", *found, ": ONNX files are not read; use the HuggingFace folder");
  }
  for (const char* end : {".safetensors", ".bin"}) {
    const auto found = ending(end);
    if (found != names.end() && *found != "training_args.bin") {
      return str("it has ", *found, "; if these are the weights, name them ",
                 end[1] == 's' ? kNames[0] : kNames[2]);
    }
  }
  return "";
}

}  // namespace drrik
