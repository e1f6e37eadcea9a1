#include "model/weights.h"

#include <algorithm>

#include "model/family.h"

namespace drrik::detail {
namespace {

/// Builds from a source what one family's names describe.
class Builder {
 public:
  Builder(const ModelConfig& config, const ModelOptions& options, const TensorSource& source)
      : config_(config), options_(options), source_(source), names_(tensor_names(config)) {}

  ModelWeights build() {
    const std::int64_t d = config_.d_model;
    const std::int64_t width = config_.embedding_width();
    ModelWeights out;
    const std::string embedding = base(names_.embedding) + ".weight";
    out.embedding = get(embedding, {config_.vocab_size, width});
    if (config_.positions == PositionKind::kLearned) {
      out.positions = get(base(names_.positions) + ".weight",
                          {config_.max_positions + config_.position_offset, d});
    }
    if (config_.token_types > 0) out.token_type = first_type();
    if (config_.embedding_norm) out.embedding_norm = norm(base(names_.embedding_norm), d);
    if (width != d) out.project_in = projection(base(names_.project_in), d, width, false);
    const std::int64_t layers = options_.max_layers < 0
                                    ? config_.n_layers
                                    : std::min(options_.max_layers, config_.n_layers);
    for (std::int64_t i = 0; i < layers; ++i) {
      block_ = str(names_.prefix, names_.blocks, ".", i, ".");
      out.layers.push_back(layer());
    }
    if (!options_.skip_head && layers == config_.n_layers) head(embedding, out);
    return out;
  }

 private:
  std::string base(std::string_view module) const { return str(names_.prefix, module); }
  std::string inner(std::string_view module) const { return block_ + std::string(module); }

  Tensor get(const std::string& name, std::initializer_list<std::int64_t> shape) const {
    return source_.get(name, std::vector<std::int64_t>(shape));
  }

  std::vector<float> vector(const std::string& name, std::int64_t size) const {
    const Tensor tensor = get(name, {size});
    std::vector<float> out(static_cast<std::size_t>(size));
    convert_to_float(tensor.raw(), tensor.dtype(), size, out.data());
    return out;
  }

  std::vector<float> first_type() const {
    const Tensor table =
        get(base(names_.token_types) + ".weight", {config_.token_types, config_.d_model});
    std::vector<float> out(static_cast<std::size_t>(config_.d_model));
    convert_to_float(table.raw(), table.dtype(), config_.d_model, out.data());
    return out;
  }

  Norm norm(const std::string& module, std::int64_t width) const {
    Norm out;
    out.defined = true;
    out.gamma = vector(module + ".weight", width);
    const auto offset = static_cast<float>(config_.norm_weight_offset);
    if (offset != 0.0F) {
      for (float& gamma : out.gamma) gamma += offset;
    }
    if (config_.norm == NormKind::kLayerNorm) out.beta = vector(module + ".bias", width);
    return out;
  }

  /// One that OLMo has without weights.
  Norm block_norm(const std::string& module) const {
    if (config_.norm_weights) return norm(module, config_.d_model);
    Norm out;
    out.defined = true;
    return out;
  }

  Tensor matrix(const std::string& module, std::int64_t out, std::int64_t in,
                WeightLayout layout) const {
    const std::string name = module + ".weight";
    return layout == WeightLayout::kOutIn ? get(name, {out, in}) : get(name, {in, out});
  }

  Projection projection(const std::string& module, std::int64_t out, std::int64_t in, bool bias,
                        WeightLayout layout = WeightLayout::kOutIn) const {
    Projection p;
    p.weight = Weight::pack(matrix(module, out, in, layout), options_.compute, layout);
    if (bias) p.bias = vector(module + ".bias", out);
    return p;
  }

  struct Part {
    std::string_view module;
    std::int64_t out;
  };

  Projection stacked(std::initializer_list<Part> parts, std::int64_t in, bool bias) const {
    std::vector<Tensor> tensors;
    std::vector<const Tensor*> pointers;
    tensors.reserve(parts.size());
    Projection p;
    for (const Part& part : parts) {
      tensors.push_back(matrix(inner(part.module), part.out, in, names_.layout));
      pointers.push_back(&tensors.back());
      if (!bias) continue;
      const std::vector<float> own = vector(inner(part.module) + ".bias", part.out);
      p.bias.insert(p.bias.end(), own.begin(), own.end());
    }
    p.weight = Weight::stack(pointers, options_.compute, names_.layout);
    return p;
  }

  Projection qkv() const {
    const std::int64_t q = config_.q_dim();
    const std::int64_t kv = config_.kv_dim();
    const std::int64_t d = config_.d_model;
    switch (names_.qkv_layout) {
      case QkvLayout::kSeparate:
        return stacked({{names_.q, q}, {names_.k, kv}, {names_.v, kv}}, d, config_.qkv_bias);
      case QkvLayout::kBlocks:
        return projection(inner(names_.qkv), q + 2 * kv, d, config_.qkv_bias, names_.layout);
      case QkvLayout::kGrouped:
        break;
    }
    const std::vector<std::int64_t> order = ungrouped();
    const std::string module = inner(names_.qkv);
    Projection p;
    p.weight = Weight::pack_rows(matrix(module, q + 2 * kv, d, names_.layout), order,
                                 options_.compute, names_.layout);
    if (config_.qkv_bias) {
      const std::vector<float> stored = vector(module + ".bias", q + 2 * kv);
      p.bias.reserve(stored.size());
      for (const std::int64_t from : order) {
        p.bias.push_back(stored[static_cast<std::size_t>(from)]);
      }
    }
    return p;
  }

  /// The stored rows [group, member, i], members being queries, key and value, as rows of all
  /// queries, all keys, all values.
  std::vector<std::int64_t> ungrouped() const {
    const std::int64_t dim = config_.head_dim;
    const std::int64_t share = config_.n_heads / config_.n_kv_heads;
    std::vector<std::int64_t> order;
    order.reserve(static_cast<std::size_t>(config_.q_dim() + 2 * config_.kv_dim()));
    const auto take = [&](std::int64_t first, std::int64_t count) {
      for (std::int64_t group = 0; group < config_.n_kv_heads; ++group) {
        const std::int64_t start = (group * (share + 2) + first) * dim;
        for (std::int64_t i = 0; i < count * dim; ++i) order.push_back(start + i);
      }
    };
    take(0, share);
    take(share, 1);
    take(share + 1, 1);
    return order;
  }

  Projection up() const {
    const std::int64_t d = config_.d_model;
    const std::int64_t f = config_.d_mlp;
    if (!config_.gated_mlp) {
      return projection(inner(names_.up), f, d, config_.mlp_bias, names_.layout);
    }
    if (!names_.gate_up.empty()) {
      return projection(inner(names_.gate_up), 2 * f, d, config_.mlp_bias, names_.layout);
    }
    return stacked({{names_.gate, f}, {names_.up, f}}, d, config_.mlp_bias);
  }

  LayerWeights layer() const {
    const std::int64_t d = config_.d_model;
    LayerWeights out;
    if (config_.norm_wiring != NormWiring::kOutput) {
      out.attn_norm = block_norm(inner(names_.attn_norm));
      out.mlp_norm = config_.shared_norm ? out.attn_norm : block_norm(inner(names_.mlp_norm));
    }
    if (config_.output_norms()) {
      out.attn_out_norm = block_norm(inner(names_.attn_out_norm));
      out.mlp_out_norm = block_norm(inner(names_.mlp_out_norm));
    }
    if (config_.qk_norm != QkNorm::kNone) {
      const bool whole = config_.qk_norm == QkNorm::kWhole;
      out.q_norm = norm(inner(names_.q_norm), whole ? config_.q_dim() : config_.head_dim);
      out.k_norm = norm(inner(names_.k_norm), whole ? config_.kv_dim() : config_.head_dim);
    }
    out.qkv = qkv();
    out.attn_out = projection(inner(names_.attn_out), d, config_.q_dim(), config_.attn_out_bias,
                              names_.layout);
    out.up = up();
    out.down = projection(inner(names_.down), d, config_.d_mlp, config_.mlp_bias, names_.layout);
    return out;
  }

  void head(const std::string& embedding, ModelWeights& out) const {
    const std::int64_t d = config_.d_model;
    const std::int64_t width = config_.embedding_width();
    if (config_.final_norm) out.final_norm = block_norm(base(names_.final_norm));
    if (config_.head_transform) {
      out.head_dense = projection(std::string(names_.head_dense), d, d, true);
      out.head_norm = norm(std::string(names_.head_norm), d);
    }
    if (width != d) out.project_out = projection(base(names_.project_out), width, d, false);
    const std::string name = config_.tied_head ? embedding : std::string(names_.head) + ".weight";
    out.head.weight = Weight::pack(get(name, {config_.vocab_size, width}), options_.compute);
    if (config_.head_bias) {
      out.head.bias = vector(std::string(names_.head_bias), config_.vocab_size);
    }
  }

  const ModelConfig& config_;
  const ModelOptions& options_;
  const TensorSource& source_;
  TensorNames names_;
  std::string block_;
};

}  // namespace

ModelWeights build_weights(const ModelConfig& config, const ModelOptions& options,
                           const TensorSource& source) {
  return Builder(config, options, source).build();
}

}  // namespace drrik::detail
