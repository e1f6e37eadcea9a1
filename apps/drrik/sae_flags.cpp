#include "sae_flags.h"

#include "drrik/sae/io.h"

namespace drrik::cli {

void SteerFlags::add(CLI::App& app) {
  app.add_option("--sae", sae, "Autoencoder: a folder or a .pt file")->required();
  model.add(app);
  app.add_option("--layer", layer, "Layer it belongs to, from 0")->required();
  app.add_option("--hook", hook, "Hook point it was trained on")->capture_default_str();
}

SaeSteering SteerFlags::open() const {
  std::shared_ptr<const Sae> loaded = load_sae(sae);
  const std::string folder = resolve_model(model.model);
  auto tokenizer = std::make_shared<const Tokenizer>(Tokenizer::from_folder(folder));
  auto whole = std::make_shared<const Model>(model.load());
  return {loaded, whole, tokenizer, Hook{parse_hook(hook), layer}};
}

}  // namespace drrik::cli
