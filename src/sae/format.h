#pragma once
// What the readers of the single formats share.

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/sae/io.h"
#include "drrik/sae/relu_sae.h"
#include "drrik/tensor/tensor.h"

namespace drrik {

/// Tensors by name, whatever file they come from.
using TensorMap = std::map<std::string, Tensor, std::less<>>;

/// Hyper-parameters that a weights file may lack.
struct ReluHints {
  std::optional<double> l1_coefficient;
  std::optional<bool> normalize_decoder;  ///< Absent: whether every direction has unit length.
  std::optional<bool> pre_encoder_bias;   ///< Absent: whether the file has a bias.
  std::optional<std::int64_t> activation_dim;
  std::optional<std::int64_t> hidden_dim;
};

/// encoder.weight [h, d], decoder.weight [d, h], encoder_bias [h], optional bias [d] (the described
/// names). Throws Error(data) naming tensor, shape and the shape wanted.
ReluSae relu_from_described(const TensorMap& tensors, const ReluHints& hints);
/// W_enc, W_dec, b_enc, b_dec. SAELens keeps [d, h] and [h, d]; both matrices transposed (as
/// torch.nn.Linear keeps them) are told by the biases' lengths. `centred`: x − b_dec on input;
/// without it b_enc absorbs the difference.
ReluSae relu_from_saelens(const TensorMap& tensors, const ReluHints& hints, bool centred = true);
/// Which of the two the names fit. Throws Error(data) listing the names when neither.
ReluSae relu_from_tensors(const TensorMap& tensors, const ReluHints& hints);

/// Every tensor of a safetensors file, borrowed.
TensorMap read_tensor_map(const std::filesystem::path& path);

ReluSae load_described_torch(const std::filesystem::path& path, SaeRecord& record,
                             std::string& format);
/// A folder with cfg.json.
LoadedSae load_saelens(const std::filesystem::path& folder);

/// The sidecar: fills record and hints; false when the folder has none.
bool read_sidecar(const std::filesystem::path& folder, SaeRecord& record, ReluHints& hints);
void write_sidecar(const ReluSae& sae, const SaeRecord& record,
                   const std::filesystem::path& folder);

/// out [cols, rows] = mᵀ.
Tensor transposed(MatView<const float> m);

}  // namespace drrik
