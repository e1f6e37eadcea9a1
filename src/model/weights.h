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
  bool defined = false;      // false: nothing is normalised
  std::vector<float> gamma;  // [width], empty: 1
  std::vector<float> beta;   // [width], empty: 0
};

/// y = x Wᵀ + bias.
struct Projection {
  Weight weight;
  std::vector<float> bias;  // empty: none
};

struct LayerWeights {
  Norm attn_norm;       // before the module, or with NormWiring::kPost after its add
  Norm mlp_norm;        //
  Norm attn_out_norm;   // of the module's output, where config.output_norms()
  Norm mlp_out_norm;    //
  Norm q_norm;          // [head_dim], or the whole width with QkNorm::kWhole
  Norm k_norm;          //
  Projection qkv;       // [q_dim + 2 kv_dim, d_model]: queries, keys, values
  Projection attn_out;  // [d_model, q_dim]
  Projection up;        // [d_mlp, d_model], or the gate above it [2 d_mlp, d_model]
  Projection down;      // [d_model, d_mlp]
};

struct ModelWeights {
  Tensor embedding;               // [vocab, embedding_width], borrowed from its file
  Tensor positions;               // [max_positions + position_offset, d_model] when learned
  std::vector<float> token_type;  // [d_model], that of type 0, where there are types
  Norm embedding_norm;
  Projection project_in;  // [d_model, embedding_width] where that differs
  std::vector<LayerWeights> layers;

  // With the head only.
  Norm final_norm;
  Projection head_dense;   // [d_model, d_model] of head_transform,
  Norm head_norm;          //   and its norm
  Projection project_out;  // [embedding_width, d_model] where that differs
  Projection head;         // [vocab, embedding_width]; undefined when left out
};

/// Uniform values by name and seed.
std::unique_ptr<TensorSource> random_tensors(std::uint64_t seed);

/// Layers are prepared one after the other, each tensor's pages given back once it is packed.
ModelWeights build_weights(const ModelConfig& config, const ModelOptions& options,
                           const TensorSource& source);

}  // namespace drrik::detail
