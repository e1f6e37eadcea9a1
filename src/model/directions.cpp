// What directions become on their way to the logits, by the linear maps alone.

#include <algorithm>
#include <numeric>

#include "drrik/base/threads.h"
#include "model/model_impl.h"

namespace drrik {
namespace {

using detail::LayerWeights;
using detail::Norm;

void expect(MatView<const float> x, std::int64_t in, MatView<float> out, std::int64_t width) {
  if (x.cols() == in && out.cols() == width && out.rows() == x.rows()) return;
  throw_data("directions: [", x.rows(), ", ", x.cols(), "] into [", out.rows(), ", ", out.cols(),
             "], wanted [n, ", in, "] into [n, ", width, "]");
}

/// The linear part of a norm, its division left out.
void scale_by(const Norm& norm, NormKind kind, MatView<const float> x, MatView<float> out) {
  parallel_for(x.rows(), 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const auto from = x.row(r);
      const auto to = out.row(r);
      float mean = 0.0F;
      if (norm.defined && kind == NormKind::kLayerNorm) {
        const double sum = std::accumulate(from.begin(), from.end(), 0.0);
        mean = static_cast<float>(sum / static_cast<double>(from.size()));
      }
      for (std::size_t c = 0; c < from.size(); ++c) {
        to[c] = (from[c] - mean) * (norm.gamma.empty() ? 1.0F : norm.gamma[c]);
      }
    }
  });
}

}  // namespace

bool writes_to_residual(HookPoint point) {
  switch (point) {
    case HookPoint::kQ:
    case HookPoint::kK:
    case HookPoint::kV:
    case HookPoint::kMlpIn:
    case HookPoint::kEmbed:
      return false;
    default:
      return true;
  }
}

void Model::to_residual(const Hook& hook, MatView<const float> x, MatView<float> out) const {
  check_hook(hook);
  if (!writes_to_residual(hook.point)) {
    throw_usage("hook '", hook_name(hook.point), "' is not added to the residual stream");
  }
  const ModelConfig& c = impl_->config;
  expect(x, hook_width(hook.point), out, c.d_model);
  const bool from_attention = hook.point == HookPoint::kAttnZ || hook.point == HookPoint::kAttnOut;
  const bool from_mlp = hook.point == HookPoint::kMlpPost || hook.point == HookPoint::kMlpOut;
  if (!from_attention && !from_mlp) {
    scale_by({}, c.norm, x, out);
    return;
  }
  const std::shared_ptr<const LayerWeights> layer = impl_->weights->layer(hook.layer);
  if (hook.point == HookPoint::kAttnZ) {
    linear(x, layer->attn_out.weight, {}, out);
    x = out;
  } else if (hook.point == HookPoint::kMlpPost) {
    linear(x, layer->down.weight, {}, out);
    x = out;
  }
  scale_by(from_mlp ? layer->mlp_out_norm : layer->attn_out_norm, c.norm, x, out);
}

void Model::unembed(MatView<const float> x, MatView<float> out) const {
  const ModelConfig& c = impl_->config;
  if (!impl_->weights->has_head()) throw_usage("the model was loaded without its output head");
  if (c.head_transform) {
    throw_usage("a ", c.family, " model's head is not linear: directions have no logits of their ",
                "own");
  }
  expect(x, c.d_model, out, c.vocab_size);
  const auto head = impl_->weights->head();
  Tensor scaled = Tensor::uninitialized(DType::kF32, {x.rows(), c.d_model});
  scale_by(head->final_norm, c.norm, x, scaled.mutable_mat<float>());
  if (head->project_out.weight.defined()) {
    Tensor projected = Tensor::uninitialized(DType::kF32, {x.rows(), c.embedding_width()});
    linear(scaled.mat<float>(), head->project_out.weight, {}, projected.mutable_mat<float>());
    scaled = std::move(projected);
  }
  linear(scaled.mat<float>(), head->matrix.weight, {}, out);
}

Tensor Model::neuron_outputs(std::int64_t layer) const {
  check_hook({HookPoint::kMlpPost, layer});
  const ModelConfig& c = impl_->config;
  const std::shared_ptr<const LayerWeights> held = impl_->weights->layer(layer);
  Tensor out = Tensor::uninitialized(DType::kF32, {c.d_mlp, c.d_model});
  const MatView<float> rows = out.mutable_mat<float>();
  std::vector<float> row(static_cast<std::size_t>(c.d_mlp));
  for (std::int64_t r = 0; r < c.d_model; ++r) {
    held->down.weight.row(r, row);
    for (std::int64_t n = 0; n < c.d_mlp; ++n) rows(n, r) = row[static_cast<std::size_t>(n)];
  }
  scale_by(held->mlp_out_norm, c.norm, rows, rows);
  return out;
}

}  // namespace drrik
