#pragma once
// Chosen features as a control vector of llama.cpp: what SAESteering adds to a model's activations,
// for llama.cpp to add (--control-vector FILE).

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "drrik/sae/io.h"
#include "drrik/sae/sae.h"

namespace drrik {

struct SteeredFeature {
  std::int64_t feature = 0;
  double strength = 1.0;  ///< Multiplies the decoder direction as it is stored.
};

/// Σ strength · direction, [d_out]. Throws Error(usage) for a feature outside [0, h), without
/// features, or for a sum that is not finite.
std::vector<float> sum_directions(const Sae& sae, std::span<const SteeredFeature> features);

/// The layer llama.cpp adds the vector at: it adds direction.N to what block N (from 0) leaves in
/// the residual stream. That is where the record's hook is added too for resid_post and mlp_out of
/// layer N and resid_pre of layer N + 1. Throws Error(usage) for other hooks, which the blocks'
/// output cannot stand for, for an unknown layer, and for layer 0, for which llama.cpp has none.
std::int64_t control_layer(const SaeRecord& record);

/// Writes the GGUF file: architecture `controlvector`, one float32 tensor direction.N. `model_hint`
/// is llama.cpp's name of the model's architecture ("llama"), which it only compares. Throws
/// Error(usage) for layer < 1; Error(io).
void write_control_vector(std::span<const float> direction, std::int64_t layer,
                          const std::string& model_hint, const std::filesystem::path& path);

}  // namespace drrik
