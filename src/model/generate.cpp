#include "drrik/model/generate.h"

#include <algorithm>
#include <utility>

#include "drrik/base/interrupt.h"
#include "drrik/base/system.h"
#include "drrik/model/kv_cache.h"

namespace drrik {
namespace {

bool contains(const std::vector<std::int32_t>& ids, std::int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

struct Generation::State {
  State(const Model& m, std::span<const std::int32_t> prompt, const SamplingOptions& o)
      : model(&m), options(o), history(prompt.begin(), prompt.end()), rng(o.seed) {}

  // Appends ids to the cache. They stand behind what it holds.
  void run(std::span<const std::int32_t> ids) {
    const double start = monotonic_seconds();
    const bool is_prompt = out.ids.empty();
    const std::int64_t first = cache.length();
    if (on_hook) {
      forward.on_hook = [this, first](const Hook& hook, MatView<float> activations) {
        on_hook(hook, first, activations);
      };
    }
    logits = model->forward(ids, cache, forward);
    (is_prompt ? out.prompt_seconds : out.decode_seconds) += monotonic_seconds() - start;
  }

  // Brings the logits up to the last id of the history.
  void advance() {
    const ModelConfig& config = model->config();
    if (out.ids.empty()) {
      cache = model->make_cache(static_cast<std::int64_t>(history.size()) + limit);
      run(history);
      return;
    }
    if (config.rope.scaling == RopeScaling::kLongRope &&
        cache.length() == config.rope.original_positions) {
      // From here on all positions turn by the long factors, those in the cache too.
      cache.truncate(0);
      run(history);
    } else {
      run({&history.back(), 1});
    }
  }

  std::optional<std::int32_t> next() {
    if (static_cast<std::int64_t>(out.ids.size()) == limit) return std::nullopt;
    check_interrupt("generating");
    advance();
    const double start = monotonic_seconds();
    const std::int32_t id = sample_token(logits.data<float>(), history, options, rng);
    out.decode_seconds += monotonic_seconds() - start;
    if ((options.stop_at_eos && contains(model->config().eos_ids, id)) ||
        contains(options.stop_ids, id)) {
      out.finish = FinishReason::kStopId;
      return std::nullopt;
    }
    out.ids.push_back(id);
    history.push_back(id);
    return id;
  }

  const Model* model;
  SamplingOptions options;
  SequenceHook on_hook;
  ForwardOptions forward;
  std::int64_t limit = 0;
  std::vector<std::int32_t> history;
  Rng rng;
  KvCache cache;
  Tensor logits;
  Generated out;
  bool over = false;
};

Generation::Generation(const Model& model, std::span<const std::int32_t> prompt,
                       const SamplingOptions& options, std::vector<Hook> hooks,
                       SequenceHook on_hook) {
  options.validate();
  if (prompt.empty()) throw_usage("generation needs a prompt of at least one token");
  const std::int64_t positions = model.config().max_positions;
  const auto prompt_size = static_cast<std::int64_t>(prompt.size());
  if (prompt_size > positions) {
    throw_data("prompt of ", prompt_size, " tokens, the model takes ", positions);
  }
  for (const Hook& hook : hooks) model.check_hook(hook);
  if (!model.config().causal) (void)model.make_cache(1);  // says why it cannot
  state_ = std::make_unique<State>(model, prompt, options);
  state_->limit = std::min(options.max_new_tokens, positions - prompt_size);
  if (state_->limit < options.max_new_tokens) state_->out.finish = FinishReason::kMaxPositions;
  state_->on_hook = std::move(on_hook);
  state_->forward.hooks = std::move(hooks);
  state_->forward.logits = ForwardOptions::Logits::kLast;
}

Generation::~Generation() = default;
Generation::Generation(Generation&&) noexcept = default;
Generation& Generation::operator=(Generation&&) noexcept = default;

std::optional<std::int32_t> Generation::next() {
  if (state_->over) return std::nullopt;
  state_->over = true;  // unless an id comes
  const std::optional<std::int32_t> id = state_->next();
  state_->over = !id;
  if (!id) state_->cache = {};
  return id;
}

void Generation::stop() {
  if (state_->over) return;
  state_->over = true;
  state_->out.finish = FinishReason::kCallback;
  state_->cache = {};
}

const Generated& Generation::result() const { return state_->out; }

Generated generate(const Model& model, std::span<const std::int32_t> prompt,
                   const SamplingOptions& options, const TokenFunction& on_token,
                   const std::vector<Hook>& hooks, const HookFunction& on_hook) {
  SequenceHook at_rows;
  if (on_hook) {
    at_rows = [&](const Hook& hook, std::int64_t, MatView<float> rows) { on_hook(hook, rows); };
  }
  Generation generation(model, prompt, options, hooks, std::move(at_rows));
  while (const std::optional<std::int32_t> id = generation.next()) {
    if (on_token && !on_token(*id)) generation.stop();
  }
  return generation.result();
}

}  // namespace drrik
