// The forward pass: one block executor for every family, driven by ModelConfig.
//
// Rows of all sequences lie end to end; only attention and positions know where one ends. Steps
// that work row by row (norm, projection, non-linearity) go over chunks of rows small enough that
// what one step wrote is still in cache when the next reads it.

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "drrik/ops/attention.h"
#include "drrik/ops/convert.h"
#include "drrik/ops/norm.h"
#include "model/model_impl.h"
#include "model/row_places.h"

namespace drrik::detail {
namespace {

constexpr std::int64_t kChunkRows = 512;

std::uint16_t bit(HookPoint point) {
  return static_cast<std::uint16_t>(1U << static_cast<unsigned>(point));
}

class Pass {
 public:
  Pass(const Model::Impl& model, Workspace& workspace, std::span<const std::int32_t> ids,
       std::span<const std::int64_t> boundaries, KvCache* cache, const ForwardOptions& options)
      : model_(model),
        config_(model.config),
        weights_(*model.weights),
        ws_(workspace),
        ids_(ids),
        boundaries_(boundaries),
        cache_(cache),
        options_(options),
        n_(static_cast<std::int64_t>(ids.size())),
        past_(cache ? cache->length() : 0),
        bf16_(model.options.compute == Compute::kBF16) {}

  /// Checks everything before anything is computed or called.
  Tensor run() {
    check();
    plan_hooks();
    const bool logits = options_.logits != ForwardOptions::Logits::kNone;
    if (!logits && stop_layer_ < 0) return {};
    if (n_ == 0) {
      return logits ? Tensor::zeros<float>({0, config_.vocab_size}) : Tensor();
    }
    if (embed()) return {};
    for (layer_ = 0; layer_ < model_.loaded_layers(); ++layer_) {
      if (block()) return {};
    }
    if (cache_) cache_->set_length(past_ + n_);
    return head();
  }

 private:
  void check() const {
    const std::int64_t sequences = static_cast<std::int64_t>(boundaries_.size()) - 1;
    if (n_ > std::numeric_limits<std::int32_t>::max() - past_) {
      throw_data("batch of ", n_, " tokens, wanted fewer than 2^31");
    }
    const bool none = n_ == 0 && boundaries_.empty();
    if (!none && (sequences < 0 || boundaries_.front() != 0 || boundaries_.back() != n_)) {
      throw_data("batch of ", n_, " tokens: its boundaries must go from 0 to ", n_);
    }
    for (std::int64_t s = 0; s < sequences; ++s) {
      const std::int64_t length = boundaries_[idx(s + 1)] - boundaries_[idx(s)];
      if (length < 0) throw_data("batch: boundary ", s + 1, " lies before boundary ", s);
      if (past_ + length > config_.max_positions) {
        throw_data("sequence ", s, " is ", past_ + length, " tokens long, the model takes ",
                   config_.max_positions);
      }
    }
    if (cache_ && !config_.causal) throw_usage("cache used with a model that is not causal");
    if (cache_ && past_ + n_ > cache_->capacity()) {
      throw_data("sequence is ", past_ + n_, " tokens long, its cache holds ", cache_->capacity());
    }
    if (cache_ && cache_->layers() != model_.loaded_layers()) {
      throw_usage("cache of ", cache_->layers(), " layers used with a model of ",
                  model_.loaded_layers());
    }
    for (std::int64_t i = 0; i < n_; ++i) {
      const std::int32_t id = ids_[idx(i)];
      if (id < 0 || id >= config_.vocab_size) {
        throw_data("token ", i, " is ", id, ", the vocabulary has 0 to ", config_.vocab_size - 1);
      }
    }
    if (options_.logits != ForwardOptions::Logits::kNone && !weights_.has_head()) {
      throw_usage("logits asked of a model that was loaded without its output head");
    }
  }

  void plan_hooks() {
    if (!options_.hooks.empty() && !options_.on_hook) {
      throw_usage("hooks without a function to call at them");
    }
    ws_.hooks.assign(static_cast<std::size_t>(weights_.layers()), 0);
    for (const Hook& hook : options_.hooks) check_hook(model_, hook);
    for (const Hook& hook : options_.hooks) ws_.hooks[idx(hook.layer)] |= bit(hook.point);
    if (options_.logits != ForwardOptions::Logits::kNone) return;
    for (std::size_t i = 0; i < ws_.hooks.size(); ++i) {
      if (ws_.hooks[i] == 0) continue;
      stop_layer_ = static_cast<std::int64_t>(i);
      stop_point_ = ws_.hooks[i];
    }
    // The highest bit: points are declared in the order of the forward pass.
    while (stop_point_ & (stop_point_ - 1)) {
      stop_point_ = static_cast<std::uint16_t>(stop_point_ & (stop_point_ - 1));
    }
  }

  bool wants(HookPoint point) const { return (ws_.hooks[idx(layer_)] & bit(point)) != 0; }

  /// Calls the hook if there is one. True: nothing after this point is wanted.
  bool at(HookPoint point, MatView<float> activations) const {
    if (wants(point)) options_.on_hook(Hook{point, layer_}, activations);
    return stops_at(point);
  }
  bool stops_at(HookPoint point) const {
    return layer_ == stop_layer_ && stop_point_ == bit(point);
  }

  /// True: nothing after it is wanted.
  bool embed() {
    const EmbeddingWeights& w = weights_.embedding();
    resid_ = ws_.resid.mat<float>(n_, config_.d_model);
    places_ = place_rows(model_, ids_, boundaries_, past_, ws_);
    const bool projected = w.project_in.weight.defined();
    const auto tokens = projected ? ws_.out.mat<float>(n_, config_.embedding_width()) : resid_;
    embedding(w.table, ids_, tokens, static_cast<float>(config_.embedding_scale));
    if (at(HookPoint::kEmbed, tokens)) return true;
    if (projected) linear(tokens, w.project_in.weight, {}, resid_);
    if (!w.token_type.empty()) add_row(w.token_type, resid_);
    if (wants(HookPoint::kPosEmbed)) {
      const auto positions = ws_.out.mat<float>(n_, config_.d_model);
      embedding(w.positions, ws_.positions, positions);
      if (at(HookPoint::kPosEmbed, positions)) return true;
      add(positions, resid_);
    } else if (config_.positions == PositionKind::kLearned) {
      add_embedding(w.positions, ws_.positions, resid_);
    }
    if (w.norm.defined) normalize_stream(w.norm);
    return false;
  }

  /// Without a norm a copy.
  template <typename T>
  void normalize(MatView<const float> x, const Norm& norm, MatView<T> out) const {
    const auto eps = static_cast<float>(config_.norm_eps);
    if (!norm.defined) {
      if constexpr (std::is_same_v<T, float>) {
        copy(x, out);
      } else {
        convert(x, out);
      }
    } else if (config_.norm == NormKind::kLayerNorm) {
      layer_norm(x, norm.gamma, norm.beta, eps, out);
    } else {
      rms_norm(x, norm.gamma, {.eps = eps}, out);
    }
  }
  void normalize_stream(const Norm& norm) { normalize<float>(resid_, norm, resid_); }

  /// norm(x) for a product to read; x itself where there is nothing to do.
  template <typename T>
  MatView<const T> normed(MatView<const float> x, const Norm& norm) const {
    if constexpr (std::is_same_v<T, float>) {
      if (!norm.defined) return x;
    }
    const auto out = ws_.normed.mat<T>(x.rows(), x.cols());
    normalize<T>(x, norm, out);
    return out;
  }

  /// y = norm(x) Wᵀ + bias for rows [begin, begin + y.rows()) of the residual stream.
  void norm_linear(std::int64_t begin, const Norm& norm, const Projection& p,
                   MatView<float> y) const {
    const MatView<const float> x = resid_.rows_range(begin, y.rows());
    if (bf16_) {  // what the product would round its input to
      linear(normed<BF16>(x, norm), p.weight, p.bias, y);
    } else {
      linear(normed<float>(x, norm), p.weight, p.bias, y);
    }
  }

  /// Calls f(begin, rows) over chunks of the rows.
  template <typename F>
  void chunked(F&& f) const {
    for (std::int64_t begin = 0; begin < n_; begin += kChunkRows) {
      f(begin, std::min(kChunkRows, n_ - begin));
    }
  }

  /// The residual stream takes a module's product in; apart from it where a hook wants to see it or
  /// a norm follows. True: nothing after it is wanted.
  bool add_output(MatView<const float> x, const Projection& p, const Norm& norm) {
    if (!apart(HookPoint::kAttnOut, HookPoint::kAttnAdd, norm)) {
      linear(x, p.weight, p.bias, resid_, {.accumulate = true});
      return false;
    }
    const auto out = ws_.out.mat<float>(n_, config_.d_model);
    linear(x, p.weight, p.bias, out);
    return take_in(HookPoint::kAttnOut, HookPoint::kAttnAdd, out, norm);
  }
  bool apart(HookPoint made, HookPoint added, const Norm& norm) const {
    return norm.defined || wants(made) || wants(added);
  }
  bool take_in(HookPoint made, HookPoint added, MatView<float> out, const Norm& norm) {
    if (at(made, out)) return true;
    if (norm.defined) normalize<float>(out, norm, out);
    if (at(added, out)) return true;
    add(out, resid_);
    return false;
  }

  bool wired(NormWiring wiring) const { return config_.norm_wiring == wiring; }
  /// `norm` where it stands before its module.
  const Norm& before(const Norm& norm) const {
    return wired(NormWiring::kPre) || wired(NormWiring::kSandwich) ? norm : no_norm_;
  }

  bool block() {
    const std::shared_ptr<const LayerWeights> held = weights_.layer(layer_);
    const LayerWeights& w = *held;
    if (at(HookPoint::kResidPre, resid_)) return true;
    if (config_.parallel_residual) {
      // The MLP's input must be taken before attention adds to the residual stream.
      const bool only_mlp = stops_in_mlp() && !wants_attention();
      if (!only_mlp && project_and_mix(w)) return true;
      const auto input = mlp_input(w);
      if (!only_mlp && add_output(mixed(), w.attn_out, w.attn_out_norm)) return true;
      if (at(HookPoint::kMlpIn, input)) return true;
      if (feed_forward(w, input)) return true;
      return at(HookPoint::kResidPost, resid_);
    }
    if (wired(NormWiring::kPreStream)) normalize_stream(w.attn_norm);
    if (project_and_mix(w)) return true;
    if (add_output(mixed(), w.attn_out, w.attn_out_norm)) return true;
    if (at(HookPoint::kResidMid, resid_)) return true;
    if (wired(NormWiring::kPost)) normalize_stream(w.attn_norm);
    if (wired(NormWiring::kPreStream)) normalize_stream(w.mlp_norm);
    if (wants(HookPoint::kMlpIn)) {
      const auto input = mlp_input(w);
      if (at(HookPoint::kMlpIn, input)) return true;
      if (feed_forward(w, input)) return true;
    } else if (feed_forward(w, {})) {
      return true;
    }
    if (wired(NormWiring::kPost)) normalize_stream(w.mlp_norm);
    return at(HookPoint::kResidPost, resid_);
  }

  bool stops_in_mlp() const {
    return stops_at(HookPoint::kMlpIn) || stops_at(HookPoint::kMlpPost) ||
           stops_at(HookPoint::kMlpOut);
  }

  bool wants_attention() const {
    return wants(HookPoint::kQ) || wants(HookPoint::kK) || wants(HookPoint::kV) ||
           wants(HookPoint::kAttnZ) || wants(HookPoint::kAttnOut);
  }

  MatView<float> mlp_input(const LayerWeights& w) {
    const auto out = ws_.normed.mat<float>(n_, config_.d_model);
    normalize<float>(resid_, before(w.mlp_norm), out);
    return out;
  }

  /// Where project_and_mix() leaves the heads' weighted values.
  MatView<float> mixed() const { return ws_.mixed.mat<float>(n_, config_.q_dim()); }

  /// The attention up to its output projection. True: nothing after it is wanted.
  bool project_and_mix(const LayerWeights& w) {
    const std::int64_t q_dim = config_.q_dim();
    const std::int64_t kv_dim = config_.kv_dim();
    qkv_ = ws_.qkv.mat<float>(n_, q_dim + 2 * kv_dim);
    chunked([&](std::int64_t begin, std::int64_t rows) {
      norm_linear(begin, before(w.attn_norm), w.qkv, qkv_.rows_range(begin, rows));
    });
    const auto queries = qkv_.cols_range(0, q_dim);
    const auto keys = qkv_.cols_range(q_dim, kv_dim);
    const auto values = qkv_.cols_range(q_dim + kv_dim, kv_dim);
    if (at(HookPoint::kQ, queries) || at(HookPoint::kK, keys) || at(HookPoint::kV, values)) {
      return true;
    }
    if (config_.clip_qkv > 0.0) clamp(static_cast<float>(config_.clip_qkv), qkv_);
    const Heads<float> q(queries, config_.n_heads);
    const Heads<float> k(keys, config_.n_kv_heads);
    const Heads<float> v(values, config_.n_kv_heads);
    if (w.q_norm.defined) {
      normalize_heads(q, queries, w.q_norm);
      normalize_heads(k, keys, w.k_norm);
    }
    const bool local = config_.local_rope && config_.window(layer_) > 0;
    for (const RopeRun& run : local ? places_.local_ropes : places_.ropes) {
      apply_rope(q.rows_range(run.begin, run.rows), k.rows_range(run.begin, run.rows), *run.table,
                 std::span(ws_.positions).subspan(idx(run.begin), idx(run.rows)));
    }

    const Heads<float> out(mixed(), config_.n_heads);
    AttentionOptions options;
    options.compute = model_.options.compute;
    options.scale = static_cast<float>(attention_scale(config_, layer_));
    options.causal = config_.causal;
    options.window = config_.window(layer_);
    options.soft_cap = static_cast<float>(config_.attention_soft_cap);
    if (config_.rounded_alibi) {
      options.key_bias = places_.key_bias;
    } else {
      options.alibi_slopes = model_.slopes;
    }
    if (!cache_) {
      attention(q, k, v, boundaries_, options, out);
    } else {
      const Heads<float> all_k = cache_->keys(layer_, past_ + n_);
      const Heads<float> all_v = cache_->values(layer_, past_ + n_);
      append(k, all_k);
      append(v, all_v);
      attention_cached(q, all_k, all_v, options, out);
    }
    return at(HookPoint::kAttnZ, mixed());
  }

  /// `all` is what `heads` views.
  void normalize_heads(const Heads<float>& heads, MatView<float> all, const Norm& norm) const {
    const auto eps = static_cast<float>(config_.norm_eps);
    if (config_.qk_norm == QkNorm::kWhole) {
      normalize<float>(all, norm, all);
    } else if (config_.norm == NormKind::kLayerNorm) {
      layer_norm(heads, norm.gamma, norm.beta, eps);
    } else {
      rms_norm(heads, norm.gamma, {.eps = eps});
    }
  }

  void append(const Heads<float>& from, const Heads<float>& cache) const {
    for (std::int64_t h = 0; h < from.heads; ++h) {
      for (std::int64_t r = 0; r < n_; ++r) {
        std::copy_n(from.at(r, h), from.dim, cache.at(past_ + r, h));
      }
    }
  }

  /// The MLP, from `input` or, where that is empty, from the residual stream chunk by chunk.
  bool feed_forward(const LayerWeights& w, MatView<float> input) {
    const std::int64_t f = config_.d_mlp;
    const bool apart_out = apart(HookPoint::kMlpOut, HookPoint::kMlpAdd, w.mlp_out_norm);
    const auto out = apart_out ? ws_.out.mat<float>(n_, config_.d_model) : resid_;
    const LinearOptions onto{.accumulate = !apart_out};
    if (wants(HookPoint::kMlpPost)) {
      const auto post = ws_.post.mat<float>(n_, f);
      chunked([&](std::int64_t begin, std::int64_t rows) {
        neurons<float>(w, input, begin, post.rows_range(begin, rows));
      });
      if (at(HookPoint::kMlpPost, post)) return true;
      linear(post, w.down.weight, w.down.bias, out, onto);
    } else if (bf16_) {  // what the product would round its input to
      neurons_down<BF16>(w, input, out, onto);
    } else {
      neurons_down<float>(w, input, out, onto);
    }
    return apart_out && take_in(HookPoint::kMlpOut, HookPoint::kMlpAdd, out, w.mlp_out_norm);
  }

  template <typename T>
  void neurons_down(const LayerWeights& w, MatView<float> input, MatView<float> out,
                    LinearOptions onto) {
    chunked([&](std::int64_t begin, std::int64_t rows) {
      const auto post = ws_.post.mat<T>(rows, config_.d_mlp);
      neurons<T>(w, input, begin, post);
      linear(MatView<const T>(post), w.down.weight, w.down.bias, out.rows_range(begin, rows), onto);
    });
  }

  /// What follows the non-linearity, for rows [begin, begin + post.rows()).
  template <typename T>
  void neurons(const LayerWeights& w, MatView<float> input, std::int64_t begin,
               MatView<T> post) const {
    const std::int64_t f = config_.d_mlp;
    const Norm& norm = before(w.mlp_norm);
    if (config_.gated_mlp && !input.data()) {
      gated_linear(normed<T>(resid_.rows_range(begin, post.rows()), norm), w.up.weight, w.up.bias,
                   config_.activation, post);
      return;
    }
    const auto up = ws_.up.mat<float>(post.rows(), config_.gated_mlp ? 2 * f : f);
    if (input.data()) {
      linear(input.rows_range(begin, post.rows()), w.up.weight, w.up.bias, up);
    } else {
      norm_linear(begin, norm, w.up, up);
    }
    if (config_.gated_mlp) {
      gate_mul(config_.activation, up.cols_range(0, f), up.cols_range(f, f), post);
    } else {
      activate(config_.activation, up, post);
    }
  }

  Tensor head() {
    MatView<float> rows = resid_;
    if (options_.logits == ForwardOptions::Logits::kLast) {
      const auto sequences = static_cast<std::int64_t>(boundaries_.size()) - 1;
      rows = ws_.last.mat<float>(sequences, config_.d_model);
      for (std::int64_t s = 0; s < sequences; ++s) {
        const std::int64_t end = boundaries_[idx(s + 1)];
        if (end == boundaries_[idx(s)]) {
          throw_data("sequence ", s, " is empty and has no last row to give logits of");
        }
        std::copy_n(resid_.row_ptr(end - 1), config_.d_model, rows.row_ptr(s));
      }
    }
    Tensor out = Tensor::uninitialized(DType::kF32, {rows.rows(), config_.vocab_size});
    const MatView<float> logits = out.mutable_mat<float>();
    const std::shared_ptr<const HeadWeights> held = weights_.head();
    const HeadWeights& w = *held;
    if (w.final_norm.defined) normalize<float>(rows, w.final_norm, rows);
    if (config_.head_transform) {
      const auto made = ws_.out.mat<float>(rows.rows(), config_.d_model);
      linear(rows, w.dense.weight, w.dense.bias, made);
      activate(*config_.head_transform, made, made);
      normalize<float>(made, w.norm, made);
      rows = made;
    }
    if (w.project_out.weight.defined()) {
      const auto narrow = ws_.up.mat<float>(rows.rows(), config_.embedding_width());
      linear(rows, w.project_out.weight, {}, narrow);
      rows = narrow;
    }
    linear(rows, w.matrix.weight, w.matrix.bias, logits);
    if (config_.logit_soft_cap > 0.0) {
      const auto cap = static_cast<float>(config_.logit_soft_cap);
      scale(1.0F / cap, logits);
      activate(Activation::kTanh, logits, logits);
      scale(cap, logits);
    }
    return out;
  }

  static std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }

  const Model::Impl& model_;
  const ModelConfig& config_;
  const Weights& weights_;
  Workspace& ws_;
  std::span<const std::int32_t> ids_;
  std::span<const std::int64_t> boundaries_;
  KvCache* cache_;
  const ForwardOptions& options_;
  std::int64_t n_;
  std::int64_t past_;
  bool bf16_;
  Norm no_norm_;
  RowPlaces places_;
  std::int64_t layer_ = 0;
  std::int64_t stop_layer_ = -1;
  std::uint16_t stop_point_ = 0;
  MatView<float> resid_;
  MatView<float> qkv_;
};

}  // namespace

Tensor run_forward(const Model::Impl& model, std::span<const std::int32_t> ids,
                   std::span<const std::int64_t> boundaries, KvCache* cache,
                   const ForwardOptions& options) {
  const Model::Impl::Lease workspace = model.lease();
  return Pass(model, *workspace, ids, boundaries, cache, options).run();
}

}  // namespace drrik::detail
