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

/// Where a block's norms stand. f is the attention or the MLP module, x what comes in.
enum class NormWiring : std::uint8_t {
  kPre,        ///< x + f(norm(x))
  kPreStream,  ///< n + f(n), n = norm(x) (BLOOM's apply_residual_connection_post_layernorm)
  kOutput,     ///< x + norm(f(x)) (OLMo 2)
  kSandwich,   ///< x + norm(f(norm'(x))) (Gemma 2 and 3)
  kPost        ///< norm(x + f(x)) (BERT, OPT-350m)
};

enum class PositionKind : std::uint8_t {
  kLearned,  ///< A table added to the token embedding.
  kRotary,   ///< Rotation of queries and keys.
  kAlibi     ///< A bias on the scores, linear in the distance (arXiv:2108.12409).
};

/// Norms of queries and keys, before their rotation; of the kind that the blocks' norms are.
enum class QkNorm : std::uint8_t {
  kNone,
  kPerHead,  ///< Each head by itself, one weight for all of them.
  kWhole     ///< The whole projection (OLMo 2).
};

enum class RopeScaling : std::uint8_t { kNone, kLinear, kDynamic, kLlama3, kYarn, kLongRope };

/// Rotary embedding: frequencies theta^(-2j / dim), j < dim / 2, then scaled for longer contexts.
struct RopeOptions {
  double theta = 10000.0;
  /// Leading elements of each head that are rotated.
  std::int64_t dim = 0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  /// All scalings but kLinear: context length the frequencies were trained for. kDynamic and
  /// kLongRope change their frequencies for sequences that are longer.
  std::int64_t original_positions = 0;
  double low_freq_factor = 1.0;   ///< kLlama3
  double high_freq_factor = 4.0;  ///< kLlama3
  double beta_fast = 32.0;        ///< kYarn
  double beta_slow = 1.0;         ///< kYarn
  bool truncate = true;           ///< kYarn: whole-numbered ramp ends.
  /// kLongRope: each frequency's divisor, [dim / 2], in sequences up to original_positions and in
  /// longer ones.
  std::vector<double> short_factors;
  std::vector<double> long_factors;
  double cos_sin_scale = 1.0;  ///< Multiplies cos and sin (YaRN's and LongRoPE's attention factor).

  /// Whether a sequence of `length` positions has other frequencies than a short one.
  bool stretched(std::int64_t length) const {
    return (scaling == RopeScaling::kDynamic || scaling == RopeScaling::kLongRope) &&
           length > original_positions;
  }
};

/// Inverse frequencies of `rope`, [dim / 2], for a sequence of `length` positions.
/// Source: transformers' modeling_rope_utils.
std::vector<float> rope_inverse_frequencies(const RopeOptions& rope, std::int64_t length = 0);

/// The slopes of ALiBi, [heads]: a geometric sequence, for other counts than powers of two
/// interleaved with that of the next power.
std::vector<float> alibi_slopes(std::int64_t heads);

struct ModelConfig {
  std::string family;  ///< model_type: "llama", "gpt2", "gpt_neox", …

  std::int64_t vocab_size = 0;
  std::int64_t d_model = 0;
  std::int64_t n_layers = 0;
  std::int64_t n_heads = 0;
  std::int64_t n_kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t d_mlp = 0;
  std::int64_t max_positions = 0;  ///< Longest sequence the model takes.

  // Embedding.
  /// Width of the token embedding and of what the head reads, projected from and to d_model (OPT's
  /// word_embed_proj_dim); 0: d_model.
  std::int64_t embedding_dim = 0;
  double embedding_scale = 1.0;  ///< Of the residual stream only, not of a tied head.
  std::int64_t token_types = 0;  ///< Rows of a token type table, whose first is added; 0: none.
  bool embedding_norm = false;   ///< A norm before the first block.
  PositionKind positions = PositionKind::kRotary;
  /// kLearned: row of the first position (the table has as many rows more).
  std::int64_t position_offset = 0;
  /// kLearned: a token of this id takes row position_offset - 1 and moves no later token on
  /// (RoBERTa's padding).
  std::optional<std::int32_t> uncounted_id;
  RopeOptions rope;  ///< kRotary
  /// kRotary: of the layers that have a window, where they differ (Gemma 3).
  std::optional<RopeOptions> local_rope;
  /// kAlibi: slope, position and their product are rounded to bfloat16, and the bias is scaled as
  /// q·k is (Falcon).
  bool rounded_alibi = false;

  // Norms.
  NormKind norm = NormKind::kRmsNorm;
  NormWiring norm_wiring = NormWiring::kPre;
  double norm_eps = 1e-5;
  double norm_weight_offset = 0.0;  ///< Added to the stored weights (Gemma stores them minus 1).
  bool norm_weights = true;         ///< Block and final norms have weights (not OLMo's).
  bool shared_norm = false;         ///< One norm serves attention and MLP (Phi, Falcon-7B).
  bool final_norm = true;           ///< After the last block.

  // Attention.
  bool causal = true;  ///< false: every token sees the whole sequence, and there is no generation.
  /// How many positions back a layer sees, itself included (and as many ahead when not causal); 0:
  /// all. Empty: 0 in every layer.
  std::vector<std::int64_t> windows;
  QkNorm qk_norm = QkNorm::kNone;
  double clip_qkv = 0.0;  ///< Queries, keys and values are clamped to ± this; 0: not.
  /// Multiplies q·k; 0: 1 / sqrt(head_dim).
  double attention_scale = 0.0;
  /// Divides layer i's scale by i + 1 as well (GPT-2's scale_attn_by_inverse_layer_idx).
  bool scale_by_inverse_layer = false;
  double attention_soft_cap = 0.0;  ///< Scores become cap · tanh(score / cap); 0: off.

  // MLP.
  Activation activation = Activation::kSilu;
  bool gated_mlp = true;  ///< act(gate) · up instead of act(up).

  /// Attention and MLP both read the block's input; there is then no resid_mid. Only with kPre.
  bool parallel_residual = false;

  bool qkv_bias = false;
  bool attn_out_bias = false;
  bool mlp_bias = false;

  // Output head.
  bool tied_head = false;  ///< The head is the input embedding.
  bool head_bias = false;
  /// Before the head stand a matrix [d_model, d_model] with bias, this and a norm (BERT's masked
  /// language model).
  std::optional<Activation> head_transform;
  double logit_soft_cap = 0.0;  ///< Logits become cap · tanh(logit / cap); 0: off.

  std::optional<std::int32_t> bos_id;
  std::vector<std::int32_t> eos_ids;  ///< generation_config.json's where it names any.
  /// As config.json says; the tensors themselves decide.
  std::optional<DType> dtype;

  std::int64_t q_dim() const { return n_heads * head_dim; }
  std::int64_t kv_dim() const { return n_kv_heads * head_dim; }
  std::int64_t embedding_width() const { return embedding_dim > 0 ? embedding_dim : d_model; }
  std::int64_t window(std::int64_t layer) const {
    return windows.empty() ? 0 : windows[static_cast<std::size_t>(layer)];
  }
  /// Modules' outputs pass a norm before the residual stream takes them in.
  bool output_norms() const {
    return norm_wiring == NormWiring::kOutput || norm_wiring == NormWiring::kSandwich;
  }
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
