#include "config/fields.h"

#include <algorithm>
#include <cctype>
#include <cstring>

#include "drrik/base/error.h"

namespace drrik::detail {
namespace {

#define DRRIK_FIELD(member) [](Config& c) -> FieldRef { return &c.member; }

constexpr double kMaxInt = 9.0e15;  // Integers up to here are exact in a double bound.

constexpr Range at_least(double low) { return {low, kMaxInt, false, false}; }
constexpr Range above(double low) { return {low, std::numeric_limits<double>::max(), true, false}; }

std::vector<Field> make_fields() {
  return {
      {"extractor.model.model_name", "Folder in HuggingFace layout, or Hub id.",
       DRRIK_FIELD(extractor.model.model_name)},
      {"extractor.model.revision", "Branch, tag or commit on the Hub.",
       DRRIK_FIELD(extractor.model.revision)},
      {"extractor.model.torch_dtype",
       "Precision asked for the weights; the weights of the file decide where a device cannot.",
       DRRIK_FIELD(extractor.model.torch_dtype),
       {},
       {"float32", "bfloat16", "float16"}},
      {"extractor.model.device_map",
       "Where the model runs.",
       DRRIK_FIELD(extractor.model.device_map),
       {},
       {"auto", "cpu"}},
      {"extractor.model.stream_weights",
       "Prepare each layer when it is used and drop it after: for models larger than memory.",
       DRRIK_FIELD(extractor.model.stream_weights),
       {},
       {"auto", "on", "off"}},
      {"extractor.model.trust_remote_code",
       "Accepted for compatibility; code of a model folder is never run.",
       DRRIK_FIELD(extractor.model.trust_remote_code)},
      {"extractor.dataset.dataset_name", "File, folder, glob, or Hub id.",
       DRRIK_FIELD(extractor.dataset.dataset_name)},
      {"extractor.dataset.dataset_config",
       "Configuration of a folder or a Hub dataset; empty for its default.",
       DRRIK_FIELD(extractor.dataset.dataset_config)},
      {"extractor.dataset.dataset_revision", "Branch, tag or commit of a Hub dataset.",
       DRRIK_FIELD(extractor.dataset.dataset_revision)},
      {"extractor.dataset.split", "Split of a folder or a Hub dataset.",
       DRRIK_FIELD(extractor.dataset.split)},
      {"extractor.dataset.shuffle_seed", "Shuffle the rows with this seed; null keeps their order.",
       DRRIK_FIELD(extractor.dataset.shuffle_seed), at_least(0)},
      {"extractor.dataset.skip", "Rows to leave out at the start, after shuffling.",
       DRRIK_FIELD(extractor.dataset.skip), at_least(0)},
      {"extractor.dataset.num_samples", "Rows to take from the start; null takes all.",
       DRRIK_FIELD(extractor.dataset.num_samples), at_least(1)},
      {"extractor.dataset.text_column",
       "Column that holds the text; empty takes 'text' or the only one of strings.",
       DRRIK_FIELD(extractor.dataset.text_column)},
      {"extractor.dataset.max_length", "Tokens kept of each sample.",
       DRRIK_FIELD(extractor.dataset.max_length), at_least(1)},
      {"extractor.dataset.add_special_tokens", "Let the tokenizer add its BOS and EOS.",
       DRRIK_FIELD(extractor.dataset.add_special_tokens)},
      {"extractor.dataset.bos",
       "Whether BOS stands before a text: as the tokenizer has it, never, or always.",
       DRRIK_FIELD(extractor.dataset.bos),
       {},
       {"tokenizer", "never", "always"}},
      {"extractor.dataset.pack", "Join samples into contexts of max_length tokens.",
       DRRIK_FIELD(extractor.dataset.pack)},
      {"extractor.dataset.sample_by",
       "What a sample of a plain text file is.",
       DRRIK_FIELD(extractor.dataset.sample_by),
       {},
       {"line", "paragraph", "document"}},
      {"extractor.extraction.mlp_layers", "Layers to read, counted from 0.",
       DRRIK_FIELD(extractor.extraction.mlp_layers), at_least(0)},
      {"extractor.extraction.hook",
       "Point in the layer that is read; also a name of TransformerLens's (blocks.3.hook_mlp_out) "
       "or a module's path (model.layers[3].mlp), which name the layer as well.",
       DRRIK_FIELD(extractor.extraction.hook),
       {},
       {"mlp_out", "mlp_post", "mlp_in", "mlp_add", "attn_out", "attn_add", "attn_z", "q", "k", "v",
        "resid_pre", "resid_mid", "resid_post", "embed", "pos_embed", "hook_embed",
        "hook_pos_embed"},
       true},
      {"extractor.extraction.positions",
       "Tokens of a sample that become rows.",
       DRRIK_FIELD(extractor.extraction.positions),
       {},
       {"last", "all", "first", "mean"}},
      {"extractor.extraction.store_dtype",
       "Precision of the stored activations.",
       DRRIK_FIELD(extractor.extraction.store_dtype),
       {},
       {"float32", "bfloat16", "float16"}},
      {"extractor.extraction.batch_size",
       "Samples run together at most; 0 takes as many as max_batch_tokens allows.",
       DRRIK_FIELD(extractor.extraction.batch_size), at_least(0)},
      {"extractor.extraction.max_batch_tokens", "Tokens run together at most; bounds memory.",
       DRRIK_FIELD(extractor.extraction.max_batch_tokens), at_least(1)},
      {"extractor.extraction.output_dir", "Folder for the activations.",
       DRRIK_FIELD(extractor.extraction.output_dir)},

      {"autoencoder.architecture",
       "Kind of autoencoder: relu is the described one; standard, topk, batchtopk, matryoshka, "
       "jumprelu and gated are those of the literature (docs/architectures.md).",
       DRRIK_FIELD(autoencoder.architecture)},
      {"autoencoder.activation_dim", "Width of the activations; 0 takes the data's.",
       DRRIK_FIELD(autoencoder.activation_dim), at_least(0)},
      {"autoencoder.hidden_dim", "Number of latents; 0 takes expansion x activation_dim.",
       DRRIK_FIELD(autoencoder.hidden_dim), at_least(0)},
      {"autoencoder.expansion", "Latents per activation dimension when hidden_dim is 0.",
       DRRIK_FIELD(autoencoder.expansion), above(0)},
      {"autoencoder.l1_coefficient",
       "Weight of the sparsity penalty.",
       DRRIK_FIELD(autoencoder.l1_coefficient),
       {0, 1e300, false, false}},
      {"autoencoder.normalize_decoder", "Keep decoder columns at unit length.",
       DRRIK_FIELD(autoencoder.normalize_decoder)},
      {"autoencoder.pre_encoder_bias", "Subtract the tied bias before encoding.",
       DRRIK_FIELD(autoencoder.pre_encoder_bias)},
      {"autoencoder.k", "Active latents a row, of topk; on average of batchtopk and matryoshka.",
       DRRIK_FIELD(autoencoder.k), at_least(1)},
      {"autoencoder.groups",
       "matryoshka: sizes of the nested prefixes as shares of the latents, ascending; empty takes "
       "1/16, 1/8, 1/4, 1/2, 1.",
       DRRIK_FIELD(autoencoder.groups),
       {0, 1, true, false}},
      {"autoencoder.sparsity_coefficient",
       "Weight of the sparsity penalty beside relu's; null takes the architecture's.",
       DRRIK_FIELD(autoencoder.sparsity_coefficient),
       {0, 1e300, false, false}},
      {"autoencoder.aux_coefficient",
       "Weight of the loss that revives dead latents; 0 is off, null takes the architecture's.",
       DRRIK_FIELD(autoencoder.aux_coefficient),
       {0, 1e300, false, false}},
      {"autoencoder.aux_k", "Dead latents a row in that loss; 0 takes half the width.",
       DRRIK_FIELD(autoencoder.aux_k), at_least(0)},
      {"autoencoder.bandwidth",
       "jumprelu: width of the kernel around the threshold; null takes the loss's.",
       DRRIK_FIELD(autoencoder.bandwidth), above(0)},
      {"autoencoder.threshold_init",
       "jumprelu: where thresholds start; null takes the loss's.",
       DRRIK_FIELD(autoencoder.threshold_init),
       {0, 1e300, false, false}},
      {"autoencoder.jumprelu_loss",
       "jumprelu's penalty: tanh of the features (auto), L0, or a target for it.",
       DRRIK_FIELD(autoencoder.jumprelu_loss),
       {},
       {"auto", "tanh", "l0", "target", "quadratic"}},
      {"autoencoder.target_l0", "jumprelu: L0 that target and quadratic aim at.",
       DRRIK_FIELD(autoencoder.target_l0), above(0)},
      {"autoencoder.decoder",
       "Whether decoder rows are kept at norm 1; auto takes the architecture's.",
       DRRIK_FIELD(autoencoder.decoder),
       {},
       {"auto", "unit", "free"}},
      {"autoencoder.initial_bias",
       "Where the decoder's bias starts, over the first batch; auto takes the architecture's.",
       DRRIK_FIELD(autoencoder.initial_bias),
       {},
       {"auto", "zero", "mean", "median"}},
      {"autoencoder.skip", "Transcoders: add a linear map of the input to the output.",
       DRRIK_FIELD(autoencoder.skip)},
      {"autoencoder.output_dir", "Folder for the trained autoencoder.",
       DRRIK_FIELD(autoencoder.output_dir)},

      {"training.batch_size", "Rows a step.", DRRIK_FIELD(training.batch_size), at_least(1)},
      {"training.num_epochs", "Passes over the training rows.", DRRIK_FIELD(training.num_epochs),
       at_least(1)},
      {"training.steps", "Stop after so many steps; 0 lets num_epochs decide.",
       DRRIK_FIELD(training.steps), at_least(0)},
      {"training.learning_rate", "Step size of Adam.", DRRIK_FIELD(training.learning_rate),
       above(0)},
      {"training.validation_split",
       "Part of the rows held out, taken from the end.",
       DRRIK_FIELD(training.validation_split),
       {0, 1, false, true}},
      {"training.shuffle", "Draw the rows of an epoch in random order.",
       DRRIK_FIELD(training.shuffle)},
      {"training.resample_dead_neurons", "Give dead latents new directions.",
       DRRIK_FIELD(training.resample_dead_neurons)},
      {"training.resample_interval", "Steps between resamplings.",
       DRRIK_FIELD(training.resample_interval), at_least(1)},
      {"training.window_size", "Batches of activity that decide who is dead.",
       DRRIK_FIELD(training.window_size), at_least(1)},
      {"training.normalize_activations",
       "Scale on the input, found on the first rows and folded into the weights when they are "
       "saved "
       "(architectures beside relu): mean norm to the root of the width, mean square norm to 1, or "
       "none.",
       DRRIK_FIELD(training.normalize_activations),
       {},
       {"expected_average_only_in", "unit_mean_square", "none"}},
      {"training.compute",
       "Precision of the encoder's product (architectures beside relu).",
       DRRIK_FIELD(training.compute),
       {},
       {"float32", "bfloat16"}},
      {"training.warmup_steps",
       "Steps over which the learning rate rises; null takes the "
       "architecture's, as the next three.",
       DRRIK_FIELD(training.warmup_steps), at_least(0)},
      {"training.decay_steps", "Last steps, over which it falls to 0.",
       DRRIK_FIELD(training.decay_steps), at_least(0)},
      {"training.cosine", "Let it fall by a cosine from the warm-up to the end.",
       DRRIK_FIELD(training.cosine)},
      {"training.sparsity_warmup_steps", "Steps over which the sparsity penalty rises from 0.",
       DRRIK_FIELD(training.sparsity_warmup_steps), at_least(0)},
      {"training.beta1",
       "Adam's; null takes the architecture's.",
       DRRIK_FIELD(training.beta1),
       {0, 1, false, true}},
      {"training.beta2",
       "Adam's; null takes the architecture's.",
       DRRIK_FIELD(training.beta2),
       {0, 1, false, true}},
      {"training.weight_decay",
       "AdamW's; 0 is Adam.",
       DRRIK_FIELD(training.weight_decay),
       {0, 1e300, false, false}},
      {"training.clip_norm",
       "Largest norm of the whole gradient; 0 is off, null takes the "
       "architecture's.",
       DRRIK_FIELD(training.clip_norm),
       {0, 1e300, false, false}},
      {"training.dead_steps",
       "Batches without activity that make a latent dead; null: 1000, or a "
       "tenth of a shorter run.",
       DRRIK_FIELD(training.dead_steps), at_least(1)},
      {"training.checkpoint_minutes",
       "Minutes between checkpoints; 0: only when interrupted.",
       DRRIK_FIELD(training.checkpoint_minutes),
       {0, 1e6, false, false}},
      {"training.checkpoint_steps", "Steps between checkpoints, besides; 0 is off.",
       DRRIK_FIELD(training.checkpoint_steps), at_least(0)},
      {"training.log_every", "Steps between lines of train_log.jsonl.",
       DRRIK_FIELD(training.log_every), at_least(1)},
      {"training.device",
       "Where training runs.",
       DRRIK_FIELD(training.device),
       {},
       {"auto", "cpu"}},

      {"visualization.enabled",
       "Draw figures and choose features to show; the report is written in any case.",
       DRRIK_FIELD(visualization.enabled)},
      {"visualization.output_dir", "Folder for the figures.",
       DRRIK_FIELD(visualization.output_dir)},
      {"visualization.style",
       "Colours of the figures.",
       DRRIK_FIELD(visualization.style),
       {},
       {"light", "dark"}},
      {"visualization.dpi",
       "Dots per inch of the figures.",
       DRRIK_FIELD(visualization.dpi),
       {36, 600, false, false}},
      {"visualization.format",
       "File type of the figures.",
       DRRIK_FIELD(visualization.format),
       {},
       {"png", "svg"}},
      {"visualization.top_features",
       "Features shown.",
       DRRIK_FIELD(visualization.top_features),
       {1, 200, false, false}},
      {"visualization.examples",
       "Top examples shown of each feature.",
       DRRIK_FIELD(visualization.examples),
       {1, 100, false, false}},
      {"visualization.max_text_length",
       "Characters of an example that are shown.",
       DRRIK_FIELD(visualization.max_text_length),
       {1, 2000, false, false}},
      {"visualization.features", "Features to show beside the top ones.",
       DRRIK_FIELD(visualization.features), at_least(0)},

      {"steering.enabled", "Compare steered with plain text.", DRRIK_FIELD(steering.enabled)},
      {"steering.prompts", "Texts to continue; empty takes the start of the dataset.",
       DRRIK_FIELD(steering.prompts)},
      {"steering.layer", "Layer to steer; null takes the one the autoencoder was trained on.",
       DRRIK_FIELD(steering.layer), at_least(0)},
      {"steering.features", "Features to steer with; empty picks one.",
       DRRIK_FIELD(steering.features), at_least(0)},
      {"steering.strengths",
       "Strengths to compare; 0 is the baseline.",
       DRRIK_FIELD(steering.strengths),
       {-1e6, 1e6, false, false}},
      {"steering.strength_unit",
       "What a strength of 1 is: the decoder column as stored (absolute), or that times the "
       "feature's "
       "largest activation (max).",
       DRRIK_FIELD(steering.strength_unit),
       {},
       {"absolute", "max"}},
      {"steering.max_new_tokens", "Tokens to generate.", DRRIK_FIELD(steering.max_new_tokens),
       at_least(1)},
      {"steering.temperature",
       "Divides the logits; 0 is greedy.",
       DRRIK_FIELD(steering.temperature),
       {0, 1e6, false, false}},
      {"steering.top_p",
       "Probability mass that sampling draws from; 1 is all.",
       DRRIK_FIELD(steering.top_p),
       {0, 1, true, false}},
      {"steering.top_k", "Number of tokens that sampling draws from; 0 is all.",
       DRRIK_FIELD(steering.top_k), at_least(0)},
      {"steering.repetition_penalty", "Divides the logits of tokens seen before; 1 is off.",
       DRRIK_FIELD(steering.repetition_penalty), above(0)},
      {"steering.output_dir", "Folder for the steered texts.", DRRIK_FIELD(steering.output_dir)},

      {"random_seed", "Seeds everything that is random.", DRRIK_FIELD(random_seed), at_least(0)},
      {"log_level",
       "Least important message that is shown.",
       DRRIK_FIELD(log_level),
       {},
       {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}},
      {"threads",
       "Threads to use; 0 takes the cores this process may run on.",
       DRRIK_FIELD(threads),
       {0, 4096, false, false}},
      {"output_dir", "Parent of every relative output folder.", DRRIK_FIELD(output_dir)},
  };
}

#undef DRRIK_FIELD

bool ends_with_component(std::string_view path, std::string_view tail) {
  return path == tail || (path.size() > tail.size() && path.ends_with(tail) &&
                          path[path.size() - tail.size() - 1] == '.');
}

// The options of fit() belong to the autoencoder in the description, and to training here.
std::string without_alias(std::string_view full) {
  constexpr std::string_view kAlias = "autoencoder.";
  if (!full.starts_with(kAlias)) return "";
  return "training." + std::string(full.substr(kAlias.size()));
}

const Field* find_exact(std::string_view path) {
  for (const Field& field : fields()) {
    if (path == field.path) return &field;
  }
  return nullptr;
}

}  // namespace

const std::vector<Field>& fields() {
  static const std::vector<Field> table = make_fields();
  return table;
}

std::string canonical_name(std::string_view name) {
  std::string out(name);
  for (char& c : out) {
    c = c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return out;
}

const Field& resolve(std::string_view prefix, std::string_view name, const std::string& where) {
  const std::string key = canonical_name(name);
  const std::string full = std::string(prefix) + key;
  if (const Field* exact = find_exact(full)) return *exact;
  if (const Field* alias = find_exact(without_alias(full))) return *alias;
  std::vector<const Field*> found;
  if (!key.empty()) {
    for (const Field& field : fields()) {
      const std::string_view path = field.path;
      if (path.starts_with(prefix) && ends_with_component(path.substr(prefix.size()), key)) {
        found.push_back(&field);
      }
    }
  }
  if (found.size() == 1) return *found.front();
  if (found.size() > 1) {
    std::vector<std::string> paths;
    for (const Field* field : found) paths.emplace_back(field->path);
    throw_usage(where, "option ", quoted(name), " is ambiguous; wanted one of ", join(paths));
  }
  // "extractor.batch_size": a group, then an end of a path inside it.
  if (const std::size_t dot = key.find('.'); dot != std::string::npos) {
    const std::string inner = find_group(prefix, key.substr(0, dot));
    if (!inner.empty()) return resolve(inner, key.substr(dot + 1), where);
  }
  const std::string group =
      prefix.empty() ? "" : str(" in '", prefix.substr(0, prefix.size() - 1), "'");
  std::string hint = did_you_mean(key, names_in(prefix));
  if (hint.empty()) hint = did_you_mean(full, names_in(""));
  throw_usage(where, "option ", quoted(name), " is unknown", group, hint);
}

std::string find_group(std::string_view prefix, std::string_view name) {
  const std::string key = canonical_name(name);
  if (key.empty()) return "";
  std::vector<std::string> found;
  for (const Field& field : fields()) {
    const std::string_view path = field.path;
    if (!path.starts_with(prefix)) continue;
    for (std::size_t dot = path.find('.', prefix.size()); dot != std::string_view::npos;
         dot = path.find('.', dot + 1)) {
      const std::string_view group = path.substr(prefix.size(), dot - prefix.size());
      if (!ends_with_component(group, key)) continue;
      const std::string whole(path.substr(0, dot + 1));
      if (group == key) return whole;
      if (std::find(found.begin(), found.end(), whole) == found.end()) found.push_back(whole);
    }
  }
  return found.size() == 1 ? found.front() : "";
}

std::vector<std::string> names_in(std::string_view prefix) {
  std::vector<std::string> names;
  const auto add = [&](std::string_view name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.emplace_back(name);
  };
  for (const Field& field : fields()) {
    std::string_view path = field.path;
    const bool alias = prefix == "autoencoder." && path.starts_with("training.");
    if (alias) {
      add(path.substr(path.rfind('.') + 1));
      continue;
    }
    if (!path.starts_with(prefix)) continue;
    path = path.substr(prefix.size());
    add(path.substr(path.rfind('.') + 1));
    add(path);
    if (path.find('.') != std::string_view::npos) add(path.substr(0, path.find('.')));
  }
  return names;
}

}  // namespace drrik::detail
