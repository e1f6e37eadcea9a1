// drrik info: models and weights.

#include <algorithm>
#include <cmath>
#include <map>

#include "drrik/base/error.h"
#include "drrik/base/system.h"
#include "drrik/io/weight_files.h"
#include "drrik/model/config.h"
#include "drrik/model/hook_names.h"
#include "drrik/model/random_model.h"
#include "info.h"
#include "io/json.h"
#include "model/quantization.h"

namespace drrik::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxConfig = std::uint64_t{64} << 20;
constexpr std::int64_t kCacheTokens = 1000;

std::string architecture_words(const ModelConfig& c) {
  std::vector<std::string> parts;
  parts.emplace_back(c.causal ? "decoder" : "encoder");
  std::string norm = c.norm == NormKind::kRmsNorm ? "RMSNorm" : "LayerNorm";
  switch (c.norm_wiring) {
    case NormWiring::kPre:
    case NormWiring::kPreStream:
      norm += " before modules";
      break;
    case NormWiring::kOutput:
      norm += " after modules";
      break;
    case NormWiring::kSandwich:
      norm += " before and after modules";
      break;
    case NormWiring::kPost:
      norm += " after the adds";
      break;
  }
  parts.push_back(norm);
  if (c.qk_norm != QkNorm::kNone) parts.emplace_back("normed queries and keys");
  if (c.parallel_residual) parts.emplace_back("attention and MLP side by side");
  parts.push_back(str(c.gated_mlp ? "gated " : "", activation_name(c.activation), " MLP"));
  if (c.attention_soft_cap > 0) parts.push_back(str("scores capped at ", c.attention_soft_cap));
  if (c.logit_soft_cap > 0) parts.push_back(str("logits capped at ", c.logit_soft_cap));
  return join(parts);
}

std::string plain_number(double value) {
  const bool whole = value == std::floor(value) && std::abs(value) < 1e15;
  return whole ? grouped(static_cast<std::int64_t>(value)) : str(value);
}

std::string_view scaling_name(RopeScaling scaling) {
  switch (scaling) {
    case RopeScaling::kNone:
      return "none";
    case RopeScaling::kLinear:
      return "linear";
    case RopeScaling::kDynamic:
      return "dynamic";
    case RopeScaling::kLlama3:
      return "llama3";
    case RopeScaling::kYarn:
      return "yarn";
    case RopeScaling::kLongRope:
      return "longrope";
  }
  return "";
}

void add_positions(const ModelConfig& c, Info& info) {
  Json& json = info.json;
  switch (c.positions) {
    case PositionKind::kLearned:
      json["positions"] = "learned";
      info.screen.row("positions", "learned table");
      return;
    case PositionKind::kAlibi:
      json["positions"] = "alibi";
      info.screen.row("positions", "ALiBi");
      return;
    case PositionKind::kRotary:
      break;
  }
  json["positions"] = "rotary";
  json["rope"] = {
      {"theta", c.rope.theta}, {"dim", c.rope.dim}, {"scaling", scaling_name(c.rope.scaling)}};
  std::string text = str("rotary, theta ", plain_number(c.rope.theta));
  if (c.rope.dim < c.head_dim) text += str(", ", c.rope.dim, " of ", c.head_dim, " elements");
  if (c.local_rope)
    text += str(" (", plain_number(c.local_rope->theta), " in layers with a window)");
  if (c.rope.scaling != RopeScaling::kNone) {
    json["rope"]["factor"] = c.rope.factor;
    text += str(", scaled (", scaling_name(c.rope.scaling));
    if (c.rope.factor != 1.0) text += str(" × ", c.rope.factor);
    if (c.rope.original_positions > 0) {
      json["rope"]["original_positions"] = c.rope.original_positions;
      text += str(" from ", grouped(c.rope.original_positions));
    }
    text += ")";
  }
  info.screen.row("positions", text);
}

void add_windows(const ModelConfig& c, Info& info) {
  std::map<std::int64_t, std::int64_t> counts;
  for (const std::int64_t window : c.windows) {
    if (window > 0) ++counts[window];
  }
  Json json = Json::array();
  std::vector<std::string> parts;
  for (const auto& [window, layers] : counts) {
    json.push_back({{"window", window}, {"layers", layers}});
    parts.push_back(str(grouped(window), " tokens in ",
                        layers == c.n_layers ? std::string("all layers")
                                             : str(layers, " of ", c.n_layers, " layers")));
  }
  info.json["sliding_windows"] = json;
  info.screen.row("sliding window", join(parts));
}

struct Parts {
  std::int64_t embedding = 0;
  std::int64_t layer = 0;
  std::int64_t head = 0;  // 0: tied
};

// One layer's share is what one more layer adds.
Parts parts_of(const ModelConfig& config) {
  Parts out;
  ModelConfig one = config;
  one.windows.clear();
  one.n_layers = 1;
  const std::int64_t with_one = one.parameter_count();
  one.n_layers = 2;
  out.layer = one.parameter_count() - with_one;
  out.embedding = config.vocab_size * config.embedding_width();
  if (config.positions == PositionKind::kLearned) {
    out.embedding += (config.max_positions + config.position_offset) * config.d_model;
  }
  if (!config.tied_head) out.head = config.vocab_size * config.embedding_width();
  return out;
}

// Matrices as packed (Weight::pack), the embedding as it lies in its file.
std::int64_t memory_of(const ModelConfig& config, const Parts& parts, std::int64_t element,
                       std::int64_t stored) {
  const std::int64_t matrices =
      config.parameter_count() - parts.embedding +
      (config.tied_head ? config.vocab_size * config.embedding_width() : 0);
  return matrices * element + parts.embedding * stored;
}

void add_memory(const ModelConfig& config, const Parts& parts, std::int64_t stored, Info& info) {
  const std::int64_t f32 = memory_of(config, parts, stored <= 2 ? 2 : 4, stored);
  const std::int64_t bf16 = memory_of(config, parts, 2, stored);
  const std::int64_t cache = 2 * config.n_layers * config.kv_dim() * 4 * kCacheTokens;
  info.json["memory_float32_bytes"] = f32;
  info.json["memory_bfloat16_bytes"] = bf16;
  info.json["kv_cache_bytes_per_1000_tokens"] = config.causal ? Json(cache) : Json(nullptr);
  const std::uint64_t available = available_memory_bytes();
  info.json["memory_available_bytes"] = available;
  Screen& screen = info.screen;
  screen.section("Memory to run");
  screen.row("--dtype float32", human_bytes(static_cast<double>(f32)));
  screen.row("--dtype bfloat16", human_bytes(static_cast<double>(bf16)));
  if (config.causal) {
    screen.row("KV cache", str(human_bytes(static_cast<double>(cache)), " for each ",
                               grouped(kCacheTokens), " tokens"));
  }
  screen.row("available", str(human_bytes(static_cast<double>(available)), " on this machine",
                              static_cast<double>(f32) > 0.85 * static_cast<double>(available)
                                  ? ": weights that do not fit are streamed from their files"
                                  : ""));
}

void add_hooks(const ModelConfig& config, Info& info) {
  Json hooks = Json::object();
  Json names = Json::object();  // of layer 0
  std::vector<std::vector<std::string>> rows;
  for (const HookPoint point : hook_points(config)) {
    const std::string name(hook_name(point));
    const std::string lens = transformer_lens_name({point, 0}, config);
    const std::string module = module_path({point, 0}, config);
    hooks[name] = hook_width(point, config);
    names[name] = {{"transformer_lens", lens}, {"module", module}};
    rows.push_back({name, std::to_string(hook_width(point, config)), lens, module});
  }
  info.json["hooks"] = hooks;
  info.json["hook_names"] = names;
  info.screen.section(
      str("Hook points of layer 0 (layers go to ", config.n_layers - 1, "), in any spelling"));
  info.screen.table({"hook", "width", "TransformerLens", "module"}, rows);
}

Json read_config(const fs::path& folder) {
  return read_json_file(folder / "config.json", kMaxConfig);
}

std::string class_names(const Json& config) {
  const auto found = config.find("architectures");
  std::vector<std::string> names;
  if (found != config.end() && found->is_array()) {
    for (const Json& name : *found) {
      if (name.is_string()) names.push_back(printable(name.get<std::string>(), 80));
    }
  }
  return join(names);
}

// The sizes that most config.json files name, for a model whose family is not known.
void unknown_model(const Json& config, const std::string& why, Info& info) {
  info.json["supported"] = false;
  info.json["reason"] = why;
  info.screen.section("Configuration");
  for (const char* key :
       {"hidden_size", "d_model", "n_embd", "num_hidden_layers", "n_layer", "num_attention_heads",
        "n_head", "intermediate_size", "vocab_size", "max_position_embeddings"}) {
    const auto found = config.find(key);
    if (found == config.end() || !found->is_number_integer()) continue;
    info.json[key] = *found;
    info.screen.row(key, grouped(found->get<std::int64_t>()));
  }
}

}  // namespace

void add_weights(const fs::path& path, Info& info) {
  const WeightFiles files = WeightFiles::open(path);
  StoredWeights out;
  out.safetensors = files.format() == WeightFiles::Format::kSafetensors;
  for (const auto& [name, tensor] : files.tensors()) {
    out.bytes_by_type[tensor.dtype ? std::string(dtype_name(*tensor.dtype)) : tensor.dtype_text] +=
        tensor.bytes;
    if (tensor.dtype && is_floating(*tensor.dtype)) out.parameters += shape_elements(tensor.shape);
  }
  for (const fs::path& file : files.files()) out.files.push_back(file.filename().string());
  out.tensors = files.tensors().size();
  out.bytes = files.total_bytes();
  show_weights(out, info);
}

void show_weights(const StoredWeights& weights, Info& info) {
  std::vector<std::pair<std::uint64_t, std::string>> order;
  for (const auto& [dtype, size] : weights.bytes_by_type) order.emplace_back(size, dtype);
  std::ranges::sort(order, std::greater<>());
  Json types = Json::object();
  std::vector<std::string> words;
  for (const auto& [size, dtype] : order) {
    types[dtype] = size;
    words.push_back(
        order.size() == 1 ? dtype : str(dtype, " (", human_bytes(static_cast<double>(size)), ")"));
  }
  const bool known = !order.empty();
  info.json["weight_format"] = weights.safetensors ? "safetensors" : "pytorch";
  info.json["weight_files"] = weights.files;
  info.json["tensors"] = known ? Json(weights.tensors) : Json(nullptr);
  info.json["stored_parameters"] = known ? Json(weights.parameters) : Json(nullptr);
  info.json["stored_bytes"] = weights.bytes;
  info.json["dtype_on_disk"] = types;
  info.screen.section("Weights");
  info.screen.row("files", weights.files.size() == 1 ? weights.files[0]
                                                     : str(weights.files.size(), " shards, ",
                                                           weights.files[0], " and so on"));
  const char* format = weights.safetensors ? "safetensors" : "PyTorch";
  const std::string size = human_bytes(static_cast<double>(weights.bytes));
  info.screen.row("stored",
                  known ? str(size, " in ", grouped(static_cast<std::int64_t>(weights.tensors)),
                              " tensors, ", format)
                        : str(size, ", ", format));
  info.screen.row("dtype on disk", join(words));
}

void model_info(const fs::path& folder, Info& info) {
  const Json config = read_config(folder);
  expect_object(config, (folder / "config.json").string());
  const std::string type =
      printable(get_string(config, "model_type", (folder / "config.json").string(), "unknown"), 80);
  const std::string classes = class_names(config);
  info.json["architecture"] = type;
  info.json["classes"] = classes;
  Screen& screen = info.screen;
  screen.title("model", folder.string());
  std::optional<ModelConfig> parsed;
  std::vector<std::string> notes;
  try {
    parsed = read_model_config(folder);
  } catch (const Error& error) {
    notes.push_back(str("drrik does not run it: ", error.what()));
    unknown_model(config, error.what(), info);
  }
  if (parsed) {
    const ModelConfig& c = *parsed;
    const Parts parts = parts_of(c);
    const std::int64_t total = c.parameter_count();
    info.json["supported"] = true;
    info.json["parameters"] = total;
    info.json["embedding_parameters"] = parts.embedding;
    info.json["layer_parameters"] = parts.layer;
    info.json["dtype"] = c.dtype ? Json(dtype_name(*c.dtype)) : Json(nullptr);
    info.json["layers"] = c.n_layers;
    info.json["d_model"] = c.d_model;
    info.json["d_mlp"] = c.d_mlp;
    info.json["heads"] = c.n_heads;
    info.json["kv_heads"] = c.n_kv_heads;
    info.json["head_dim"] = c.head_dim;
    info.json["vocab_size"] = c.vocab_size;
    info.json["max_positions"] = c.max_positions;
    info.json["tied_head"] = c.tied_head;
    info.json["causal"] = c.causal;
    screen.section("Architecture");
    screen.row("family", classes.empty() ? type : str(type, " (", classes, ")"));
    screen.row("made of", architecture_words(c));
    screen.row("parameters",
               str(human_count(static_cast<double>(total)), " (", grouped(total), "): embedding ",
                   human_count(static_cast<double>(parts.embedding)), ", each layer ",
                   human_count(static_cast<double>(parts.layer)), ", head ",
                   c.tied_head ? std::string("tied to the embedding")
                               : human_count(static_cast<double>(parts.head))));
    screen.row("layers",
               str(c.n_layers, ", d_model ", grouped(c.d_model), ", d_mlp ", grouped(c.d_mlp)));
    screen.row("heads",
               str(c.n_heads, " of ", c.head_dim,
                   c.n_kv_heads == c.n_heads ? std::string()
                                             : str(", over ", c.n_kv_heads, " key/value head",
                                                   c.n_kv_heads == 1 ? "" : "s")));
    screen.row("vocabulary", grouped(c.vocab_size));
    screen.row("context", str(grouped(c.max_positions), " tokens"));
    add_positions(c, info);
    add_windows(c, info);
  }
  std::int64_t stored =
      parsed && parsed->dtype ? static_cast<std::int64_t>(dtype_size(*parsed->dtype)) : 4;
  try {
    detail::read_quantization(folder);
    if (info.repo.empty()) {
      add_weights(folder, info);
    } else {
      show_weights(remote_weights(info.repo), info);
    }
    const Json& types = info.json["dtype_on_disk"];
    if (const auto dtype = find_dtype(types.empty() ? "" : types.begin().key())) {
      stored = is_float8(*dtype) ? 2 : static_cast<std::int64_t>(dtype_size(*dtype));
    }
  } catch (const Error& error) {
    info.json["weights_error"] = error.what();
    notes.emplace_back(error.what());
  }
  if (parsed) add_memory(*parsed, parts_of(*parsed), stored, info);
  if (has_tokenizer(folder)) {
    try {
      add_tokenizer(folder, info);
    } catch (const Error& error) {
      info.json["tokenizer_error"] = error.what();
      notes.emplace_back(error.what());
    }
  }
  if (parsed) add_hooks(*parsed, info);
  for (const std::string& note : notes) screen.note(note);
}

void weights_info(const fs::path& path, Info& info) {
  info.screen.title("weights", path.string());
  info.screen.line("tensors without a configuration");
  add_weights(path, info);
  const WeightFiles files = WeightFiles::open(path);
  std::vector<std::vector<std::string>> rows;
  Json list = Json::array();
  constexpr std::size_t kShown = 20;
  for (const auto& [name, tensor] : files.tensors()) {
    list.push_back({{"name", name}, {"dtype", tensor.dtype_text}, {"shape", tensor.shape}});
    if (rows.size() < kShown) {
      rows.push_back({printable(name, 60), shape_string(tensor.shape), tensor.dtype_text});
    }
  }
  info.json["tensor_list"] = list;
  info.screen.section("Tensors");
  info.screen.table({"name", "shape", "dtype"}, rows);
  if (files.tensors().size() > kShown) {
    info.screen.line(str("and ", files.tensors().size() - kShown, " more (--json lists all)"));
  }
}

}  // namespace drrik::cli
