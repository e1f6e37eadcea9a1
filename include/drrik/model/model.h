#pragma once
// A language model: configuration, weights, forward pass with hooks.
//
// Notation: n = rows (tokens of all packed sequences), V = vocabulary, L = layers.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "drrik/model/config.h"
#include "drrik/model/hook.h"
#include "drrik/ops/gemm.h"
#include "drrik/tensor/mat_view.h"

namespace drrik {

/// Where a model's weights are while it runs.
enum class Residency : std::uint8_t {
  kAuto,      ///< kStreamed where they would not fit into the memory there is, else kResident.
  kResident,  ///< Prepared once, in memory.
  /// In their files: each layer is prepared when a pass comes to it and dropped after it, while the
  /// next one is read. The same numbers bit for bit; a pass then costs a reading of the files, so
  /// that large batches are worth their while and generating is slow.
  kStreamed
};

struct ModelOptions {
  /// Precision of the matrix products; everything else is float32.
  Compute compute = Compute::kF32;
  /// Load only the layers [0, max_layers) when >= 0 (extraction needs nothing above its hook).
  std::int64_t max_layers = -1;
  /// Leave the output head out (no logits can be asked for).
  bool skip_head = false;
  Residency residency = Residency::kAuto;
};

/// Token rows of one or more sequences laid end to end without padding.
struct TokenBatch {
  std::vector<std::int32_t> ids;         ///< [n]
  std::vector<std::int64_t> boundaries;  ///< sequence starts and the end: [0, len0, len0+len1, …]

  std::int64_t rows() const { return static_cast<std::int64_t>(ids.size()); }
  std::int64_t sequences() const { return static_cast<std::int64_t>(boundaries.size()) - 1; }
  /// Appends a sequence.
  void append(std::span<const std::int32_t> sequence);
  void clear();
};

struct ForwardOptions {
  /// Hooks to call `on_hook` at, in the order of the forward pass, each once. Nothing above the
  /// highest of them is computed unless `logits`.
  std::vector<Hook> hooks;
  HookFunction on_hook;
  enum class Logits : std::uint8_t { kNone, kLast, kAll };
  /// kLast: one row per sequence; kAll: every row.
  Logits logits = Logits::kNone;
};

class KvCache;

/// Whether the architecture has the point: not resid_mid where attention and MLP stand side by
/// side, attn_add and mlp_add only where modules' outputs have norms of their own, pos_embed only
/// where positions are a table.
bool has_hook(const ModelConfig& config, HookPoint point);
/// Whether what stands at the point is added to the residual stream, or is the stream
/// (Model::to_residual).
bool writes_to_residual(HookPoint point);

/// Immutable after load; forward() may be called from several threads with separate caches.
///
/// Numbers: with Compute::kF32 everything is float32 arithmetic. With kBF16 both factors of every
/// product with a weight matrix, and of the attention's two, are rounded to bfloat16 and summed in
/// float32; residual stream, norms, softmax and non-linearities stay float32.
class Model {
 public:
  /// Loads a HuggingFace folder: config.json, and safetensors or PyTorch files, single or sharded.
  /// Throws Error(data) naming the file and what is wrong; Error(io) when a file is missing.
  static Model load(const std::filesystem::path& folder, const ModelOptions& options = {});
  ~Model();
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;

  const ModelConfig& config() const;
  /// Width of the activations at a hook point.
  std::int64_t hook_width(HookPoint point) const;
  /// "model.layers[3].mlp": the module path HuggingFace users know for this hook.
  std::string module_path(const Hook& hook) const;
  /// Throws Error(usage) when the layer does not exist (or was not loaded), naming how many there
  /// are, or when the architecture has no such point (has_hook()).
  void check_hook(const Hook& hook) const;

  /// Full forward pass over packed sequences. Returns logits float32 ([n, V], [sequences, V] or
  /// an undefined tensor) as options.logits asks. Throws Error(data) on an id outside the
  /// vocabulary, boundaries that do not cover the ids, or a sequence longer than the model's
  /// positions; Error(usage) for hooks or logits that this model (as loaded) does not have.
  Tensor forward(const TokenBatch& batch, const ForwardOptions& options = {}) const;

  /// Continues one sequence: appends `ids` to the cache and returns the logits of the last row
  /// [1, V] (or of all new rows with Logits::kAll). All layers run whatever the hooks. When an
  /// error or a hook's exception leaves it, the cache is as long as before.
  Tensor forward(std::span<const std::int32_t> ids, KvCache& cache,
                 const ForwardOptions& options = {}) const;
  /// With RopeScaling::kDynamic and kLongRope, rows are rotated for the length that the sequence
  /// has with them; what the cache holds stays as it was, as in transformers. Throws Error(usage)
  /// when the model takes fewer positions, or is not causal.
  KvCache make_cache(std::int64_t max_positions) const;

  // Directions instead of activations: what reaches the logits by linear maps alone, biases and the
  // statistics of norms left out. Means stay in: LayerNorm's centring is a linear map.

  /// What directions at a hook are where the residual stream takes them in: x [n, hook_width] ->
  /// out [n, d_model]. attn_z and mlp_post pass their output projection, attn_out and mlp_out the
  /// weights of a norm of their own, where there is one; points of the stream are copied. Throws
  /// Error(usage) for a point that writes nothing to it (writes_to_residual()) or a layer that was
  /// not loaded, Error(data) when widths differ.
  void to_residual(const Hook& hook, MatView<const float> x, MatView<float> out) const;
  /// The logits that directions of the residual stream add per unit of length: x [n, d_model] ->
  /// out [n, V]. The final norm's weights are folded in and, with LayerNorm, the mean of the
  /// direction is taken out (as TransformerLens folds them); its division by the stream's length
  /// is left out, and so are soft caps. Throws Error(usage) for a model without a head, or with one
  /// that is not linear (BERT's), Error(data) when widths differ.
  void unembed(MatView<const float> x, MatView<float> out) const;
  /// [d_mlp, d_model]: what each neuron of a layer's MLP writes to the residual stream per unit of
  /// mlp_post.
  Tensor neuron_outputs(std::int64_t layer) const;

  /// Whether its layers are prepared anew in each pass (Residency).
  bool streamed() const;

  /// Bytes of weights that generating one token reads, for bandwidth figures.
  std::int64_t weight_bytes_per_token() const;

  /// For the room's own sources, which alone see inside.
  struct Impl;
  explicit Model(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace drrik
