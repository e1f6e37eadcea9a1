#include "model/weights.h"

#include <algorithm>

#include "model/family.h"

namespace drrik::detail {
namespace {

/// Builds from a source what one family's names describe.
class Builder {
 public:
  Builder(const ModelConfig& config, const ModelOptions& options, const TensorSource& source)
      : config_(config),
        options_(options),
        source_(source),
        names_(get_family(config.family).tensors) {}

  ModelWeights build() {
    const std::int64_t d = config_.d_model;
    ModelWeights out;
    const std::string embedding = base(names_.embedding) + ".weight";
    out.embedding = get(embedding, {config_.vocab_size, d});
    if (config_.positions == PositionKind::kLearned) {
      out.positions = get(base(names_.positions) + ".weight", {config_.max_positions, d});
    }
    const std::int64_t layers = options_.max_layers < 0
                                    ? config_.n_layers
                                    : std::min(options_.max_layers, config_.n_layers);
    for (std::int64_t i = 0; i < layers; ++i) {
      block_ = str(names_.prefix, names_.blocks, ".", i, ".");
      out.layers.push_back(layer());
    }
    if (!options_.skip_head && layers == config_.n_layers) {
      out.final_norm = norm(base(names_.final_norm));
      const std::string head = config_.tied_head ? embedding : std::string(names_.head) + ".weight";
      out.head = Weight::pack(get(head, {config_.vocab_size, d}), options_.compute);
    }
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

  Norm norm(const std::string& module) const {
    Norm out;
    out.gamma = vector(module + ".weight", config_.d_model);
    if (config_.norm == NormKind::kLayerNorm) {
      out.beta = vector(module + ".bias", config_.d_model);
    }
    return out;
  }

  Tensor matrix(std::string_view module, std::int64_t out, std::int64_t in) const {
    const std::string name = inner(module) + ".weight";
    return names_.layout == WeightLayout::kOutIn ? get(name, {out, in}) : get(name, {in, out});
  }

  Projection projection(std::string_view module, std::int64_t out, std::int64_t in,
                        bool bias) const {
    Projection p;
    p.weight = Weight::pack(matrix(module, out, in), options_.compute, names_.layout);
    if (bias) p.bias = vector(inner(module) + ".bias", out);
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
      tensors.push_back(matrix(part.module, part.out, in));
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
        return projection(names_.qkv, q + 2 * kv, d, config_.qkv_bias);
      case QkvLayout::kPerHead:
        break;
    }
    // Rows [head, part, i] become [part, head, i].
    const std::int64_t dim = config_.head_dim;
    std::vector<std::int64_t> order;
    order.reserve(static_cast<std::size_t>(3 * q));
    for (std::int64_t part = 0; part < 3; ++part) {
      for (std::int64_t h = 0; h < config_.n_heads; ++h) {
        for (std::int64_t i = 0; i < dim; ++i) order.push_back((h * 3 + part) * dim + i);
      }
    }
    Projection p;
    p.weight =
        Weight::pack_rows(matrix(names_.qkv, 3 * q, d), order, options_.compute, names_.layout);
    if (config_.qkv_bias) {
      const std::vector<float> stored = vector(inner(names_.qkv) + ".bias", 3 * q);
      p.bias.reserve(stored.size());
      for (const std::int64_t from : order)
        p.bias.push_back(stored[static_cast<std::size_t>(from)]);
    }
    return p;
  }

  LayerWeights layer() const {
    const std::int64_t d = config_.d_model;
    const std::int64_t f = config_.d_mlp;
    LayerWeights out;
    out.attn_norm = norm(inner(names_.attn_norm));
    out.mlp_norm = norm(inner(names_.mlp_norm));
    out.qkv = qkv();
    out.attn_out = projection(names_.attn_out, d, config_.q_dim(), config_.attn_out_bias);
    out.up = config_.gated_mlp ? stacked({{names_.gate, f}, {names_.up, f}}, d, config_.mlp_bias)
                               : projection(names_.up, f, d, config_.mlp_bias);
    out.down = projection(names_.down, d, f, config_.mlp_bias);
    return out;
  }

  const ModelConfig& config_;
  const ModelOptions& options_;
  const TensorSource& source_;
  const TensorNames& names_;
  std::string block_;
};

}  // namespace

ModelWeights build_weights(const ModelConfig& config, const ModelOptions& options,
                           const TensorSource& source) {
  return Builder(config, options, source).build();
}

}  // namespace drrik::detail
