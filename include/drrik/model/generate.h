#pragma once
// Text generation with a KV cache: greedy or sampled, token by token.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "drrik/base/rng.h"
#include "drrik/model/model.h"

namespace drrik {

/// Applied in the order of transformers: repetition penalty, temperature, top-k, top-p.
struct SamplingOptions {
  /// Divides the logits; 0: greedy (the largest logit, the lowest id on ties).
  double temperature = 1.0;
  /// Keeps the smallest set of most probable tokens whose probabilities add up to this; 1: off.
  double top_p = 1.0;
  /// Keeps this many of the largest logits; 0: off.
  std::int64_t top_k = 0;
  /// Logits of tokens that occurred before are divided (when positive) or multiplied by this; 1:
  /// off.
  double repetition_penalty = 1.0;
  std::uint64_t seed = 42;
  std::int64_t max_new_tokens = 50;
  /// End generation, besides the model's eos ids.
  std::vector<std::int32_t> stop_ids;
  bool stop_at_eos = true;

  /// Throws Error(usage) naming the field that is out of range.
  void validate() const;
};

/// The distribution that sampling draws from: float32 probabilities [V] (0 for what is filtered
/// out; all on the argmax when greedy). `history`: the ids that the repetition penalty counts.
/// Throws Error(numeric) when a logit is NaN, Error(data) when an id of the history is outside.
std::vector<float> next_token_distribution(std::span<const float> logits,
                                           std::span<const std::int32_t> history,
                                           const SamplingOptions& options);
/// Draws one id. Greedy draws nothing from `rng`. Throws as next_token_distribution().
std::int32_t sample_token(std::span<const float> logits, std::span<const std::int32_t> history,
                          const SamplingOptions& options, Rng& rng);

enum class FinishReason : std::uint8_t {
  kMaxTokens,     ///< max_new_tokens were made.
  kStopId,        ///< An eos or stop id came.
  kMaxPositions,  ///< The model takes no longer sequence.
  kCallback       ///< on_token answered false.
};

struct Generated {
  /// The new ids, without the eos or stop id that ended them.
  std::vector<std::int32_t> ids;
  FinishReason finish = FinishReason::kMaxTokens;
  double prompt_seconds = 0.0;  ///< Forward pass over the prompt.
  double decode_seconds = 0.0;  ///< Everything after it.
};

/// Called with every new id (not with the one that ends generation); false ends it there.
using TokenFunction = std::function<bool(std::int32_t id)>;

/// As HookFunction, for rows of a sequence: row r is its position `first` + r.
using SequenceHook =
    std::function<void(const Hook& hook, std::int64_t first, MatView<float> activations)>;

/// The continuation of a prompt, made token by token as its caller asks for them: for those who
/// have several under way, or may drop one. Every forward pass calls `on_hook` at `hooks`, over the
/// prompt's rows first and one row a token then (steering edits them there); where a LongRoPE model
/// grows past its original positions it runs over all rows once more, as its frequencies change for
/// all of them.
class Generation {
 public:
  /// Computes nothing yet. `model` must outlive it. Throws Error(usage) for an empty prompt, bad
  /// options or hooks, or a model that does not generate; Error(data) for a prompt longer than the
  /// model's positions.
  Generation(const Model& model, std::span<const std::int32_t> prompt,
             const SamplingOptions& options, std::vector<Hook> hooks = {},
             SequenceHook on_hook = {});
  ~Generation();
  Generation(Generation&&) noexcept;
  Generation& operator=(Generation&&) noexcept;

  /// The next id; nothing at the end, and from then on. The first call runs the prompt. Looks at
  /// the interrupt flag. Throws Error(data) for an id outside the vocabulary, Error(numeric) when
  /// a logit is NaN, Error(interrupted), and what a hook throws; it is over then.
  std::optional<std::int32_t> next();
  /// Ends it, with FinishReason::kCallback.
  void stop();
  /// What there is so far; `finish` means something at the end only.
  const Generated& result() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The whole of a Generation. The same model, prompt, options and thread count give the same ids.
/// Throws as Generation does.
Generated generate(const Model& model, std::span<const std::int32_t> prompt,
                   const SamplingOptions& options, const TokenFunction& on_token = {},
                   const std::vector<Hook>& hooks = {}, const HookFunction& on_hook = {});

}  // namespace drrik
