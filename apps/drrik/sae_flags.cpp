#include "sae_flags.h"

#include "drrik/base/error.h"
#include "drrik/base/log.h"

namespace drrik::cli {

Hook hook_of(const std::optional<std::int64_t>& layer, const std::string& hook,
             const SaeRecord& record) {
  const Hook found{parse_hook(!hook.empty()               ? hook
                              : !record.hook_name.empty() ? record.hook_name
                                                          : "mlp_out"),
                   layer.value_or(record.layer)};
  if (found.layer < 0) throw_usage("the autoencoder does not say its layer; --layer names it");
  const bool other_layer = record.layer >= 0 && found.layer != record.layer;
  const bool other_hook = !hook.empty() && !record.hook_name.empty() && hook != record.hook_name;
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
  app.add_option("--layer", layer, "Layer it belongs to, from 0 (default: what it records)");
  app.add_option("--hook", hook, "Hook point it belongs to (default: what it records)");
}

SaeSteering SteerFlags::open(const Globals& globals) const {
  LoadedSae loaded =
      load_sae_with_record(globals.folder_or(sae, "--sae", "autoencoder.output_dir"));
  const Hook hook_point = hook_of(layer, hook, loaded.record);
  const std::string folder = resolve_model(globals.config);
  auto tokenizer = std::make_shared<const Tokenizer>(Tokenizer::from_folder(folder));
  auto model = std::make_shared<const Model>(load_model(globals.config));
  return {std::shared_ptr<const Sae>(std::move(loaded.sae)), model, tokenizer, hook_point};
}

}  // namespace drrik::cli
