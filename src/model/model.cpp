#include "drrik/model/model.h"

#include "drrik/model/hook_names.h"

#include "model/model_impl.h"

namespace drrik {

void TokenBatch::append(std::span<const std::int32_t> sequence) {
  if (boundaries.empty()) boundaries.push_back(0);
  ids.insert(ids.end(), sequence.begin(), sequence.end());
  boundaries.push_back(static_cast<std::int64_t>(ids.size()));
}

void TokenBatch::clear() {
  ids.clear();
  boundaries.clear();
}

namespace detail {

Model make_model(const ModelConfig& config, const ModelOptions& options,
                 std::shared_ptr<const TensorSource> source) {
  auto impl = std::make_unique<Model::Impl>();
  impl->config = config;
  impl->options = options;
  impl->family = &get_family(config.family);
  if (config.positions == PositionKind::kAlibi) impl->slopes = alibi_slopes(config.n_heads);
  impl->weights = std::make_unique<const Weights>(config, options, std::move(source));
  return Model(std::move(impl));
}

void check_hook(const Model::Impl& model, const Hook& hook) {
  const std::int64_t layers = model.config.n_layers;
  if (hook.layer < 0 || hook.layer >= layers) {
    throw_usage("layer ", hook.layer, " does not exist: the model has ", layers, " layers (0 to ",
                layers - 1, ")");
  }
  if (before_blocks(hook.point) && hook.layer != 0) {
    throw_usage("hook '", hook_name(hook.point), "' stands in front of layer 0, and layer ",
                hook.layer, " was asked for; wanted layer 0");
  }
  if (hook.layer >= model.loaded_layers()) {
    throw_usage("layer ", hook.layer, " was not loaded: only the first ", model.loaded_layers(),
                " of ", layers, " were");
  }
  const std::string why = absence(hook.point, model.config);
  if (!why.empty()) throw_usage("hook '", hook_name(hook.point), "' ", why);
}

std::string absence(HookPoint point, const ModelConfig& config) {
  if (has_hook(config, point)) return "";
  std::string_view why;
  if (point == HookPoint::kResidMid) {
    why = "attention and MLP both read the block's input; use resid_pre or resid_post";
  } else if (point == HookPoint::kPosEmbed) {
    why = "its positions are no table that is added; use embed or resid_pre";
  } else {
    why = "its modules' outputs pass no norm of their own; use attn_out or mlp_out";
  }
  return str("does not exist in this ", config.family, " model: ", why);
}

}  // namespace detail

bool has_hook(const ModelConfig& config, HookPoint point) {
  switch (point) {
    case HookPoint::kResidMid:
      return !config.parallel_residual;
    case HookPoint::kAttnAdd:
    case HookPoint::kMlpAdd:
      return config.output_norms();
    case HookPoint::kPosEmbed:
      return config.positions == PositionKind::kLearned;
    default:
      return true;
  }
}

Model Model::load(const std::filesystem::path& folder, const ModelOptions& options) {
  if (!std::filesystem::is_directory(folder)) {
    throw_io(folder.string(), ": not a folder; wanted one with config.json and weights");
  }
  const ModelConfig config = read_model_config(folder);
  const std::string_view prefix = detail::get_family(config.family).tensors.prefix;
  return detail::make_model(config, options, detail::open_checkpoint(folder, prefix));
}

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

const ModelConfig& Model::config() const { return impl_->config; }

std::int64_t Model::hook_width(HookPoint point) const {
  return drrik::hook_width(point, impl_->config);
}

std::string Model::module_path(const Hook& hook) const {
  return drrik::module_path(hook, impl_->config);
}

void Model::check_hook(const Hook& hook) const { detail::check_hook(*impl_, hook); }

Tensor Model::forward(const TokenBatch& batch, const ForwardOptions& options) const {
  return detail::run_forward(*impl_, batch.ids, batch.boundaries, nullptr, options);
}

Tensor Model::forward(std::span<const std::int32_t> ids, KvCache& cache,
                      const ForwardOptions& options) const {
  const std::int64_t boundaries[2] = {0, static_cast<std::int64_t>(ids.size())};
  ForwardOptions all = options;
  if (all.logits == ForwardOptions::Logits::kNone) all.logits = ForwardOptions::Logits::kLast;
  return detail::run_forward(*impl_, ids, boundaries, &cache, all);
}

KvCache Model::make_cache(std::int64_t max_positions) const {
  const ModelConfig& c = impl_->config;
  if (!c.causal) {
    throw_usage("this ", c.family,
                " model sees whole sequences at once: it has no cache and does "
                "not generate");
  }
  if (max_positions < 1 || max_positions > c.max_positions) {
    throw_usage("cache of ", max_positions, " positions: the model takes 1 to ", c.max_positions);
  }
  return {impl_->loaded_layers(), c.n_kv_heads, c.head_dim, max_positions};
}

std::int64_t Model::weight_bytes_per_token() const { return impl_->weights->packed_bytes(); }

bool Model::streamed() const { return impl_->weights->streamed(); }

std::shared_ptr<const RopeTable> Model::Impl::rope(bool local, bool stretched,
                                                   std::int64_t positions) const {
  const RopeOptions& turning = local ? *config.local_rope : config.rope;
  const std::lock_guard lock(mutex_);
  std::shared_ptr<const RopeTable>& table = rope_[(local ? 2U : 0U) + (stretched ? 1U : 0U)];
  if (!table || table->positions() < positions) {
    // A new table, as other threads may be reading the old one.
    const std::int64_t size =
        std::min(std::max<std::int64_t>({positions, 512, table ? 2 * table->positions() : 0}),
                 config.max_positions);
    const std::vector<float> frequencies =
        rope_inverse_frequencies(turning, stretched ? turning.original_positions + 1 : 0);
    table = std::make_shared<const RopeTable>(frequencies, size,
                                              static_cast<float>(turning.cos_sin_scale));
  }
  return table;
}

Model::Impl::Lease Model::Impl::lease() const {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return Lease(std::make_unique<detail::Workspace>().release(), Return{this});
  Lease out(idle_.back().release(), Return{this});
  idle_.pop_back();
  return out;
}

void Model::Impl::Return::operator()(detail::Workspace* workspace) const {
  std::unique_ptr<detail::Workspace> owned(workspace);
  try {
    const std::lock_guard lock(impl->mutex_);
    impl->idle_.push_back(std::move(owned));
  } catch (...) {
    // Out of memory while putting scratch memory aside: it is freed instead.
  }
}

}  // namespace drrik
