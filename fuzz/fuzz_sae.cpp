// Autoencoders from arbitrary bytes. The first byte says which files they are: configurations
// beside good weights (zero bytes separate them), or one file of tensors.

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "drrik/io/safetensors.h"
#include "drrik/io/torch_file.h"
#include "drrik/sae/io.h"

namespace {

namespace fs = std::filesystem;
using drrik::Tensor;

constexpr std::int64_t kIn = 4;
constexpr std::int64_t kLatents = 6;

struct Layout {
  std::vector<const char*> texts;  // what the bytes become
  const char* weights = nullptr;   // a good file beside them; null: texts[0] is the whole
};

const std::vector<Layout>& layouts() {
  static const std::vector<Layout> table = {
      {{"cfg.json", "drrik.json", "activation_scaler.json"}, "sae_weights.safetensors"},
      {{"cfg.json"}, "sae.safetensors"},
      {{"config.json"}, "ae.pt"},
      {{"hyperparams.json"}, "checkpoints/final.safetensors"},
      {{"config.json"}, "params.safetensors"},
      {{"x.pt"}},
      {{"params.npz"}},
      {{"x.safetensors"}},
  };
  return table;
}

// Every name that a reader may ask for, of the shape that most of them want.
void write_weights(const fs::path& path) {
  const Tensor by_input = Tensor::zeros<float>({kIn, kLatents});
  const Tensor by_latent = Tensor::zeros<float>({kLatents, kIn});
  const Tensor latents = Tensor::zeros<float>({kLatents});
  const Tensor inputs = Tensor::zeros<float>({kIn});
  const Tensor square = Tensor::zeros<float>({kIn, kIn});
  const Tensor scalar = Tensor::zeros<float>({});
  std::vector<drrik::NamedTensor> tensors;
  std::vector<Tensor> kept;
  kept.reserve(64);
  const auto add = [&](const char* name, const Tensor& tensor) {
    kept.push_back(tensor.clone());  // a file keeps no bytes twice
    tensors.push_back({name, &kept.back()});
  };
  for (const char* name : {"W_enc", "w_enc", "decoder.weight"}) add(name, by_input);
  for (const char* name : {"encoder.weight", "W_dec", "w_dec"}) add(name, by_latent);
  for (const char* name : {"b_enc", "b_gate", "b_mag", "r_mag", "encoder.bias", "gate_bias",
                           "mag_bias", "threshold"}) {
    add(name, latents);
  }
  for (const char* name : {"b_dec", "bias", "decoder.bias", "decoder_bias"}) add(name, inputs);
  add("W_skip", square);
  add("affine_skip_connection", square);
  add("topk_threshold", scalar);
  add("k", scalar);
  fs::create_directories(path.parent_path());
  if (path.extension() == ".pt") {
    drrik::PtValue dict = drrik::PtValue::dict();
    for (const auto& [name, tensor] : tensors) dict.set(name, tensor->clone());
    drrik::write_torch_file(path, dict);
  } else {
    drrik::write_safetensors(path, tensors);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  drrik::set_log_level(drrik::LogLevel::kOff);
  if (size == 0) return 0;
  // One folder a process (libFuzzer's workers are processes) and layout, whose weights stay.
  static const fs::path root =
      fs::temp_directory_path() / ("drrik_fuzz_sae_" + std::to_string(getpid()));
  const std::size_t which = data[0] % layouts().size();
  const Layout& layout = layouts()[which];
  const fs::path folder = root / std::to_string(which);
  if (!fs::exists(folder)) {
    fs::create_directories(folder);
    if (layout.weights != nullptr) write_weights(folder / layout.weights);
  }
  std::string_view rest(reinterpret_cast<const char*>(data + 1), size - 1);
  for (const char* name : layout.texts) {
    const std::size_t end = layout.weights == nullptr ? rest.npos : rest.find('\0');
    std::ofstream(folder / name, std::ios::binary) << rest.substr(0, end);
    rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
    if (rest.empty() && name != layout.texts.front()) fs::remove(folder / name);
  }
  try {
    const auto sae =
        drrik::load_sae(layout.weights != nullptr ? folder : folder / layout.texts.front());
    if (sae->d_in() > 4096 || sae->d_sae() > 4096) return 0;
    const Tensor x = Tensor::zeros<float>({2, sae->d_in()});
    Tensor out = Tensor::zeros<float>({2, sae->d_out()});
    sae->reconstruct(x.mat<float>(), out.mutable_mat<float>());
  } catch (const drrik::Error&) {
  }
  return 0;
}
