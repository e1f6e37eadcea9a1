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
  const std::int64_t d = d_model;
  const std::int64_t qkv = q_dim() + 2 * kv_dim();
  const std::int64_t affine = norm == NormKind::kLayerNorm ? 2 : 1;
  const std::int64_t block_norm = norm_weights ? affine * d : 0;
  const std::int64_t ups = gated_mlp ? 2 : 1;
  std::int64_t layer = qkv * d + q_dim() * d + (ups + 1) * d * d_mlp;
  layer += (shared_norm ? 1 : norm_wiring == NormWiring::kSandwich ? 4 : 2) * block_norm;
  if (qk_norm == QkNorm::kPerHead) layer += 2 * affine * head_dim;
  if (qk_norm == QkNorm::kWhole) layer += affine * (q_dim() + kv_dim());
  if (qkv_bias) layer += qkv;
  if (attn_out_bias) layer += d;
  if (mlp_bias) layer += ups * d_mlp + d;
  std::int64_t total = n_layers * layer + vocab_size * embedding_width();
  if (!tied_head) total += vocab_size * embedding_width();
  if (embedding_width() != d) total += 2 * d * embedding_width();
  if (positions == PositionKind::kLearned) total += (max_positions + position_offset) * d;
  total += token_types * d;
  if (embedding_norm) total += affine * d;
  if (final_norm) total += block_norm;
  if (head_transform) total += d * d + d + affine * d;
  if (head_bias) total += vocab_size;
  return total;
}

namespace {

void check_finite(std::string_view name, double value, bool may_be_negative = false) {
  if (!std::isfinite(value) || (value < 0.0 && !may_be_negative)) {
    throw_data(name, " is ", value, ", wanted a ", may_be_negative ? "number" : "number from 0 on");
  }
}

void check_rope(std::string_view name, const RopeOptions& rope, std::int64_t head_dim) {
  if (rope.dim < 1 || rope.dim + rope.dim % 2 > head_dim) {
    throw_data(name, ".dim is ", rope.dim, ", wanted 1 to head_dim (", head_dim, ")");
  }
  check_finite(str(name, ".cos_sin_scale"), rope.cos_sin_scale);
  const auto pairs = static_cast<std::size_t>((rope.dim + 1) / 2);
  if (rope.scaling == RopeScaling::kLongRope &&
      (rope.short_factors.size() != pairs || rope.long_factors.size() != pairs)) {
    throw_data(name, ": ", rope.short_factors.size(), " short and ", rope.long_factors.size(),
               " long factors, wanted ", pairs);
  }
}

}  // namespace

void ModelConfig::validate() const {
  check_size("vocab_size", vocab_size, detail::kMaxVocab);
  check_size("d_model", d_model, detail::kMaxWidth);
  check_size("n_layers", n_layers, detail::kMaxLayers);
  check_size("n_heads", n_heads, detail::kMaxWidth);
  check_size("n_kv_heads", n_kv_heads, detail::kMaxWidth);
  check_size("head_dim", head_dim, detail::kMaxWidth);
  check_size("d_mlp", d_mlp, detail::kMaxWidth);
  check_size("embedding_dim", embedding_width(), detail::kMaxWidth);
  check_size("position_offset", position_offset + 1, detail::kMaxWidth);
  check_size("max_positions", max_positions, detail::kMaxPositions - position_offset);
  check_size("token_types", token_types + 1, detail::kMaxWidth);
  check_size("n_heads * head_dim", q_dim(), detail::kMaxWidth);
  if (n_heads % n_kv_heads != 0) {
    throw_data("n_heads is ", n_heads, ", wanted a multiple of n_kv_heads (", n_kv_heads, ")");
  }
  if (!(norm_eps > 0.0) || !std::isfinite(norm_eps)) {
    throw_data("norm_eps is ", norm_eps, ", wanted a positive number");
  }
  check_finite("attention_scale", attention_scale, /*may_be_negative=*/true);
  check_finite("norm_weight_offset", norm_weight_offset, /*may_be_negative=*/true);
  check_finite("embedding_scale", embedding_scale, /*may_be_negative=*/true);
  check_finite("clip_qkv", clip_qkv);
  check_finite("attention_soft_cap", attention_soft_cap);
  check_finite("logit_soft_cap", logit_soft_cap);
  if (positions == PositionKind::kRotary) {
    check_rope("rope", rope, head_dim);
    if (local_rope) check_rope("local_rope", *local_rope, head_dim);
  }
  if (!windows.empty() && static_cast<std::int64_t>(windows.size()) != n_layers) {
    throw_data("windows has ", windows.size(), " entries, the model ", n_layers, " layers");
  }
  for (const std::int64_t w : windows) {
    if (w < 0 || w > detail::kMaxPositions) throw_data("a window is ", w, ", wanted 0 or more");
  }
  if (parallel_residual && norm_wiring != NormWiring::kPre) {
    throw_data("parallel_residual with another norm_wiring than kPre");
  }
  if (shared_norm && !parallel_residual) throw_data("shared_norm without parallel_residual");
  detail::get_family(family);
}

}  // namespace drrik
