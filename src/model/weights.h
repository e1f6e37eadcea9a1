#pragma once
// A model's weights, prepared for the executor.

#include <cstdint>
#include <memory>
#include <vector>

#include "drrik/model/config.h"
#include "drrik/model/model.h"
#include "drrik/ops/gemm.h"
#include "drrik/tensor/tensor.h"
#include "model/checkpoint.h"

namespace drrik::detail {

struct Norm {
  std::vector<float> gamma;  // [d_model]
  std::vector<float> beta;   // [d_model], empty for RMSNorm
};

/// y = x Wᵀ + bias.
struct Projection {
  Weight weight;
  std::vector<float> bias;  // empty: none
};

struct LayerWeights {
  Norm attn_norm;
  Norm mlp_norm;
  Projection qkv;       // [q_dim + 2 kv_dim, d_model]: queries, keys, values
  Projection attn_out;  // [d_model, q_dim]
  Projection up;        // [d_mlp, d_model], or the gate above it [2 d_mlp, d_model]
  Projection down;      // [d_model, d_mlp]
};

struct ModelWeights {
  Tensor embedding;  // [vocab, d_model], borrowed from its file
  Tensor positions;  // [max_positions, d_model] when learned
  std::vector<LayerWeights> layers;
  Norm final_norm;  // with the head only
  Weight head;      // [vocab, d_model]; undefined when left out
};

/// Uniform values by name and seed.
std::unique_ptr<TensorSource> random_tensors(std::uint64_t seed);

/// Layers are prepared one after the other, each tensor's pages given back once it is packed.
ModelWeights build_weights(const ModelConfig& config, const ModelOptions& options,
                           const TensorSource& source);

}  // namespace drrik::detail
