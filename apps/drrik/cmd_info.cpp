// drrik info: what a folder, a file or a model on the Hub is.

#include <filesystem>
#include <memory>
#include <optional>

#include "drrik/activations/store.h"
#include "drrik/base/error.h"
#include "drrik/hub/resolve.h"
#include "drrik/io/weight_files.h"
#include "drrik/sae/io.h"
#include "info.h"
#include "io/json.h"

namespace drrik::cli {
namespace {

namespace fs = std::filesystem;

struct Flags {
  std::string path;
  bool count = false;
};

bool has_weights(const fs::path& folder) {
  std::error_code error;
  for (const char* name : {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                           "pytorch_model.bin.index.json"}) {
    if (fs::exists(folder / name, error)) return true;
  }
  return false;
}

// A tokenizer.json under any name: an object whose "model" has a vocabulary.
bool is_tokenizer_file(const fs::path& file) {
  const std::string name = file.filename().string();
  if (name == "tokenizer.json" || name == "tekken.json" || file.extension() == ".model" ||
      file.extension() == ".tiktoken") {
    return true;
  }
  std::error_code error;
  if (file.extension() != ".json" || fs::file_size(file, error) > (std::uintmax_t{64} << 20)) {
    return false;
  }
  try {
    const Json json = read_json_file(file);
    if (!json.is_object()) return false;
    const auto model = json.find("model");
    return model != json.end() && model->is_object() && model->contains("vocab");
  } catch (const Error&) {
    return false;  // A dataset, or broken: the dataset's reader says how.
  }
}

// Weights, unless they are an autoencoder's; those have few tensors.
void tensor_file(const fs::path& file, Info& info) {
  constexpr std::size_t kMostOfSae = 16;
  std::string not_weights;
  try {
    if (WeightFiles::open(file).tensors().size() > kMostOfSae) {
      info.json["kind"] = "weights";
      return weights_info(file, info);
    }
  } catch (const Error& error) {
    not_weights = error.what();  // An autoencoder's dictionary may be none of plain tensors.
  }
  try {
    Info sae = info;
    sae.json["kind"] = "sae";
    sae_info(file, sae);
    info = std::move(sae);
  } catch (const Error&) {
    if (!not_weights.empty()) throw Error(ErrorKind::kData, not_weights);
    info.json["kind"] = "weights";
    weights_info(file, info);
  }
}

void describe_folder(const fs::path& path, Info& info) {
  std::error_code error;
  const auto is = [&](const char* kind) -> Info& {
    info.json["kind"] = kind;
    return info;
  };
  if (is_sae_path(path)) return sae_info(path, is("sae"));
  if (is_activation_store(path)) return activations_info(path, is("activations"));
  if (foreign_info(path, info)) return;
  if (fs::exists(path / "config.json", error)) return model_info(path, is("model"));
  if (has_weights(path)) return weights_info(path, is("weights"));
  if (has_tokenizer(path)) return tokenizer_info(path, is("tokenizer"));
}

void describe_file(const fs::path& path, Info& info) {
  const std::string extension = path.extension().string();
  const std::string name = path.filename().string();
  const auto is = [&](const char* kind) -> Info& {
    info.json["kind"] = kind;
    return info;
  };
  if (foreign_info(path, info)) return;
  if (extension == ".npy") return activations_info(path, is("activations"));
  if (extension == ".npz") return arrays_info(path, is("arrays"));
  for (const char* tensors : {".safetensors", ".pt", ".pth", ".bin"}) {
    if (extension == tensors) return tensor_file(path, info);
  }
  if (name.ends_with(".safetensors.index.json") || name.ends_with(".bin.index.json")) {
    return weights_info(path, is("weights"));
  }
  if (name == "config.json") {
    const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
    return model_info(folder, is("model"));
  }
  if (is_tokenizer_file(path)) return tokenizer_info(path, is("tokenizer"));
}

// A model of that id: what the cache has of it, else its configuration and tokenizer, which are
// small. No model: a dataset of that id.
void describe_id(const Flags& flags, Info& info) {
  std::optional<fs::path> folder = find_model_folder(flags.path);
  const bool whole = folder.has_value();
  if (!folder) {
    try {
      folder = resolve_model_folder(flags.path, "main", ModelPart::kTokenizer);
    } catch (const Error& no_model) {
      if (no_model.kind() == ErrorKind::kInterrupted) throw;
      try {
        info.json["kind"] = "dataset";
        return dataset_info(flags.path, flags.count, info);
      } catch (const Error& no_dataset) {
        if (no_dataset.kind() == ErrorKind::kInterrupted) throw;
        throw Error(no_model.kind(), no_model.what());
      }
    }
  }
  if (!whole) info.repo = flags.path;
  describe_folder(*folder, info);
  info.json["folder"] = folder->string();
  info.json["fetched"] = whole ? "whole" : "configuration";
  if (!whole) info.screen.note("the weights are not here: 'drrik download' fetches them");
}

Info describe(const Flags& flags) {
  Info info;
  info.json["kind"] = nullptr;  // First, whatever is found.
  info.json["path"] = flags.path;
  const fs::path path = flags.path;
  std::error_code error;
  const fs::file_type type = fs::status(path, error).type();
  if (type == fs::file_type::none) throw_io("'", flags.path, "': ", error.message());
  if (type == fs::file_type::directory) {
    describe_folder(path, info);
  } else if (type == fs::file_type::regular) {
    describe_file(path, info);
  } else if (type != fs::file_type::not_found) {
    throw_io("'", flags.path, "' is neither a file nor a folder");
  } else if (flags.path.find_first_of("*?[") == std::string::npos) {
    if (!looks_like_repo_id(flags.path)) throw_io("'", flags.path, "' does not exist");
    describe_id(flags, info);
  }
  if (info.json["kind"].is_null()) {
    info.json["kind"] = "dataset";
    dataset_info(flags.path, flags.count, info);
  }
  return info;
}

}  // namespace

Command info_command() {
  return {"info", "Say what a model, tokenizer, SAE, activation folder or dataset is",
          "  drrik info assets/demo/model\n"
          "  drrik info model.safetensors\n"
          "  drrik info 'data/*.parquet' --json\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            auto flags = std::make_shared<Flags>();
            app.add_option("path", flags->path, "Folder, file, glob or Hub id")->required();
            app.add_flag("--count", flags->count, "Count a dataset's rows however large it is");
            add_hub_flags(app, globals);
            return [&globals, flags] {
              const Info info = describe(*flags);
              emit(globals, info.json, info.screen.text());
            };
          }};
}

}  // namespace drrik::cli
