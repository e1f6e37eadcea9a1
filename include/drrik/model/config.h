#pragma once
// ModelConfig: what a HuggingFace config.json says, in terms that one block executor understands.
//
// Every family's own parser (src/model/family_*.cpp) translates its keys into these fields; the
// executor and the weight loader never ask which family it is.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/ops/activation.h"
#include "drrik/tensor/dtype.h"

namespace drrik {

enum class NormKind : std::uint8_t {
  kLayerNorm,  ///< Mean and variance; weight and bias.
  kRmsNorm     ///< Root mean square; weight only.
};

enum class PositionKind : std::uint8_t {
  kLearned,  ///< A table added to the token embedding.
  kRotary    ///< Rotation of queries and keys.
};

enum class RopeScaling : std::uint8_t { kNone, kLinear, kLlama3, kYarn };

/// Rotary embedding: frequencies theta^(-2j / dim), j < dim / 2, then scaled for longer contexts.
struct RopeOptions {
  double theta = 10000.0;
  /// Leading elements of each head that are rotated.
  std::int64_t dim = 0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  /// kLlama3 and kYarn: context length the frequencies were trained for.
  std::int64_t original_positions = 0;
  double low_freq_factor = 1.0;   ///< kLlama3
  double high_freq_factor = 4.0;  ///< kLlama3
  double beta_fast = 32.0;        ///< kYarn
  double beta_slow = 1.0;         ///< kYarn
  bool truncate = true;           ///< kYarn: whole-numbered ramp ends.
  double cos_sin_scale = 1.0;     ///< Multiplies cos and sin (YaRN's attention factor).
};

/// Inverse frequencies of `rope`, [dim / 2]. Source: transformers' modeling_rope_utils.
std::vector<float> rope_inverse_frequencies(const RopeOptions& rope);

struct ModelConfig {
  std::string family;  ///< model_type: "llama", "gpt2", "gpt_neox".

  std::int64_t vocab_size = 0;
  std::int64_t d_model = 0;
  std::int64_t n_layers = 0;
  std::int64_t n_heads = 0;
  std::int64_t n_kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t d_mlp = 0;
  std::int64_t max_positions = 0;  ///< Longest sequence the model takes.

  NormKind norm = NormKind::kRmsNorm;
  double norm_eps = 1e-5;
  Activation activation = Activation::kSilu;
  bool gated_mlp = true;  ///< act(gate) · up instead of act(up).
  PositionKind positions = PositionKind::kRotary;
  RopeOptions rope;  ///< Only with kRotary.

  /// Attention and MLP both read the block's input; there is then no resid_mid.
  bool parallel_residual = false;
  /// Multiplies q·k; 0: 1 / sqrt(head_dim).
  double attention_scale = 0.0;
  /// Divides layer i's scale by i + 1 as well (GPT-2's scale_attn_by_inverse_layer_idx).
  bool scale_by_inverse_layer = false;

  bool qkv_bias = false;
  bool attn_out_bias = false;
  bool mlp_bias = false;
  /// The output head is the input embedding.
  bool tied_head = false;

  std::optional<std::int32_t> bos_id;
  std::vector<std::int32_t> eos_ids;  ///< generation_config.json's where it names any.
  /// As config.json says; the tensors themselves decide.
  std::optional<DType> dtype;

  std::int64_t q_dim() const { return n_heads * head_dim; }
  std::int64_t kv_dim() const { return n_kv_heads * head_dim; }
  /// Of the layers and the embeddings (a tied head counts once).
  std::int64_t parameter_count() const;
  /// Throws Error(data) naming the field when sizes contradict each other, are not positive, or
  /// are beyond any model (so that products of two of them cannot overflow).
  void validate() const;
};

/// Parses the text of a config.json; `what` names it in errors. Accepts the spellings of
/// transformers 4 and 5. Throws Error(data) naming key, got and wanted; for an unknown model_type
/// naming the known ones.
ModelConfig parse_model_config(std::string_view json, std::string_view what);

/// config.json of a folder, and generation_config.json when there. Throws Error(io), Error(data).
ModelConfig read_model_config(const std::filesystem::path& folder);

}  // namespace drrik
