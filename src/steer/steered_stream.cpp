// Writing with edits: from what is asked for to tokens, and from tokens to text.

#include <algorithm>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/steer/steering.h"
#include "steer/row_edits.h"
#include "steer/stop_text.h"

namespace drrik {
namespace {

SamplingOptions sampling_of(const SteeredGeneration& options) {
  SamplingOptions sampling;
  sampling.temperature = options.temperature;
  sampling.top_p = options.top_p;
  sampling.top_k = options.top_k;
  sampling.repetition_penalty = options.repetition_penalty;
  sampling.seed = options.seed;
  sampling.max_new_tokens = options.max_new_tokens;
  return sampling;
}

SteeringEdit addition(std::int64_t feature, double strength) {
  SteeringEdit edit;
  edit.feature = feature;
  edit.strength = strength;
  return edit;
}

}  // namespace

SteeredGeneration with_recipe(const SteeringRecipe& recipe, SteeredGeneration defaults) {
  SteeredGeneration out = std::move(defaults);
  out.feature_idx.reset();
  out.feature_indices.clear();
  out.strengths.clear();
  out.edits = recipe.edits;
  const RecipeSampling& from = recipe.sampling;
  out.max_new_tokens = from.max_new_tokens.value_or(out.max_new_tokens);
  out.temperature = from.temperature.value_or(out.temperature);
  out.top_p = from.top_p.value_or(out.top_p);
  out.top_k = from.top_k.value_or(out.top_k);
  out.repetition_penalty = from.repetition_penalty.value_or(out.repetition_penalty);
  out.seed = from.seed.value_or(out.seed);
  return out;
}

struct SteeredStream::State {
  State(const Tokenizer& tokenizer, const std::vector<std::string>& stop)
      : decoder(tokenizer), stop_text(stop) {}

  // The text that is settled by `piece`.
  std::string settle(std::string_view piece) {
    std::string out = stop_text.push(piece);
    text.continuation += out;
    text.text += out;
    if (on_text && !out.empty()) on_text(out);
    return out;
  }

  std::string finish() {
    over = true;
    std::string out = settle(decoder.finish());
    const std::string held = stop_text.finish();
    text.continuation += held;
    text.text += held;
    if (on_text && !held.empty()) on_text(held);
    text.stopped_by = stop_text.met();
    text.generated = generation->result();
    return out + held;
  }

  std::function<void(std::string_view)> on_text;
  StreamDecoder decoder;
  StopText stop_text;
  std::optional<RowEdits> edits;
  std::optional<Generation> generation;
  SteeredText text;
  bool over = false;
};

SteeredStream::SteeredStream(std::unique_ptr<State> state) : state_(std::move(state)) {}
SteeredStream::~SteeredStream() = default;
SteeredStream::SteeredStream(SteeredStream&&) noexcept = default;
SteeredStream& SteeredStream::operator=(SteeredStream&&) noexcept = default;

const SteeredText& SteeredStream::text() const { return state_->text; }

std::optional<std::string> SteeredStream::next() {
  State& s = *state_;
  if (s.over) return std::nullopt;
  s.over = true;  // unless all goes well
  const std::optional<std::int32_t> id = s.generation->next();
  if (!id) {
    std::string rest = s.finish();
    if (rest.empty()) return std::nullopt;
    return rest;
  }
  s.over = false;
  s.text.generated = s.generation->result();
  std::string piece = s.settle(s.decoder.push(*id));
  if (!s.stop_text.met().empty()) {
    s.generation->stop();
    piece += s.finish();
  }
  return piece;
}

std::vector<SteeringEdit> SaeSteering::edits(const SteeredGeneration& options) const {
  std::vector<SteeringEdit> edits = options.edits;
  if (!edits.empty() && (options.feature_idx || !options.feature_indices.empty())) {
    throw_usage("give features with strengths or edits, not both");
  }
  if (options.feature_idx) {
    if (!options.feature_indices.empty()) {
      throw_usage("give feature_idx or feature_indices, not both");
    }
    if (!options.strengths.empty()) {
      throw_usage("strengths belong to feature_indices; wanted strength");
    }
    edits.push_back(addition(*options.feature_idx, options.strength));
  }
  const std::size_t features = options.feature_indices.size();
  if (!options.strengths.empty() && options.strengths.size() != features) {
    if (features == 0) throw_usage(options.strengths.size(), " strengths, but no feature");
    throw_usage(features, " features, but ", options.strengths.size(), " strengths");
  }
  for (std::size_t i = 0; i < features; ++i) {
    edits.push_back(addition(options.feature_indices[i],
                             options.strengths.empty() ? 1.0 : options.strengths[i]));
  }
  check_edits(edits, sae_->d_sae());
  if (!edits.empty()) check_writes();
  return edits;
}

void SaeSteering::check_writes() const {
  const std::int64_t width = model_->hook_width(hook_.point);
  if (width != sae_->d_out()) {
    throw_usage("the autoencoder's directions are ", sae_->d_out(), " wide, ",
                model_->module_path(hook_), " gives ", width,
                "; a transcoder steers where it writes");
  }
}

SteeredStream SaeSteering::stream(const std::string& text, const SteeredGeneration& options) const {
  const std::vector<SteeringEdit> wanted = edits(options);
  auto state = std::make_unique<SteeredStream::State>(*tokenizer_, options.stop);
  SamplingOptions sampling = sampling_of(options);
  // A config.json may name no eos while the tokenizer knows one.
  const auto eos = tokenizer_->eos_id();
  if (eos && model_->config().eos_ids.empty()) sampling.stop_ids.push_back(*eos);
  state->on_text = options.on_text;
  state->text.text = text;
  state->text.prompt_ids = tokenizer_->encode(text);
  const std::vector<std::int32_t>& prompt = state->text.prompt_ids;
  if (prompt.empty()) throw_usage("the prompt has no tokens; give some text");
  state->decoder.prime(prompt);
  state->edits.emplace(*sae_, CoderHooks{reads_, hook_}, wanted,
                       static_cast<std::int64_t>(prompt.size()));
  RowEdits* edits = &*state->edits;
  state->generation.emplace(*model_, prompt, sampling, edits->hooks(),
                            [edits](const Hook& hook, std::int64_t first, MatView<float> rows) {
                              (*edits)(hook, first, rows);
                            });
  return SteeredStream(std::move(state));
}

SteeredText SaeSteering::generate(const std::string& text, const SteeredGeneration& options) const {
  SteeredStream written = stream(text, options);
  while (written.next()) {
  }
  return written.text();
}

}  // namespace drrik
