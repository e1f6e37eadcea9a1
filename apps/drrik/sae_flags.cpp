#include "sae_flags.h"

#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "drrik/model/hook_names.h"
#include "options.h"

namespace drrik::cli {

namespace {

/// As the file says it best: SAELens's name, which the model gives its meaning, or ours.
const std::string& recorded_name(const SaeRecord& record) {
  return record.foreign_hook_name.empty() ? record.hook_name : record.foreign_hook_name;
}

/// What the recorded name means in this model; nothing where it names no place that it has.
std::optional<HookPoint> recorded_point(const SaeRecord& record, const ModelConfig& model) {
  try {
    return parse_hook(recorded_name(record), model).point;
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

Hook hook_of(const std::optional<std::int64_t>& layer, const std::string& hook,
             const SaeRecord& record, const ModelConfig& model) {
  Hook found;
  if (hook.empty()) {
    const std::string& name = recorded_name(record);
    found = {name.empty() ? HookPoint::kMlpOut : parse_hook(name, model).point,
             layer.value_or(record.layer)};
  } else {
    const NamedHook named = parse_hook(hook, model);
    found = {named.point,
             named.layer ? parse_hook(hook, layer, model).layer : layer.value_or(record.layer)};
  }
  if (found.layer < 0) throw_usage("the autoencoder does not say its layer; --layer names it");
  const bool other_layer = record.layer >= 0 && found.layer != record.layer;
  const bool other_hook = !hook.empty() && !recorded_name(record).empty() &&
                          recorded_point(record, model) != found.point;
  if (other_layer || other_hook) {
    log_warning("the autoencoder was trained on ", record.hook_name, " of layer ", record.layer,
                " and is used at ", hook_name(found.point), " of layer ", found.layer);
  }
  return found;
}

SteeredGeneration steered_generation(const Config& config) {
  const Config::Steering& from = config.steering;
  SteeredGeneration to;
  to.max_new_tokens = from.max_new_tokens;
  to.temperature = from.temperature;
  to.top_p = from.top_p;
  to.top_k = from.top_k;
  to.repetition_penalty = from.repetition_penalty;
  to.seed = static_cast<std::uint64_t>(config.random_seed);
  return to;
}

void SteerFlags::add(CLI::App& app, Globals& globals) {
  app.add_option("--sae", sae, "Autoencoder: a folder or a .pt file");
  add_model_settings(app, globals);
  add_bos_settings(app, globals);
  app.add_option("--layer", layer, "Layer it belongs to, from 0 (default: what it records)");
  app.add_option("--hook", hook, hook_help() + " (default: what it records)");
}

SaeSteering SteerFlags::open(const Globals& globals, SaeRecord* record) const {
  LoadedSae loaded =
      load_sae_with_record(globals.folder_or(sae, "--sae", "autoencoder.output_dir"));
  const std::string folder = resolve_model(globals.config);
  const ModelConfig config = read_model_config(folder);
  std::optional<Hook> reads;
  SaeRecord at = loaded.record;
  if (writes && !at.foreign_hook_name_out.empty()) {
    // A transcoder: features come from the recorded hook, whatever the flags say of the other.
    reads = hook_of({}, "", at, config);
    at.hook_name = at.foreign_hook_name_out;
    at.foreign_hook_name = at.foreign_hook_name_out;
    const NamedHook named = parse_hook(at.foreign_hook_name_out, config);
    at.layer = named.layer.value_or(at.layer);
  }
  const Hook hook_point = hook_of(layer, hook, at, config);
  auto tokenizer = std::make_shared<const Tokenizer>(open_tokenizer(globals.config));
  auto model = std::make_shared<const Model>(load_model(globals.config));
  if (record != nullptr) *record = std::move(loaded.record);
  return {std::shared_ptr<const Sae>(std::move(loaded.sae)), model, tokenizer, hook_point, reads};
}

}  // namespace drrik::cli
