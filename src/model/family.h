#pragma once
// A family of models: how its config.json and its tensors map to what the executor understands.
//
// Adding one is a file with a `const Family` and a line in family.cpp's table.

#include <cstdint>
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
  kPerHead    ///< One: within each head its query, key and value (GPT-NeoX).
};

/// Where the tensors are. Block names stand after prefix + block ("model." + "layers.3."); a module
/// is a name without its ".weight" or ".bias". Empty: the family has none.
struct TensorNames {
  std::string_view prefix;      ///< Of the base model; absent from checkpoints of the bare model.
  std::string_view embedding;   ///< Module after prefix.
  std::string_view positions;   ///< Learned positions, module after prefix.
  std::string_view blocks;      ///< "layers": block i is "layers.<i>.".
  std::string_view final_norm;  ///< Module after prefix.
  std::string_view head;        ///< Module, never prefixed.

  std::string_view attn_norm;
  std::string_view mlp_norm;
  QkvLayout qkv_layout = QkvLayout::kSeparate;
  std::string_view qkv;  ///< Fused layouts.
  std::string_view q;    ///< kSeparate.
  std::string_view k;
  std::string_view v;
  std::string_view attn_out;
  std::string_view gate;  ///< Gated MLPs.
  std::string_view up;
  std::string_view down;
  WeightLayout layout = WeightLayout::kOutIn;  ///< Of the matrices inside blocks.
};

/// Module paths inside a block, as users of transformers name them.
struct ModulePaths {
  std::string_view attention;
  std::string_view mlp;
};

struct Family {
  std::string_view name;  ///< model_type of config.json.
  /// Fills everything of `config` but the ids; `what` names the file.
  void (*parse)(const Json& json, std::string_view what, ModelConfig& config);
  TensorNames tensors;
  ModulePaths modules;
};

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
/// Reads rope_parameters (transformers 5) or rope_theta and rope_scaling (4) into config.rope;
/// head_dim and max_positions must be set. `theta` and `partial` are the class's defaults.
void parse_rope(const Json& json, std::string_view what, double theta, double partial,
                ModelConfig& config);

/// Sizes beyond any model; products of two of them stay inside int64.
inline constexpr std::int64_t kMaxWidth = std::int64_t{1} << 22;
inline constexpr std::int64_t kMaxVocab = std::int64_t{1} << 28;
inline constexpr std::int64_t kMaxLayers = std::int64_t{1} << 14;
inline constexpr std::int64_t kMaxPositions = (std::int64_t{1} << 31) - 1;

}  // namespace drrik::detail
