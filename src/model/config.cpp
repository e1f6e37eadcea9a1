#include "drrik/model/config.h"

#include <cmath>

#include "model/family.h"

namespace drrik {
namespace {

std::optional<std::int32_t> find_id(const Json& json, std::string_view key, std::string_view what) {
  const auto id = find_int(json, key, what);
  if (!id) return std::nullopt;
  if (*id < 0 || *id >= detail::kMaxVocab) return std::nullopt;  // -1 means none in some files
  return static_cast<std::int32_t>(*id);
}

/// eos_token_id is a number or a list of them.
std::vector<std::int32_t> find_eos(const Json& json, std::string_view what) {
  const Json* member = find_member(json, "eos_token_id", what);
  if (!member) return {};
  std::vector<std::int32_t> out;
  if (member->is_array()) {
    for (const std::int64_t id : get_ints(json, "eos_token_id", what)) {
      if (id >= 0 && id < detail::kMaxVocab) out.push_back(static_cast<std::int32_t>(id));
    }
  } else if (const auto id = find_id(json, "eos_token_id", what)) {
    out.push_back(*id);
  }
  return out;
}

ModelConfig parse(const Json& json, std::string_view what) {
  expect_object(json, what);
  const std::string type = get_string(json, "model_type", what);
  const detail::Family* family = nullptr;
  try {
    family = &detail::get_family(type);
  } catch (Error& error) {
    error.add_context(str(what, ": 'model_type'"));
    throw;
  }
  ModelConfig config;
  config.family = type;
  family->parse(json, what, config);
  config.bos_id = find_id(json, "bos_token_id", what);
  config.eos_ids = find_eos(json, what);
  for (const std::string_view key : {"dtype", "torch_dtype"}) {
    const auto name = find_string(json, key, what);
    if (!name) continue;
    config.dtype = find_dtype(*name);
    break;
  }
  try {
    config.validate();
  } catch (Error& error) {
    error.add_context(what);
    throw;
  }
  return config;
}

void check_size(std::string_view name, std::int64_t value, std::int64_t limit) {
  if (value < 1 || value > limit) throw_data(name, " is ", value, ", wanted 1 to ", limit);
}

}  // namespace

ModelConfig parse_model_config(std::string_view json, std::string_view what) {
  return parse(parse_json(json, what), what);
}

ModelConfig read_model_config(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json";
  ModelConfig config = parse(read_json_file(path, std::uint64_t{16} << 20), path.string());
  const std::filesystem::path generation = folder / "generation_config.json";
  if (std::filesystem::exists(generation)) {
    const std::string what = generation.string();
    const Json json = read_json_file(generation, std::uint64_t{16} << 20);
    expect_object(json, what);
    if (auto eos = find_eos(json, what); !eos.empty()) config.eos_ids = std::move(eos);
    if (!config.bos_id) config.bos_id = find_id(json, "bos_token_id", what);
  }
  return config;
}

std::int64_t ModelConfig::parameter_count() const {
  const std::int64_t qkv = q_dim() + 2 * kv_dim();
  const std::int64_t norm_size = norm == NormKind::kLayerNorm ? 2 * d_model : d_model;
  const std::int64_t ups = gated_mlp ? 2 : 1;
  std::int64_t layer = qkv * d_model + q_dim() * d_model + (ups + 1) * d_model * d_mlp;
  layer += 2 * norm_size;
  if (qkv_bias) layer += qkv;
  if (attn_out_bias) layer += d_model;
  if (mlp_bias) layer += ups * d_mlp + d_model;
  std::int64_t total = n_layers * layer + norm_size + vocab_size * d_model;
  if (!tied_head) total += vocab_size * d_model;
  if (positions == PositionKind::kLearned) total += max_positions * d_model;
  return total;
}

void ModelConfig::validate() const {
  check_size("vocab_size", vocab_size, detail::kMaxVocab);
  check_size("d_model", d_model, detail::kMaxWidth);
  check_size("n_layers", n_layers, detail::kMaxLayers);
  check_size("n_heads", n_heads, detail::kMaxWidth);
  check_size("n_kv_heads", n_kv_heads, detail::kMaxWidth);
  check_size("head_dim", head_dim, detail::kMaxWidth);
  check_size("d_mlp", d_mlp, detail::kMaxWidth);
  check_size("max_positions", max_positions, detail::kMaxPositions);
  check_size("n_heads * head_dim", q_dim(), detail::kMaxWidth);
  if (n_heads % n_kv_heads != 0) {
    throw_data("n_heads is ", n_heads, ", wanted a multiple of n_kv_heads (", n_kv_heads, ")");
  }
  if (!(norm_eps > 0.0) || !std::isfinite(norm_eps)) {
    throw_data("norm_eps is ", norm_eps, ", wanted a positive number");
  }
  if (!std::isfinite(attention_scale)) {
    throw_data("attention_scale is ", attention_scale, ", wanted a number");
  }
  if (positions == PositionKind::kRotary && (rope.dim < 1 || rope.dim + rope.dim % 2 > head_dim)) {
    throw_data("rope.dim is ", rope.dim, ", wanted 1 to head_dim (", head_dim, ")");
  }
  detail::get_family(family);
}

}  // namespace drrik
