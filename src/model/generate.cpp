#include "drrik/model/generate.h"

#include <algorithm>

#include "drrik/base/interrupt.h"
#include "drrik/base/system.h"
#include "drrik/model/kv_cache.h"

namespace drrik {
namespace {

bool contains(const std::vector<std::int32_t>& ids, std::int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Generated generate(const Model& model, std::span<const std::int32_t> prompt,
                   const SamplingOptions& options, const TokenFunction& on_token,
                   const std::vector<Hook>& hooks, const HookFunction& on_hook) {
  options.validate();
  if (prompt.empty()) throw_usage("generation needs a prompt of at least one token");
  const ModelConfig& config = model.config();
  const auto prompt_size = static_cast<std::int64_t>(prompt.size());
  if (prompt_size > config.max_positions) {
    throw_data("prompt of ", prompt_size, " tokens, the model takes ", config.max_positions);
  }
  Generated out;
  const std::int64_t limit = std::min(options.max_new_tokens, config.max_positions - prompt_size);
  out.finish =
      limit < options.max_new_tokens ? FinishReason::kMaxPositions : FinishReason::kMaxTokens;
  if (limit == 0) return out;
  KvCache cache = model.make_cache(prompt_size + limit);
  ForwardOptions forward;
  forward.hooks = hooks;
  forward.on_hook = on_hook;
  forward.logits = ForwardOptions::Logits::kLast;

  std::vector<std::int32_t> history(prompt.begin(), prompt.end());
  Rng rng(options.seed);
  const double start = monotonic_seconds();
  Tensor logits = model.forward(prompt, cache, forward);
  const double after_prompt = monotonic_seconds();
  out.prompt_seconds = after_prompt - start;
  for (std::int64_t i = 0; i < limit; ++i) {
    check_interrupt("generating");
    const std::int32_t id = sample_token(logits.data<float>(), history, options, rng);
    if ((options.stop_at_eos && contains(config.eos_ids, id)) || contains(options.stop_ids, id)) {
      out.finish = FinishReason::kStopId;
      break;
    }
    out.ids.push_back(id);
    history.push_back(id);
    if (on_token && !on_token(id)) {
      out.finish = FinishReason::kCallback;
      break;
    }
    if (i + 1 == limit) continue;
    if (config.rope.scaling == RopeScaling::kLongRope &&
        cache.length() == config.rope.original_positions) {
      // From here on all positions turn by the long factors, those in the cache too.
      cache.truncate(0);
      logits = model.forward(history, cache, forward);
    } else {
      logits = model.forward({&id, 1}, cache, forward);
    }
  }
  out.decode_seconds = monotonic_seconds() - after_prompt;
  return out;
}

}  // namespace drrik
