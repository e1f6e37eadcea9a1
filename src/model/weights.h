#pragma once
// A model's weights, prepared for the executor.

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
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

/// What stands before the first block.
struct EmbeddingWeights {
  Tensor table;                   // [vocab, embedding_width], borrowed from its file
  Tensor positions;               // [max_positions + position_offset, d_model] when learned
  std::vector<float> token_type;  // [d_model], that of type 0, where there are types
  Norm norm;
  Projection project_in;  // [d_model, embedding_width] where that differs
};

/// What stands behind the last.
struct HeadWeights {
  Norm final_norm;
  Projection dense;        // [d_model, d_model] of head_transform,
  Norm norm;               //   and its norm
  Projection project_out;  // [embedding_width, d_model] where that differs
  Projection matrix;       // [vocab, embedding_width]
};

class Readahead;

/// A model's weights, which stay in their files' mappings until they are packed (Weight::keep).
/// Either a layer is set up when it is first used and then kept, while a thread has the kernel read
/// the pages of all of them in order; or, streamed, a layer and the head are set up
/// anew whenever they are asked for, while the pages of the next are read, and their own go when
/// they do: a model larger than memory then runs from its file. The numbers are the same bit for
/// bit. Thread-safe.
class Weights {
 public:
  Weights(const ModelConfig& config, const ModelOptions& options,
          std::shared_ptr<const TensorSource> source);
  ~Weights();
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  bool streamed() const { return streamed_; }
  std::int64_t layers() const { return layers_; }
  bool has_head() const { return has_head_; }
  /// These wait for the disk. What the others return is valid while held.
  const EmbeddingWeights& embedding() const;
  std::shared_ptr<const LayerWeights> layer(std::int64_t i) const;
  std::shared_ptr<const HeadWeights> head() const;
  /// Of the matrices of layers and head, as they are packed; by the embedding's type.
  std::int64_t packed_bytes() const { return packed_bytes_; }

 private:
  class Builder;
  /// Has the kernel read what is used after this layer.
  void want_after(std::int64_t layer) const;
  std::unique_ptr<const Builder> builder_;
  std::unique_ptr<Readahead> readahead_;
  bool streamed_ = false;
  bool has_head_ = false;
  std::int64_t layers_ = 0;
  std::int64_t packed_bytes_ = 0;
  EmbeddingWeights embedding_;
  bool tied_ = false;
  mutable std::mutex mutex_;  // guards the making of what follows
  mutable std::atomic<std::int64_t> layers_ready_ = 0;
  mutable std::vector<std::shared_ptr<const LayerWeights>> kept_;
  mutable std::shared_ptr<const HeadWeights> head_;
};

/// Uniform values by name and seed.
std::unique_ptr<TensorSource> random_tensors(std::uint64_t seed);

}  // namespace drrik::detail
