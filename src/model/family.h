#pragma once
// A family of models: how its config.json and its tensors map to what the executor understands.
//
// Adding one is a file with a `const Family` and a line in family.cpp's table.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/model/config.h"
#include "drrik/ops/gemm.h"
#include "io/json.h"

namespace drrik::detail {

/// How the projections to queries, keys and values are stored.
enum class QkvLayout : std::uint8_t {
  kSeparate,  ///< Three matrices.
  kBlocks,    ///< One: all queries, all keys, all values.
  /// One: for each key/value head its queries, its key, its value. With as many of them as of
  /// queries that is query, key, value of each head (GPT-NeoX, BLOOM); Falcon has all kinds.
  kGrouped
};

/// Where the tensors are. Block names stand after prefix + block ("model." + "layers.3."); a module
/// is a name without its ".weight" or ".bias". Empty: the family has none.
struct TensorNames {
  std::string_view prefix = {};  ///< Of the base model; absent from checkpoints of the bare model.
  std::string_view embedding = {};       ///< Module after prefix.
  std::string_view positions = {};       ///< Learned positions, module after prefix.
  std::string_view token_types = {};     ///< Module after prefix.
  std::string_view embedding_norm = {};  ///< Module after prefix.
  std::string_view project_in = {};      ///< Module after prefix, where embedding_dim is set.
  std::string_view project_out = {};     ///< Likewise.
  std::string_view blocks = {};          ///< "layers": block i is "layers.<i>.".
  std::string_view final_norm = {};      ///< Module after prefix.
  std::string_view head = {};            ///< Module, never prefixed.
  std::string_view head_bias = {};       ///< Tensor, never prefixed.
  std::string_view head_dense = {};  ///< Modules of ModelConfig::head_transform, never prefixed.
  std::string_view head_norm = {};

  std::string_view attn_norm = {};  ///< Before the attention; with NormWiring::kPost after its add.
  std::string_view mlp_norm = {};
  std::string_view attn_out_norm = {};  ///< Of the module's output, where it has one.
  std::string_view mlp_out_norm = {};
  QkvLayout qkv_layout = QkvLayout::kSeparate;
  std::string_view qkv = {};  ///< Fused layouts.
  std::string_view q = {};    ///< kSeparate.
  std::string_view k = {};
  std::string_view v = {};
  std::string_view q_norm = {};
  std::string_view k_norm = {};
  std::string_view attn_out = {};
  std::string_view gate = {};     ///< Gated MLPs,
  std::string_view gate_up = {};  ///<   or the gate above the up projection in one matrix.
  std::string_view up = {};
  std::string_view down = {};
  WeightLayout layout = WeightLayout::kOutIn;  ///< Of the matrices inside blocks.
};

/// Module paths inside a block, as users of transformers name them: those whose output is what the
/// module contributes, before any norm and without the residual stream.
struct ModulePaths {
  std::string_view attention = {};
  std::string_view mlp = {};
  std::string_view mlp_in = {};  ///< Whose input is the MLP's; empty: `mlp`.
};

struct Family {
  std::string_view name;  ///< model_type of config.json.
  /// Fills everything of `config` but the ids; `what` names the file.
  void (*parse)(const Json& json, std::string_view what, ModelConfig& config);
  TensorNames tensors;
  ModulePaths modules;
  /// Changes what the names depend on in the configuration; null: nothing.
  void (*refine)(const ModelConfig& config, TensorNames& names) = nullptr;
};

/// The names for a model of `config`.
TensorNames tensor_names(const ModelConfig& config);

std::span<const Family* const> families();
/// Throws Error(data) naming the known ones.
const Family& get_family(std::string_view name);

// What the parsers share.

/// An integer in [1, limit]; throws Error(data) naming the key otherwise.
std::int64_t get_size(const Json& json, std::string_view key, std::string_view what,
                      std::int64_t limit);
std::int64_t get_size(const Json& json, std::string_view key, std::string_view what,
                      std::int64_t limit, std::int64_t fallback);
/// A positive finite number.
double get_positive(const Json& json, std::string_view key, std::string_view what, double fallback);
Activation get_activation(const Json& json, std::string_view key, std::string_view what,
                          std::string_view fallback);
/// hidden_size, num_hidden_layers, num_attention_heads, vocab_size, as most families call them.
void parse_sizes(const Json& json, std::string_view what, ModelConfig& config);
/// d_model / n_heads; throws Error(data) naming the keys when it does not divide.
std::int64_t divided_head_dim(std::string_view what, const ModelConfig& config,
                              std::string_view width_key, std::string_view heads_key);
/// Reads rope_parameters (transformers 5) or rope_theta and rope_scaling (4) into config.rope;
/// head_dim and max_positions must be set. `theta` and `partial` are the class's defaults.
void parse_rope(const Json& json, std::string_view what, double theta, double partial,
                ModelConfig& config);
/// One set of rotary parameters: what `parameters` says, and otherwise `theta` and `partial`.
RopeOptions parse_rope_parameters(const Json& parameters, std::string_view what, double theta,
                                  double partial, const ModelConfig& config);
/// A window's size; 0 where the key is null. `fallback` where it is absent.
std::int64_t get_window(const Json& json, std::string_view key, std::string_view what,
                        std::int64_t fallback);
/// config.windows by layer_types, or by `sliding(layer)` where the file has none. Throws
/// Error(data) when a layer is to slide and `window` is 0.
void parse_layer_types(const Json& json, std::string_view what, std::int64_t window,
                       const std::function<bool(std::int64_t layer)>& sliding, ModelConfig& config);
/// A soft cap: positive, or 0 where the key is null. `fallback` where it is absent.
double get_cap(const Json& json, std::string_view key, std::string_view what, double fallback);

/// Llama's tensors, which its many descendants took over with small changes.
inline constexpr TensorNames kLlamaTensors = {.prefix = "model.",
                                              .embedding = "embed_tokens",
                                              .blocks = "layers",
                                              .final_norm = "norm",
                                              .head = "lm_head",
                                              .attn_norm = "input_layernorm",
                                              .mlp_norm = "post_attention_layernorm",
                                              .q = "self_attn.q_proj",
                                              .k = "self_attn.k_proj",
                                              .v = "self_attn.v_proj",
                                              .attn_out = "self_attn.o_proj",
                                              .gate = "mlp.gate_proj",
                                              .up = "mlp.up_proj",
                                              .down = "mlp.down_proj"};
inline constexpr ModulePaths kLlamaModules = {.attention = "self_attn", .mlp = "mlp"};

/// Where the class defaults of a descendant of Llama differ.
struct LlamaDefaults {
  std::int64_t max_positions = 2048;
  std::int64_t kv_heads = 0;  ///< Where the key is absent; 0: n_heads.
  std::int64_t head_dim = 0;  ///< 0: d_model / n_heads.
  double norm_eps = 1e-6;
  std::string_view activation_key = "hidden_act";
  std::string_view activation = "silu";
  bool tied_head = false;
};
/// What Llama and its descendants have in common: RMSNorm, rotary positions, grouped queries, a
/// gated MLP, attention_bias. Rotary parameters are read where `rope`.
void parse_llama_like(const Json& json, std::string_view what, const LlamaDefaults& defaults,
                      ModelConfig& config, bool rope = true);

/// Sizes beyond any model; products of two of them stay inside int64.
inline constexpr std::int64_t kMaxWidth = std::int64_t{1} << 22;
inline constexpr std::int64_t kMaxVocab = std::int64_t{1} << 28;
inline constexpr std::int64_t kMaxLayers = std::int64_t{1} << 14;
inline constexpr std::int64_t kMaxPositions = (std::int64_t{1} << 31) - 1;

}  // namespace drrik::detail
