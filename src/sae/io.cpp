#include "drrik/sae/io.h"

#include <utility>

#include "drrik/base/error.h"
#include "sae/format.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

bool is_torch_name(const fs::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".pt" || extension == ".pth" || extension == ".bin";
}

LoadedSae load_any(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
    if (!fs::exists(path / "cfg.json")) {
      throw_data("no cfg.json in this folder; wanted an SAE folder in SAELens's layout");
    }
    return load_saelens(path);
  }
  if (!fs::exists(path, error)) throw_io("no such file or folder");
  LoadedSae loaded;
  if (is_torch_name(path)) {
    loaded.sae =
        std::make_unique<ReluSae>(load_described_torch(path, loaded.record, loaded.format));
  } else if (path.extension() == ".safetensors") {
    loaded.sae = std::make_unique<ReluSae>(relu_from_tensors(read_tensor_map(path), {}));
    loaded.format = "safetensors";
  } else {
    throw_data("not an SAE that drrik reads: wanted an SAE folder, a .pt or a .safetensors file");
  }
  return loaded;
}

}  // namespace

LoadedSae load_sae_with_record(const fs::path& path) {
  try {
    return load_any(path);
  } catch (Error& error) {
    if (std::string_view(error.what()).find(path.string()) == std::string_view::npos) {
      error.add_context(path.string());
    }
    throw;
  }
}

std::unique_ptr<Sae> load_sae(const fs::path& path) { return load_sae_with_record(path).sae; }

std::unique_ptr<ReluSae> load_relu_sae(const fs::path& path, SaeRecord* record) {
  LoadedSae loaded = load_sae_with_record(path);
  auto* relu = dynamic_cast<ReluSae*>(loaded.sae.get());
  if (relu == nullptr) {
    throw_data(path.string(), ": a '", loaded.sae->architecture(), "' autoencoder, wanted relu");
  }
  if (record != nullptr) *record = std::move(loaded.record);
  (void)loaded.sae.release();  // it is relu
  return std::unique_ptr<ReluSae>(relu);
}

bool is_sae_path(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
    return fs::exists(path / "cfg.json", error) &&
           fs::exists(path / "sae_weights.safetensors", error);
  }
  return fs::is_regular_file(path, error) &&
         (is_torch_name(path) || path.extension() == ".safetensors");
}

}  // namespace drrik
