#include "drrik/activations/options.h"

#include <charconv>
#include <functional>
#include <set>

#include "drrik/base/error.h"
#include "drrik/hub/resolve.h"
#include "drrik/model/hook_names.h"

namespace drrik {
namespace {

constexpr std::string_view kPositionNames[] = {"last", "all", "first", "mean"};

std::int64_t parse_int(const std::string& name, const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) {
    throw_usage(name, ": '", text, "' is not a whole number");
  }
  return value;
}

bool parse_bool(const std::string& name, const std::string& text) {
  if (text == "true" || text == "1" || text == "yes") return true;
  if (text == "false" || text == "0" || text == "no") return false;
  throw_usage(name, ": '", text, "' is neither true nor false");
}

DType parse_dtype(const std::string& name, const std::string& text) {
  const auto dtype = find_dtype(text);
  if (!dtype || (*dtype != DType::kF32 && *dtype != DType::kF16 && *dtype != DType::kBF16)) {
    throw_usage(name, ": '", text, "', wanted float32, bfloat16 or float16");
  }
  return *dtype;
}

std::vector<std::int64_t> parse_layers(const std::string& name, std::string text) {
  if (text.size() >= 2 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
  }
  std::vector<std::int64_t> layers;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    std::string part = text.substr(begin, end - begin);
    part.erase(0, part.find_first_not_of(' '));
    part.erase(part.find_last_not_of(' ') + 1);
    layers.push_back(parse_int(name, part));
    begin = end + 1;
  }
  return layers;
}

using Setter =
    std::function<void(ExtractorOptions&, const std::string& name, const std::string& value)>;

const std::map<std::string, Setter>& setters() {
  static const std::map<std::string, Setter> table = {
      {"model_name", [](auto& o, const auto&, const auto& v) { o.model.model_name = v; }},
      {"revision", [](auto& o, const auto&, const auto& v) { o.model.revision = v; }},
      {"torch_dtype",
       [](auto& o, const auto& n, const auto& v) { o.model.torch_dtype = parse_dtype(n, v); }},
      {"device_map", [](auto& o, const auto&, const auto& v) { o.model.device_map = v; }},
      {"trust_remote_code",
       [](auto& o, const auto& n, const auto& v) { o.model.trust_remote_code = parse_bool(n, v); }},
      {"dataset_name", [](auto& o, const auto&, const auto& v) { o.dataset.dataset_name = v; }},
      {"dataset_config", [](auto& o, const auto&, const auto& v) { o.dataset.dataset_config = v; }},
      {"dataset_revision",
       [](auto& o, const auto&, const auto& v) { o.dataset.dataset_revision = v; }},
      {"split", [](auto& o, const auto&, const auto& v) { o.dataset.split = v; }},
      {"shuffle_seed",
       [](auto& o, const auto& n, const auto& v) { o.dataset.shuffle_seed = parse_int(n, v); }},
      {"skip", [](auto& o, const auto& n, const auto& v) { o.dataset.skip = parse_int(n, v); }},
      {"num_samples",
       [](auto& o, const auto& n, const auto& v) { o.dataset.num_samples = parse_int(n, v); }},
      {"text_column", [](auto& o, const auto&, const auto& v) { o.dataset.text_column = v; }},
      {"max_length",
       [](auto& o, const auto& n, const auto& v) { o.dataset.max_length = parse_int(n, v); }},
      {"add_special_tokens",
       [](auto& o, const auto& n, const auto& v) {
         o.dataset.add_special_tokens = parse_bool(n, v);
       }},
      {"bos", [](auto& o, const auto&, const auto& v) { o.dataset.bos = parse_bos_rule(v); }},
      {"pack", [](auto& o, const auto& n, const auto& v) { o.dataset.pack = parse_bool(n, v); }},
      {"sample_by",
       [](auto& o, const auto&, const auto& v) { o.dataset.sample_by = parse_sample_by(v); }},
      {"mlp_layers",
       [](auto& o, const auto& n, const auto& v) { o.extraction.mlp_layers = parse_layers(n, v); }},
      {"layers",
       [](auto& o, const auto& n, const auto& v) { o.extraction.mlp_layers = parse_layers(n, v); }},
      {"hook", {}},  // see set_hook()
      {"positions",
       [](auto& o, const auto&, const auto& v) { o.extraction.positions = parse_positions(v); }},
      {"batch_size",
       [](auto& o, const auto& n, const auto& v) { o.extraction.batch_size = parse_int(n, v); }},
      {"max_batch_tokens", [](auto& o, const auto& n,
                              const auto& v) { o.extraction.max_batch_tokens = parse_int(n, v); }},
      {"store_dtype",
       [](auto& o, const auto& n, const auto& v) { o.extraction.store_dtype = parse_dtype(n, v); }},
      {"shard_bytes",
       [](auto& o, const auto& n, const auto& v) { o.extraction.shard_bytes = parse_int(n, v); }},
      {"output_dir", [](auto& o, const auto&, const auto& v) { o.extraction.output_dir = v; }},
  };
  return table;
}

void set_hook(ExtractorOptions& options, const std::string& name) {
  auto& group = options.extraction;
  if (!names_a_place(name)) {
    group.hook = parse_hook(name);
    return;
  }
  if (options.model.model_name.empty()) {
    throw_usage("hook '", name, "' is a place in a model; model_name must say in which");
  }
  const auto folder = resolve_model_folder(options.model.model_name, options.model.revision);
  const HookLayers found = parse_hook(name, group.mlp_layers, read_model_config(folder));
  group.hook = found.point;
  group.mlp_layers = found.layers;
}

bool storable(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

}  // namespace

std::string_view positions_name(Positions positions) {
  return kPositionNames[static_cast<std::size_t>(positions)];
}

Positions parse_positions(std::string_view name) {
  for (std::size_t i = 0; i < std::size(kPositionNames); ++i) {
    if (name == kPositionNames[i]) return static_cast<Positions>(i);
  }
  throw_usage("positions '", name, "', wanted last, all, first or mean");
}

void ExtractorOptions::validate() const {
  if (!storable(model.torch_dtype)) {
    throw_usage("torch_dtype ", dtype_name(model.torch_dtype),
                ", wanted float32, bfloat16 or float16");
  }
  if (model.device_map != "auto" && model.device_map != "cpu") {
    throw_usage("device_map '", model.device_map, "', wanted auto or cpu");
  }
  if (dataset.max_length < 1) {
    throw_usage("max_length ", dataset.max_length, ", wanted at least 1");
  }
  if (dataset.skip < 0) throw_usage("skip ", dataset.skip, ", wanted at least 0");
  if (dataset.num_samples == 0) throw_usage("num_samples 0, wanted at least 1, or -1 for all");
  if (extraction.mlp_layers.empty()) throw_usage("no layer asked for");
  std::set<std::int64_t> seen;
  for (const std::int64_t layer : extraction.mlp_layers) {
    if (layer < 0) throw_usage("layer ", layer, "; layers count from 0");
    if (!seen.insert(layer).second) throw_usage("layer ", layer, " is asked for twice");
  }
  if (extraction.batch_size < 0) {
    throw_usage("batch_size ", extraction.batch_size, ", wanted at least 1, or 0 for automatic");
  }
  if (extraction.max_batch_tokens < 1) {
    throw_usage("max_batch_tokens ", extraction.max_batch_tokens, ", wanted at least 1");
  }
  if (!storable(extraction.store_dtype)) {
    throw_usage("store_dtype ", dtype_name(extraction.store_dtype),
                ", wanted float32, bfloat16 or float16");
  }
  if (extraction.shard_bytes < 1) {
    throw_usage("shard_bytes ", extraction.shard_bytes, ", wanted at least 1");
  }
}

ExtractorOptions extractor_options(const std::map<std::string, std::string>& flat) {
  ExtractorOptions options;
  for (const auto& [name, value] : flat) {
    if (name == "hook") continue;
    const auto found = setters().find(name);
    if (found == setters().end()) {
      std::vector<std::string> known;
      for (const auto& [key, setter] : setters()) known.push_back(key);
      throw_usage("unknown extraction option '", name, "'", did_you_mean(name, known));
    }
    found->second(options, name, value);
  }
  // Last: it may need the model, and may bring its layer.
  if (const auto hook = flat.find("hook"); hook != flat.end()) set_hook(options, hook->second);
  return options;
}

}  // namespace drrik
