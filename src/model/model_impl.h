#pragma once
// What stands behind Model: weights, and scratch memory that forward passes share.

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "drrik/model/kv_cache.h"
#include "drrik/model/model.h"
#include "drrik/ops/rope.h"
#include "model/family.h"
#include "model/weights.h"

namespace drrik {

namespace detail {

/// Memory that grows to the largest use and is kept.
class Scratch {
 public:
  template <typename T>
  MatView<T> mat(std::int64_t rows, std::int64_t cols) {
    const auto bytes = static_cast<std::size_t>(rows * cols) * sizeof(T);
    if (bytes > buffer_.size()) {
      buffer_ = {};  // never both
      buffer_ = AlignedBuffer(bytes, AlignedBuffer::Init::kNone);
    }
    return {reinterpret_cast<T*>(buffer_.data()), rows, cols};
  }

 private:
  AlignedBuffer buffer_;
};

/// What one forward pass works in.
struct Workspace {
  Scratch resid;   // [n, d_model]
  Scratch normed;  // [n or chunk, d_model]
  Scratch qkv;     // [n, q_dim + 2 kv_dim]
  Scratch mixed;   // [n, q_dim], what attention makes of it
  Scratch up;      // [n or chunk, d_mlp or 2 d_mlp]
  Scratch post;    // [n or chunk, d_mlp]
  Scratch out;     // [n, d_model], a module's output where a hook wants it
  Scratch last;    // [sequences, d_model]
  Scratch bias;    // [n_heads, longest], rounded ALiBi
  std::vector<std::int32_t> positions;
  std::vector<std::uint16_t> hooks;  // bits of the points wanted, a layer each
};

}  // namespace detail

struct Model::Impl {
  ModelConfig config;
  ModelOptions options;
  const detail::Family* family = nullptr;
  std::unique_ptr<const detail::Weights> weights;
  std::vector<float> slopes;  // of ALiBi, [n_heads]

  std::int64_t loaded_layers() const { return weights->layers(); }

  /// A table of config.rope (or local_rope) with at least `positions` positions, `stretched` as
  /// RopeOptions means it. It stays valid while it is held.
  std::shared_ptr<const RopeTable> rope(bool local, bool stretched, std::int64_t positions) const;

  /// A workspace to use alone; it goes back by itself.
  struct Return {
    const Impl* impl = nullptr;
    void operator()(detail::Workspace* workspace) const;
  };
  using Lease = std::unique_ptr<detail::Workspace, Return>;
  Lease lease() const;

 private:
  mutable std::mutex mutex_;
  mutable std::array<std::shared_ptr<const RopeTable>, 4> rope_;
  mutable std::vector<std::unique_ptr<detail::Workspace>> idle_;
};

namespace detail {

/// The one way to a Model: checkpoints and random weights alike. `config` must be valid.
Model make_model(const ModelConfig& config, const ModelOptions& options,
                 std::shared_ptr<const TensorSource> source);

/// Why a model of this configuration has not the point, in words that follow "hook 'resid_mid'".
/// Empty: it has it.
std::string absence(HookPoint point, const ModelConfig& config);

/// As Model::check_hook().
void check_hook(const Model::Impl& model, const Hook& hook);

/// Runs the rows of `ids`. With `cache`, they continue its one sequence.
Tensor run_forward(const Model::Impl& model, std::span<const std::int32_t> ids,
                   std::span<const std::int64_t> boundaries, KvCache* cache,
                   const ForwardOptions& options);

}  // namespace detail
}  // namespace drrik
