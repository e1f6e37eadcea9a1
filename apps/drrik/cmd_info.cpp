// drrik info: what a folder or file is: a model, an SAE, activations, a dataset.

#include <filesystem>
#include <memory>

#include "drrik/activations/store.h"
#include "drrik/base/error.h"
#include "drrik/data/source.h"
#include "drrik/model/config.h"
#include "drrik/model/hook_names.h"
#include "drrik/sae/io.h"
#include "drrik/text/tokenizer.h"
#include "options.h"

namespace drrik::cli {
namespace {

namespace fs = std::filesystem;

struct Info {
  Json json;
  std::string text;
};

std::string human_bytes(double bytes) {
  const char* units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  for (; bytes >= 1024 && unit < 4; ++unit) bytes /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
  return text;
}

Info model_info(const fs::path& folder) {
  const ModelConfig config = read_model_config(folder);
  Info info;
  const std::int64_t parameters = config.parameter_count();
  info.json = {{"kind", "model"},
               {"path", folder.string()},
               {"architecture", config.family},
               {"parameters", parameters},
               {"dtype", config.dtype ? Json(dtype_name(*config.dtype)) : Json(nullptr)},
               {"layers", config.n_layers},
               {"d_model", config.d_model},
               {"d_mlp", config.d_mlp},
               {"heads", config.n_heads},
               {"kv_heads", config.n_kv_heads},
               {"vocab_size", config.vocab_size},
               {"max_positions", config.max_positions},
               {"tied_head", config.tied_head}};
  Json hooks = Json::object();
  Json names = Json::object();
  for (const HookPoint point : hook_points(config)) {
    const std::string name(hook_name(point));
    hooks[name] = hook_width(point, config);
    names[name] = {{"transformer_lens", transformer_lens_name({point, 0}, config)},
                   {"module", module_path({point, 0}, config)}};
  }
  info.json["hooks"] = hooks;
  info.json["hook_names"] = names;  // of layer 0
  info.json["memory_float32_bytes"] = parameters * 4;
  info.json["memory_bfloat16_bytes"] = parameters * 2;
  info.text =
      str("model ", folder.string(), "\n  ", config.family, ", ", parameters, " parameters (",
          human_bytes(static_cast<double>(parameters) * 4), " in float32, ",
          human_bytes(static_cast<double>(parameters) * 2), " in bfloat16)\n  ", config.n_layers,
          " layers, d_model ", config.d_model, ", d_mlp ", config.d_mlp, ", ", config.n_heads,
          " heads over ", config.n_kv_heads, " key/value heads\n  vocabulary ", config.vocab_size,
          ", ", config.max_positions, " positions\n  hooks of layer 0:\n");
  for (const HookPoint point : hook_points(config)) {
    char line[256];
    std::snprintf(
        line, sizeof line, "    %-10s %6lld  %-26s %s\n", std::string(hook_name(point)).c_str(),
        static_cast<long long>(hook_width(point, config)),
        transformer_lens_name({point, 0}, config).c_str(), module_path({point, 0}, config).c_str());
    info.text += line;
  }
  if (fs::exists(folder / "tokenizer.json")) {
    const Tokenizer tokenizer = Tokenizer::from_folder(folder);
    Json special = Json::object();
    const auto add = [&](const char* name, std::optional<std::int32_t> id) {
      if (id) special[name] = {{"id", *id}, {"text", tokenizer.token_text(*id)}};
    };
    add("bos", tokenizer.bos_id());
    add("eos", tokenizer.eos_id());
    add("pad", tokenizer.pad_id());
    add("unk", tokenizer.unk_id());
    info.json["tokenizer"] = {{"vocab_size", tokenizer.vocab_size()}, {"special", special}};
    info.text += str("  tokenizer: ", tokenizer.vocab_size(), " tokens");
    for (const auto& [name, token] : special.items()) {
      info.text += str(", ", name, " ", token.at("text").get<std::string>());
    }
    info.text += "\n";
  }
  return info;
}

Info activations_info(const fs::path& path) {
  const ActivationInfo found = describe_activations(path);
  Info info;
  info.json = {{"kind", "activations"},
               {"path", path.string()},
               {"rows", found.rows},
               {"dim", found.dim},
               {"dtype", dtype_name(found.dtype)},
               {"bytes", found.bytes},
               {"files", found.files}};
  info.text = str("activations ", path.string(), "\n  ", found.rows, " rows of ", found.dim, ", ",
                  dtype_name(found.dtype), ", ", human_bytes(static_cast<double>(found.bytes)),
                  " in ", found.files.size(), " files\n");
  if (found.has_metadata) {
    const ActivationMetadata& metadata = found.metadata;
    info.json["model"] = metadata.config.model.model_name;
    info.json["dataset"] = metadata.config.dataset.dataset_name;
    info.json["hook"] = hook_name(metadata.config.extraction.hook);
    info.json["positions"] = positions_name(metadata.config.extraction.positions);
    info.json["layers"] = metadata.layer_paths;
    info.json["samples"] = metadata.num_samples;
    info.json["complete"] = metadata.complete;
    info.text +=
        str("  ", hook_name(metadata.config.extraction.hook), " of ", join(metadata.layer_paths),
            ", positions ", positions_name(metadata.config.extraction.positions), "\n  from ",
            metadata.num_samples, " texts of ", metadata.config.dataset.dataset_name, " through ",
            metadata.config.model.model_name, "\n",
            metadata.complete ? "" : "  cut short: extract --resume continues it\n");
  }
  return info;
}

Info sae_info(const fs::path& path) {
  const LoadedSae loaded = load_sae_with_record(path);
  const SaeRecord& record = loaded.record;
  Info info;
  info.json = {{"kind", "sae"},
               {"path", path.string()},
               {"format", loaded.format},
               {"architecture", loaded.sae->architecture()},
               {"d_in", loaded.sae->d_in()},
               {"d_sae", loaded.sae->d_sae()},
               {"model", record.model_name},
               {"hook", record.hook_name},
               {"layer", record.layer < 0 ? Json(nullptr) : Json(record.layer)},
               {"dataset", record.dataset},
               {"metrics", record.metrics},
               {"facts", record.facts}};
  info.text =
      str("autoencoder ", path.string(), " (", loaded.format, ")\n  ", loaded.sae->architecture(),
          ", ", loaded.sae->d_in(), " -> ", loaded.sae->d_sae(), "\n");
  if (!record.model_name.empty()) {
    info.text += str("  for ", record.hook_name, " of layer ", record.layer, " of ",
                     record.model_name, "\n  trained on ", record.dataset, "\n");
  }
  for (const auto& [name, value] : record.metrics) info.text += str("  ", name, " ", value, "\n");
  return info;
}

Info dataset_info(const fs::path& path) {
  DatasetOptions options;
  options.path = path.string();
  const auto source = open_dataset(options);
  std::int64_t rows = 0;
  std::uint64_t bytes = 0;
  std::string first;
  while (auto sample = source->next()) {
    if (rows == 0) first = sample->text.substr(0, 80);
    ++rows;
    bytes += sample->text.size();
  }
  return {{{"kind", "dataset"},
           {"path", path.string()},
           {"rows", rows},
           {"text_bytes", bytes},
           {"files", source->files()}},
          str("dataset ", path.string(), "\n  ", rows, " texts, ",
              human_bytes(static_cast<double>(bytes)), " of text in ", source->files().size(),
              " files\n  first: ", first, "\n")};
}

Info describe(const fs::path& path) {
  if (!fs::exists(path)) throw_io("'", path.string(), "' does not exist");
  if (fs::is_directory(path)) {
    if (is_sae_path(path)) return sae_info(path);
    if (is_activation_store(path)) return activations_info(path);
    if (fs::exists(path / "config.json")) return model_info(path);
  } else if (path.extension() == ".npy") {
    return activations_info(path);
  } else if (is_sae_path(path)) {
    return sae_info(path);
  }
  return dataset_info(path);
}

}  // namespace

Command info_command() {
  return {"info", "Say what a model, SAE, activation folder or dataset is",
          "  drrik info assets/demo/model\n"
          "  drrik info acts --json\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            auto path = std::make_shared<std::string>();
            app.add_option("path", *path, "Folder or file")->required();
            return [&globals, path] {
              const Info info = describe(*path);
              emit(globals, info.json, info.text);
            };
          }};
}

}  // namespace drrik::cli
