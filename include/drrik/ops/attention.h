#pragma once
// Scaled dot-product attention over packed sequences, blocked: no T × T matrix exists.

#include <cstdint>
#include <span>

#include "drrik/ops/gemm.h"
#include "drrik/ops/heads.h"

namespace drrik {

struct AttentionOptions {
  /// Multiplies q·k. 0: 1 / sqrt(head dimension).
  float scale = 0.0F;
  /// A query sees keys at its own and earlier positions only. false: the whole sequence.
  bool causal = true;
  /// A query at position p sees keys at positions > p - window (and < p + window when not causal).
  /// 0: no limit. As transformers' sliding_window.
  std::int64_t window = 0;
  /// Scores become cap · tanh(score / cap) (Gemma 2). 0: off.
  float soft_cap = 0.0F;
  /// One slope a query head; adds slope · (key position - query position) to the score (Press et
  /// al., arXiv:2108.12409). Empty: off.
  std::span<const float> alibi_slopes;
  /// [heads, at least as many as a sequence has keys]; adds key_bias(h, j) to the scores of key j.
  /// Empty: off.
  MatView<const float> key_bias;
  /// Precision of the two products; the softmax is float32.
  Compute compute = Compute::kF32;
};

/// out = softmax(scale · q kᵀ + mask) v within each sequence and head; query head h reads key and
/// value head h / (q.heads / k.heads) (grouped-query attention).
///
/// q    [n, heads, dim]      out [n, heads, v.dim], may be the same memory as q
/// k, v [m, kv_heads, dim]
/// q_offsets, k_offsets: sequence s has query rows [q_offsets[s], q_offsets[s + 1]) and key rows
///   [k_offsets[s], k_offsets[s + 1]); the last query stands at the last key's position, so the
///   same call serves whole texts (both offsets equal), a prompt in pieces, and single steps.
/// Rows outside the offsets are not written. A query that sees no key gets zeros.
/// Throws Error(data) when shapes or offsets do not fit. Thread-safe; parallel over (sequence,
/// head, query block); results do not depend on the number of threads.
void attention(Heads<const float> q, Heads<const float> k, Heads<const float> v,
               std::span<const std::int64_t> q_offsets, std::span<const std::int64_t> k_offsets,
               const AttentionOptions& options, Heads<float> out);

/// The usual case: sequences of `offsets`, queries and keys alike.
void attention(Heads<const float> q, Heads<const float> k, Heads<const float> v,
               std::span<const std::int64_t> offsets, const AttentionOptions& options,
               Heads<float> out);

/// Generation: the q.rows newest positions of one sequence against its cache of k.rows positions,
/// those of q included.
void attention_cached(Heads<const float> q, Heads<const float> k, Heads<const float> v,
                      const AttentionOptions& options, Heads<float> out);

}  // namespace drrik
