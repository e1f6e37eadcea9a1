#include "model/weights.h"

#include <algorithm>
#include <utility>

#include "drrik/base/log.h"
#include "drrik/base/system.h"
#include "drrik/model/random_model.h"
#include "model/family.h"
#include "model/readahead.h"

namespace drrik::detail {

/// Builds from a source what one family's names describe.
class Weights::Builder {
 public:
  Builder(const ModelConfig& config, const ModelOptions& options,
          std::shared_ptr<const TensorSource> source, bool dry = false)
      : config_(config),
        compute_(options.compute),
        dry_(dry),
        source_(std::move(source)),
        names_(tensor_names(config)) {}

  EmbeddingWeights embedding() const {
    const std::int64_t d = config_.d_model;
    const std::int64_t width = config_.embedding_width();
    EmbeddingWeights out;
    out.table = get(embedding_name(), {config_.vocab_size, width});
    if (config_.positions == PositionKind::kLearned) {
      out.positions = get(base(names_.positions) + ".weight",
                          {config_.max_positions + config_.position_offset, d});
    }
    if (config_.token_types > 0) out.token_type = first_type();
    if (config_.embedding_norm) out.norm = norm(base(names_.embedding_norm), d);
    if (width != d) out.project_in = projection(base(names_.project_in), d, width, false);
    return out;
  }

  LayerWeights layer(std::int64_t i) const {
    const std::string block = this->block(i);
    const auto inner = [&](std::string_view module) { return block + std::string(module); };
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
    out.qkv = qkv(block);
    out.attn_out = projection(inner(names_.attn_out), d, config_.q_dim(), config_.attn_out_bias,
                              names_.layout);
    out.up = up(block);
    out.down = projection(inner(names_.down), d, config_.d_mlp, config_.mlp_bias, names_.layout);
    return out;
  }

  HeadWeights head() const {
    const std::int64_t d = config_.d_model;
    const std::int64_t width = config_.embedding_width();
    HeadWeights out;
    if (config_.final_norm) out.final_norm = block_norm(base(names_.final_norm));
    if (config_.head_transform) {
      out.dense = projection(std::string(names_.head_dense), d, d, true);
      out.norm = norm(std::string(names_.head_norm), d);
    }
    if (width != d) out.project_out = projection(base(names_.project_out), width, d, false);
    out.matrix.weight = keep(get(head_name(), {config_.vocab_size, width}));
    if (config_.head_bias) {
      out.matrix.bias = vector(std::string(names_.head_bias), config_.vocab_size);
    }
    return out;
  }

  /// Where the tensors of layer i begin.
  std::string block(std::int64_t i) const { return str(names_.prefix, names_.blocks, ".", i, "."); }
  std::string head_name() const {
    return config_.tied_head ? embedding_name() : std::string(names_.head) + ".weight";
  }
  const std::shared_ptr<const TensorSource>& source() const { return source_; }

 private:
  std::string base(std::string_view module) const { return str(names_.prefix, module); }
  std::string embedding_name() const { return base(names_.embedding) + ".weight"; }

  Tensor get(const std::string& name, std::initializer_list<std::int64_t> shape) const {
    const std::vector<std::int64_t> wanted(shape);
    if (!dry_) return source_->get(name, wanted);
    source_->check(name, wanted);
    return {};
  }

  Weight keep(Tensor tensor, WeightLayout layout = WeightLayout::kOutIn) const {
    if (dry_) return {};
    std::vector<Tensor> parts;
    parts.push_back(std::move(tensor));
    return Weight::keep(std::move(parts), compute_, layout);
  }

  std::vector<float> vector(const std::string& name, std::int64_t size) const {
    const Tensor tensor = get(name, {size});
    if (dry_) return {};
    std::vector<float> out(static_cast<std::size_t>(size));
    convert_to_float(tensor.raw(), tensor.dtype(), size, out.data());
    return out;
  }

  std::vector<float> first_type() const {
    const Tensor table =
        get(base(names_.token_types) + ".weight", {config_.token_types, config_.d_model});
    if (dry_) return {};
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
    p.weight = keep(matrix(module, out, in, layout), layout);
    if (bias) p.bias = vector(module + ".bias", out);
    return p;
  }

  static std::string inner(const std::string& block, std::string_view module) {
    return block + std::string(module);
  }

  struct Part {
    std::string_view module;
    std::int64_t out;
  };

  Projection stacked(const std::string& block, std::initializer_list<Part> parts, std::int64_t in,
                     bool bias) const {
    std::vector<Tensor> tensors;
    Projection p;
    for (const Part& part : parts) {
      tensors.push_back(matrix(inner(block, part.module), part.out, in, names_.layout));
      if (!bias) continue;
      const std::vector<float> own = vector(inner(block, part.module) + ".bias", part.out);
      p.bias.insert(p.bias.end(), own.begin(), own.end());
    }
    if (!dry_) p.weight = Weight::keep(std::move(tensors), compute_, names_.layout);
    return p;
  }

  Projection qkv(const std::string& block) const {
    const std::int64_t q = config_.q_dim();
    const std::int64_t kv = config_.kv_dim();
    const std::int64_t d = config_.d_model;
    switch (names_.qkv_layout) {
      case QkvLayout::kSeparate:
        return stacked(block, {{names_.q, q}, {names_.k, kv}, {names_.v, kv}}, d, config_.qkv_bias);
      case QkvLayout::kBlocks:
        return projection(inner(block, names_.qkv), q + 2 * kv, d, config_.qkv_bias, names_.layout);
      case QkvLayout::kGrouped:
        break;
    }
    const std::vector<std::int64_t> order = ungrouped();
    const std::string module = inner(block, names_.qkv);
    Projection p;
    Tensor grouped = matrix(module, q + 2 * kv, d, names_.layout);
    if (!dry_) {
      p.weight = Weight::keep_rows(std::move(grouped), order, compute_, names_.layout);
    }
    if (config_.qkv_bias) {
      const std::vector<float> stored = vector(module + ".bias", q + 2 * kv);
      if (dry_) return p;
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

  Projection up(const std::string& block) const {
    const std::int64_t d = config_.d_model;
    const std::int64_t f = config_.d_mlp;
    if (!config_.gated_mlp) {
      return projection(inner(block, names_.up), f, d, config_.mlp_bias, names_.layout);
    }
    if (!names_.gate_up.empty()) {
      return projection(inner(block, names_.gate_up), 2 * f, d, config_.mlp_bias, names_.layout);
    }
    return stacked(block, {{names_.gate, f}, {names_.up, f}}, d, config_.mlp_bias);
  }

  const ModelConfig config_;
  const Compute compute_;
  const bool dry_;  // tensors are checked, and nothing is made of them
  const std::shared_ptr<const TensorSource> source_;
  const TensorNames names_;
};

namespace {

/// What the matrices of `layers` layers and the head take when packed (Weight).
std::int64_t estimated_bytes(const ModelConfig& config, std::int64_t layers, bool head,
                             std::size_t element) {
  double elements = 0;
  for (const GemmShape& p : forward_products(config, 1, head ? 1 : 0)) {
    const std::int64_t count = p.count == config.n_layers ? layers : p.count;
    elements += static_cast<double>(p.in * p.out) * static_cast<double>(count);
  }
  return static_cast<std::int64_t>(elements * static_cast<double>(element));
}

/// Of the memory there is, what activations, caches and other programs are left.
constexpr double kShareForWeights = 0.85;

bool should_stream(Residency residency, std::int64_t needed) {
  if (residency != Residency::kAuto) return residency == Residency::kStreamed;
  return static_cast<double>(needed) >
         kShareForWeights * static_cast<double>(available_memory_bytes());
}

}  // namespace

Weights::Weights(const ModelConfig& config, const ModelOptions& options,
                 std::shared_ptr<const TensorSource> source)
    : builder_(std::make_unique<Builder>(config, options, std::move(source))),
      readahead_(std::make_unique<Readahead>(builder_->source())),
      tied_(config.tied_head) {
  layers_ =
      options.max_layers < 0 ? config.n_layers : std::min(options.max_layers, config.n_layers);
  has_head_ = !options.skip_head && layers_ == config.n_layers;
  if (tied_ && has_head_) readahead_->want(builder_->head_name());  // used first and last
  want_after(-1);
  embedding_ = builder_->embedding();
  const std::size_t element =
      options.compute == Compute::kBF16 || embedding_.table.dtype() != DType::kF32 ? 2 : 4;
  packed_bytes_ = estimated_bytes(config, layers_, has_head_, element);
  streamed_ = should_stream(options.residency, packed_bytes_);
  if (streamed_ || builder_->source()->only_maps()) {
    // What is wrong with the checkpoint is said now and not in the middle of a pass.
    const Builder dry(config, options, builder_->source(), /*dry=*/true);
    for (std::int64_t i = 0; i < layers_; ++i) static_cast<void>(dry.layer(i));
    if (has_head_) static_cast<void>(dry.head());
  }
  if (streamed_) {
    if (options.residency == Residency::kAuto) {
      log_info("the weights take ", packed_bytes_ >> 20,
               " MiB, more than there is memory for: each ",
               "layer is read again whenever it is used");
    }
    return;
  }
  kept_.resize(static_cast<std::size_t>(layers_));
  for (std::int64_t i = 0; i < layers_; ++i) want_after(i);
  if (builder_->source()->only_maps()) return;
  for (std::int64_t i = 0; i < layers_; ++i) static_cast<void>(layer(i));
  if (has_head_) static_cast<void>(head());
}

Weights::~Weights() = default;

void Weights::want_after(std::int64_t layer) const {
  if (layer + 1 < layers_) {
    readahead_->want(builder_->block(layer + 1));
  } else if (has_head_) {
    readahead_->want(builder_->head_name());
  }
}

const EmbeddingWeights& Weights::embedding() const {
  if (!streamed_ && tied_ && layers_ready_.load(std::memory_order_relaxed) == 0) {
    readahead_->await(builder_->head_name());
  }
  return embedding_;
}

std::shared_ptr<const LayerWeights> Weights::layer(std::int64_t i) const {
  if (!streamed_) {
    std::shared_ptr<const LayerWeights>& kept = kept_[static_cast<std::size_t>(i)];
    if (i < layers_ready_.load(std::memory_order_acquire)) return kept;
    const std::lock_guard lock(mutex_);
    if (!kept) {
      // Touching pages that are still to be read, its norms' among them, would scatter the reading.
      readahead_->await(builder_->block(i));
      kept = std::make_shared<const LayerWeights>(builder_->layer(i));
    }
    // A pass begins with the first layer, so that all below this one are there.
    if (i == layers_ready_.load(std::memory_order_relaxed)) {
      layers_ready_.store(i + 1, std::memory_order_release);
    }
    return kept;
  }
  // The one before wanted it already, unless it is the first one.
  readahead_->want(builder_->block(i));
  want_after(i);
  readahead_->await(builder_->block(i));
  return std::make_shared<const LayerWeights>(builder_->layer(i));
}

std::shared_ptr<const HeadWeights> Weights::head() const {
  if (!streamed_) {
    const std::lock_guard lock(mutex_);
    if (!head_) {
      readahead_->await(builder_->head_name());
      head_ = std::make_shared<const HeadWeights>(builder_->head());
    }
    return head_;
  }
  // The next token begins with the first layer.
  readahead_->await(builder_->head_name());
  want_after(-1);
  return std::make_shared<const HeadWeights>(builder_->head());
}

}  // namespace drrik::detail
