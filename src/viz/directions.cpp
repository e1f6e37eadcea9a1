#include "viz/directions.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "drrik/base/interrupt.h"
#include "drrik/base/threads.h"
#include "drrik/ops/convert.h"
#include "drrik/ops/gemm.h"
#include "drrik/sae/relu_sae.h"
#include "drrik/sae/sparse_coder.h"

namespace drrik::detail {
namespace {

constexpr std::int64_t kTileElements = std::int64_t{1} << 24;  // 64 MiB of products

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

std::int64_t tile_rows(std::int64_t width) {
  return std::clamp<std::int64_t>(kTileElements / std::max<std::int64_t>(width, 1), 16, 512);
}

const auto kAny = [](std::int32_t) { return true; };

}  // namespace

Tensor decoder_directions(const Sae& sae) {
  Tensor out = Tensor::uninitialized(DType::kF32, {sae.d_sae(), sae.d_out()});
  const auto rows = out.mutable_mat<float>();
  parallel_for(sae.d_sae(), 32, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      const std::vector<float> direction = sae.decoder_direction(j);
      std::ranges::copy(direction, rows.row_ptr(j));
    }
  });
  return out;
}

std::vector<float> direction_norms(MatView<const float> directions) {
  std::vector<float> norms(at(directions.rows()));
  for (std::int64_t j = 0; j < directions.rows(); ++j) {
    norms[at(j)] = static_cast<float>(std::sqrt(sum_squares(directions.row(j))));
  }
  return norms;
}

void normalize_directions(MatView<float> directions, std::span<const float> norms) {
  parallel_for(directions.rows(), 32, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      const float norm = norms[at(j)];
      const bool fine = norm > 0.0F && std::isfinite(norm);
      for (float& value : directions.row(j)) value = fine ? value / norm : 0.0F;
    }
  });
}

std::vector<float> encoder_biases(const Sae& sae) {
  std::span<const float> bias;
  if (const auto* coder = dynamic_cast<const SparseCoder*>(&sae)) bias = coder->b_enc();
  if (const auto* relu = dynamic_cast<const ReluSae*>(&sae)) bias = relu->encoder_bias();
  if (bias.empty()) {
    return std::vector<float>(at(sae.d_sae()), std::numeric_limits<float>::quiet_NaN());
  }
  return {bias.begin(), bias.end()};
}

RankedLists nearest_features(MatView<const float> unit, std::int64_t k) {
  const std::int64_t h = unit.rows();
  RankedLists lists(h, k);
  if (h == 0) return lists;
  std::vector<bool> has_direction(at(h));
  for (std::int64_t j = 0; j < h; ++j) {
    has_direction[at(j)] = std::ranges::any_of(unit.row(j), [](float v) { return v != 0.0F; });
  }
  const Weight all = Weight::pack(
      Tensor::from<float>(std::span(unit.data(), at(h * unit.cols())), {h, unit.cols()}),
      Compute::kF32);
  const std::int64_t tile = std::min(tile_rows(h), h);
  Tensor products = Tensor::uninitialized(DType::kF32, {tile, h});
  for (std::int64_t first = 0; first < h; first += tile) {
    check_interrupt("comparing features");
    const std::int64_t n = std::min(tile, h - first);
    const auto cosines = products.mutable_mat<float>().rows_range(0, n);
    linear(unit.rows_range(first, n), all, {}, cosines);
    parallel_for(n, 4, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        if (!has_direction[at(first + i)]) continue;
        lists.keep(
            first + i, cosines.row(i), [](float v) { return v; },
            [&](std::int32_t j) { return j != first + i && has_direction[at(j)]; });
      }
    });
  }
  return lists;
}

std::optional<LogitLens> logit_lens(const Model& model, const Hook& hook,
                                    MatView<const float> directions, std::int64_t k,
                                    std::int64_t bins, std::string& why) {
  const ModelConfig& config = model.config();
  if (!writes_to_residual(hook.point)) {
    why = "none: what stands at " + std::string(hook_name(hook.point)) +
          " is not added to the residual stream";
    return std::nullopt;
  }
  if (config.head_transform) {
    why = "none: the model's head is not linear";
    return std::nullopt;
  }
  why = std::string("logits that a unit of the feature adds: decoder direction") +
        (hook.point == HookPoint::kMlpPost || hook.point == HookPoint::kAttnZ
             ? " through the output projection,"
             : "") +
        " times the final norm's weights" +
        (config.norm == NormKind::kLayerNorm ? " (its mean taken out)" : "") +
        " times the unembedding";
  const std::int64_t h = directions.rows();
  LogitLens lens;
  lens.promoted = RankedLists(h, k);
  lens.suppressed = RankedLists(h, k);
  if (bins > 0) lens.histograms.resize(at(h));
  const std::int64_t tile = std::min(tile_rows(config.vocab_size), std::max<std::int64_t>(h, 1));
  Tensor stream = Tensor::uninitialized(DType::kF32, {tile, config.d_model});
  Tensor logits = Tensor::uninitialized(DType::kF32, {tile, config.vocab_size});
  for (std::int64_t first = 0; first < h; first += tile) {
    check_interrupt("reading the logit lens");
    const std::int64_t n = std::min(tile, h - first);
    const auto residual = stream.mutable_mat<float>().rows_range(0, n);
    const auto rows = logits.mutable_mat<float>().rows_range(0, n);
    model.to_residual(hook, directions.rows_range(first, n), residual);
    model.unembed(residual, rows);
    parallel_for(n, 4, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const auto row = rows.row(i);
        lens.promoted.keep(
            first + i, row, [](float v) { return v; }, kAny);
        lens.suppressed.keep(
            first + i, row, [](float v) { return -v; }, kAny);
        if (bins == 0) continue;
        LensHistogram& histogram = lens.histograms[at(first + i)];
        const auto [low, high] = std::ranges::minmax(row);
        histogram.low = low;
        histogram.high = high;
        histogram.counts.assign(at(bins), 0);
        const float scale = high > low ? static_cast<float>(bins) / (high - low) : 0.0F;
        for (const float value : row) {
          const auto bin = static_cast<std::int64_t>((value - low) * scale);
          ++histogram.counts[at(std::min(bin, bins - 1))];
        }
      }
    });
  }
  return lens;
}

NeuronLists neurons_used(const Model& model, const Hook& hook, MatView<const float> directions,
                         std::int64_t k) {
  NeuronLists out;
  const std::int64_t h = directions.rows();
  const auto size = [](float v) { return std::fabs(v); };
  if (hook.point == HookPoint::kMlpPost) {
    out.meaning = "the decoder's weight on each neuron";
    out.lists = RankedLists(h, k);
    parallel_for(h, 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t j = begin; j < end; ++j) out.lists.keep(j, directions.row(j), size, kAny);
    });
    return out;
  }
  std::int64_t layer = hook.layer;
  switch (hook.point) {
    case HookPoint::kMlpOut:
    case HookPoint::kMlpAdd:
    case HookPoint::kResidPost:
      break;
    case HookPoint::kResidPre:
    case HookPoint::kResidMid:
      --layer;  // the MLP that wrote last
      break;
    default:
      layer = -1;
  }
  if (layer < 0) {
    out.meaning = "none: no MLP writes to " + std::string(hook_name(hook.point)) + " of layer " +
                  std::to_string(hook.layer);
    return out;
  }
  out.meaning = "cosine of the feature's direction with what each neuron of layer " +
                std::to_string(layer) + "'s MLP writes to the residual stream";
  out.lists = RankedLists(h, k);
  Tensor neurons = model.neuron_outputs(layer);
  normalize_directions(neurons.mutable_mat<float>(), direction_norms(neurons.mat<float>()));
  const std::int64_t width = neurons.dim(0);
  const Weight weight = Weight::pack(neurons, Compute::kF32);
  const std::int64_t tile = std::min(tile_rows(width), std::max<std::int64_t>(h, 1));
  Tensor stream = Tensor::uninitialized(DType::kF32, {tile, model.config().d_model});
  Tensor products = Tensor::uninitialized(DType::kF32, {tile, width});
  for (std::int64_t first = 0; first < h; first += tile) {
    check_interrupt("comparing features with neurons");
    const std::int64_t n = std::min(tile, h - first);
    const auto unit = stream.mutable_mat<float>().rows_range(0, n);
    model.to_residual(hook, directions.rows_range(first, n), unit);
    normalize_directions(unit, direction_norms(unit));
    const auto cosines = products.mutable_mat<float>().rows_range(0, n);
    linear(unit, weight, {}, cosines);
    parallel_for(n, 8, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        out.lists.keep(first + i, cosines.row(i), size, kAny);
      }
    });
  }
  return out;
}

}  // namespace drrik::detail
