// The forward half of a coder's step, up to the gradients of its entries.

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "drrik/base/error.h"
#include "train/coder_stepper.h"
#include "train/ranks.h"
#include "train/step_parts.h"

namespace drrik {

using step::at;
using step::grow;
using step::packed;
using step::shaped;
using step::Stopwatch;
using step::subtract_row;
using step::sum_of;

// xc_, target_ and what is measured on them.
void CoderStepper::prepare(MatView<float> x, MatView<const float> y) {
  const SparseCoderConfig& config = coder_.config();
  const auto b_dec = std::as_const(coder_).b_dec();
  if (x.cols() != config.d_in || x.rows() < 1) {
    throw_data("training: rows [", x.rows(), ", ", x.cols(), "], the coder takes ", config.d_in);
  }
  if (y.empty()) {
    if (config.output_width() != config.d_in) {
      throw_data("training: a coder of width ", config.d_in, " to ", config.output_width(),
                 " needs its targets");
    }
  } else if (y.rows() != x.rows() || y.cols() != config.output_width()) {
    throw_data("training: targets [", y.rows(), ", ", y.cols(), "], wanted [", x.rows(), ", ",
               config.output_width(), "]");
  }
  const bool shared = y.empty() && config.apply_b_dec_to_input;
  if (!shared) {
    const auto target = shaped(target_holder_, x.rows(), config.output_width());
    subtract_row(y.empty() ? MatView<const float>(x) : y, b_dec, target);
    target_ = target;
  }
  if (config.apply_b_dec_to_input) subtract_row(x, b_dec, x);
  xc_ = x;
  if (shared) target_ = x;
  total_variance_ = variance_of(target_, context_.rows, ranks_);
  if (config.skip) {  // the sparse part reconstructs what the skip connection leaves
    const auto skipped = shaped(skipped_, x.rows(), config.output_width());
    matmul(xc_, Trans::kNo, std::as_const(coder_).skip(), Trans::kYes, skipped);
    axpy(-1.0F, skipped, target_holder_.mutable_mat<float>());
  }
  const auto d_out = static_cast<double>(config.output_width());
  switch (training_.reconstruction) {
    case CoderTraining::Reconstruction::kSum:
      weight_ = 1.0;
      break;
    case CoderTraining::Reconstruction::kMean:
      weight_ = 1.0 / d_out;
      break;
    case CoderTraining::Reconstruction::kFvu:
      weight_ = total_variance_ > 0 ? 1.0 / total_variance_ : 0.0;
      break;
  }
}

// Fills entries_ with the pre-activations that count, and shows the dead ones to revival_.
void CoderStepper::select(MatView<const float> xc, std::vector<std::int64_t> dead) {
  Stopwatch watch;
  const std::int64_t rows = xc.rows();
  const std::int64_t h = coder_.d_sae();
  const auto b_enc = std::as_const(coder_).b_enc();
  if (coder_.config().rescale_by_decoder_norm) settle();  // every row's norm counts
  selection_ = coder_.variant().select_batch(coder_, context_);
  if (together()) selection_.total = selection_.k * context_.rows;
  selector_.begin(selection_, rows, h, entries_);
  revival_.begin(std::move(dead), selection_.scale, rows);
  const bool bf16 = training_.compute == Compute::kBF16;
  const Weight batch = packed(xc, packing_, training_.compute);
  watch.lap(phases_.pack);
  const auto buffer = shaped(pre_, std::min(chunk_latents(rows), h), rows);
  each_chunk(rows, [&](std::int64_t first, std::int64_t count) {
    const auto pre = buffer.rows_range(0, count);
    if (bf16) {
      linear(rounded_encoder_.mat<BF16>().rows_range(first, count), batch, {}, pre);
    } else {
      linear(std::as_const(coder_).encoder().rows_range(first, count), batch, {}, pre);
    }
    watch.lap(phases_.product);
    selector_.add(pre, b_enc.subspan(at(first), at(count)), first);
    revival_.offer(pre, first);
    watch.lap(phases_.select);
  });
  SaeFindCut cut;
  if (together() && selection_.kind == SaeSelection::Kind::kBatchTopK) {
    cut = [this](std::span<const float> values) {
      return find_cut(values, selection_.total, ranks_);
    };
  }
  // Ranking has its entries by row anyway; what a threshold lets through may be too much for that.
  const bool ranked = selection_.kind != SaeSelection::Kind::kThreshold;
  if (ranked) selector_.finish(true, cut);
  const double density = total(static_cast<double>(entries_.count)) /
                         (static_cast<double>(context_.rows) * static_cast<double>(h));
  sparse_ = training_.path == StepPath::kSparse || !group_ends_.empty() ||
            (training_.path == StepPath::kAuto && density < step::kSparseBelow);
  if (!ranked) selector_.finish(sparse_);
  watch.lap(phases_.order);
}

void CoderStepper::activate() {
  const SaeVariant& variant = coder_.variant();
  const bool gates = variant.gate_values();
  grow(entries_.value, entries_.count);
  grow(entries_.grad, entries_.count);
  if (gates) {
    grow(gate_.value, entries_.count);
    grow(gate_.grad, entries_.count);
  }
  active_.assign(at(coder_.d_sae()), 0);
  parallel_for(coder_.d_sae(), 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      const std::int64_t first = entries_.start[at(j)];
      const auto n = at(entries_.start[at(j + 1)] - first);
      if (n == 0) continue;
      LatentEntries e;
      e.latent = j;
      e.pre = {entries_.pre.data() + first, n};
      e.value = {entries_.value.data() + first, n};
      variant.activate(coder_, j, e.pre, e.value);
      if (gates) {
        e.gate_value = {gate_.value.data() + first, n};
        variant.gate(e);
      }
      for (const float v : e.value) active_[at(j)] += v != 0.0F ? 1 : 0;
    }
  });
  ranks_.sum(std::span(active_));
  std::int64_t active = 0;
  for (const std::int64_t n : active_) active += n;
  context_.l0 = static_cast<double>(active) / static_cast<double>(context_.rows);
  if (sparsity_.jumprelu == SparsityOptions::JumpRelu::kQuadratic) {
    row_l0_.assign(at(rows_), 0);
    for (std::int64_t e = 0; e < entries_.count; ++e) {
      row_l0_[at(entries_.row[at(e)])] += entries_.value[at(e)] != 0.0F ? 1 : 0;
    }
    context_.row_l0 = row_l0_;
  }
}

// residual_ = dL/dŷ of each group and row, entries_.grad = dL/df.
void CoderStepper::decode_sparse() {
  const std::int64_t rows = rows_;
  const double scale = 2.0 * weight_ / static_cast<double>(context_.rows);
  const auto decoder = std::as_const(coder_).decoder();
  if (group_ends_.empty()) {
    sae_decode_active(entries_, decoder, target_, static_cast<float>(scale), 0.0F,
                      shaped(residual_, rows, target_.cols()), error_, l1_sums_);
    return;
  }
  const auto groups = static_cast<std::int64_t>(group_ends_.size());
  std::vector<float> scales(at(groups));
  for (std::size_t g = 0; g < scales.size(); ++g) {
    const double w = training_.group_weights.empty() ? 1.0 : training_.group_weights[g];
    scales[g] = static_cast<float>(w * scale);
  }
  group_errors_.assign(at(groups * rows), 0.0);
  sae_decode_groups(entries_, decoder, target_, group_ends_, scales,
                    shaped(residual_, groups * rows, target_.cols()),
                    MatView<double>(group_errors_.data(), groups, rows));
  std::copy_n(group_errors_.end() - rows, rows, error_.begin());
  for (std::int64_t r = 0; r < rows; ++r) {
    double sum = 0.0;
    for (std::int64_t e = entries_.row_start[at(r)]; e < entries_.row_start[at(r + 1)]; ++e) {
      sum += static_cast<double>(entries_.value[at(entries_.position[at(e)])]);
    }
    l1_sums_[at(r)] = sum;
  }
}

void CoderStepper::decode_dense() {
  const std::int64_t rows = rows_;
  const auto scale = static_cast<float>(2.0 * weight_ / static_cast<double>(context_.rows));
  const auto decoder = std::as_const(coder_).decoder();
  const auto residual = shaped(residual_, rows, target_.cols());
  const auto buffer = shaped(dense_, std::min(chunk_latents(rows), coder_.d_sae()), rows);
  const std::span<const float> values = entries_.value;
  each_chunk(rows, [&](std::int64_t first, std::int64_t count) {
    const auto f = buffer.rows_range(0, count);
    step::scatter(entries_, first, values, f);
    matmul(f, Trans::kYes, decoder.rows_range(first, count), Trans::kNo, residual,
           first > 0 ? 1.0F : 0.0F);
  });
  sae_residual(residual, target_, scale, error_);
  const Weight batch = packed(residual, packing_, Compute::kF32);
  each_chunk(rows, [&](std::int64_t first, std::int64_t count) {
    const auto g = buffer.rows_range(0, count);
    linear(decoder.rows_range(first, count), batch, {}, g);
    step::gather(entries_, first, g, entries_.grad);
  });
  // Σ f of each latent; only the sum over the batch is used.
  l1_sums_.assign(at(coder_.d_sae()), 0.0);
  parallel_for(coder_.d_sae(), 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      for (std::int64_t e = entries_.start[at(j)]; e < entries_.start[at(j + 1)]; ++e) {
        l1_sums_[at(j)] += static_cast<double>(entries_.value[at(e)]);
      }
    }
  });
}

void CoderStepper::decode(CoderLoss& loss) {
  const auto n = static_cast<double>(context_.rows);
  error_.assign(at(rows_), 0.0);
  l1_sums_.assign(at(rows_), 0.0);
  sparse_ ? decode_sparse() : decode_dense();
  loss.mse = total(error_) / n;
  loss.l1 = total(l1_sums_) / n;
  loss.reconstruction = weight_ * loss.mse;
  if (!group_ends_.empty()) {
    loss.reconstruction = 0.0;
    for (std::size_t g = 0; g < group_ends_.size(); ++g) {
      const double w = training_.group_weights.empty() ? 1.0 : training_.group_weights[g];
      loss.reconstruction +=
          w * weight_ * total(std::span(group_errors_).subspan(g * at(rows_), at(rows_))) / n;
    }
  }
  loss.fvu =
      total_variance_ > 0 ? loss.mse / total_variance_ : std::numeric_limits<double>::quiet_NaN();
}

// The gate's own reconstruction: the same with the gate's values, no gradient to the decoder.
void CoderStepper::gate_reconstruction(CoderLoss& loss) {
  if (!coder_.variant().gate_values()) return;
  std::vector<double> error(at(rows_), 0.0);
  std::vector<double> sums(at(rows_), 0.0);
  const auto swap = [&] {
    std::swap(entries_.value, gate_.value);
    std::swap(entries_.grad, gate_.grad);
    std::swap(residual_, gate_residual_);
    std::swap(error_, error);
    std::swap(l1_sums_, sums);
  };
  swap();
  sparse_ ? decode_sparse() : decode_dense();
  swap();
  loss.aux += weight_ * total(error) / static_cast<double>(context_.rows);
}

// The auxiliary loss, of what the whole coder leaves over: e = y − ŷ.
void CoderStepper::aux_loss(CoderLoss& loss) {
  if (revival_.latents().empty()) return;
  Stopwatch watch;
  const double last_weight = training_.group_weights.empty() ? 1.0 : training_.group_weights.back();
  const double scale = 2.0 * weight_ / static_cast<double>(context_.rows) * last_weight;
  const auto e = shaped(left_over_, rows_, target_.cols());
  copy(residual_.mat<float>().rows_range(residual_.dim(0) - rows_, rows_), e);
  drrik::scale(static_cast<float>(scale > 0 ? -1.0 / scale : 0.0), e);
  loss.aux += total(revival_.run(xc_, e, context_.rows, ranks_));
  watch.lap(phases_.aux);
}

void CoderStepper::backward(CoderLoss& loss) {
  Stopwatch watch;
  const std::int64_t h = coder_.d_sae();
  const SaeVariant& variant = coder_.variant();
  const bool gates = variant.gate_values();
  const bool norms = variant.needs_decoder_norm(sparsity_);
  const std::int64_t parts = coder_.config().parts;
  const std::int64_t width = coder_.d_out() / parts;
  bias_grad_.assign(at(h), 0.0F);
  norm_grad_.assign(norms ? at(h) : 0, 0.0F);
  penalties_.assign(at(h), 0.0);
  for (auto& grads : parameter_grads_) grads.assign(at(h), 0.0F);
  const auto decoder = std::as_const(coder_).decoder();
  parallel_for(h, 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      const std::int64_t first = entries_.start[at(j)];
      const auto n = at(entries_.start[at(j + 1)] - first);
      if (n == 0) continue;
      LatentEntries e;
      e.latent = j;
      e.row = {entries_.row.data() + first, n};
      e.pre = {entries_.pre.data() + first, n};
      e.value = {entries_.value.data() + first, n};
      e.grad = {entries_.grad.data() + first, n};
      if (gates) {
        e.gate_value = {gate_.value.data() + first, n};
        e.gate_grad = {gate_.grad.data() + first, n};
      }
      if (norms) {
        double norm = 0.0;
        for (std::int64_t p = 0; p < parts; ++p) {
          norm += std::sqrt(sum_squares(decoder.row(j).subspan(at(p * width), at(width))));
        }
        e.decoder_norm = static_cast<float>(norm);
      }
      LatentGradients out;
      variant.backward(coder_, context_, e, out);
      penalties_[at(j)] = out.penalty;
      bias_grad_[at(j)] = out.bias;
      if (norms) norm_grad_[at(j)] = out.norm;
      for (std::size_t p = 0; p < parameter_grads_.size(); ++p) {
        parameter_grads_[p][at(j)] = out.parameter[p];
      }
    }
  });
  // A penalty by rows is in parts, as its rows are; one on the batch's mean is whole already.
  double by_latents = sum_of(penalties_);
  if (!context_.row_l0.empty()) by_latents += variant.batch_penalty(context_);
  loss.sparsity = total(by_latents);
  if (context_.row_l0.empty()) loss.sparsity += variant.batch_penalty(context_);
  watch.lap(phases_.backward);
}

CoderLoss CoderStepper::forward(MatView<float> x, MatView<const float> y, std::int64_t number,
                                std::span<const std::int64_t> last_active) {
  Stopwatch watch;
  const std::int64_t h = coder_.d_sae();
  if (last_active.size() != at(h)) {
    throw_data("training: activity of ", last_active.size(), " latents, the coder has ", h);
  }
  CoderLoss loss;
  dead_mask_.assign(at(h), 0);
  std::vector<std::int64_t> dead;
  for (std::int64_t j = 0; j < h; ++j) {
    if (number - last_active[at(j)] <= training_.dead_steps) continue;
    dead_mask_[at(j)] = 1;
    dead.push_back(j);
  }
  loss.dead = static_cast<std::int64_t>(dead.size());
  if (training_.aux.coefficient == 0.0) dead.clear();
  context_ = {};
  context_.sparsity = &sparsity_;
  rows_ = x.rows();
  context_.rows = rows_;
  ranks_.sum(std::span(&context_.rows, 1));
  context_.dead = dead_mask_;
  prepare(x, y);
  watch.lap(phases_.pack);
  select(xc_, std::move(dead));
  watch = Stopwatch();
  activate();
  watch.lap(phases_.select);
  sae_catch_up(entries_, revival_.latents(), training_.unit_decoder, sweep_state(), deferred_);
  watch.lap(phases_.sweep);
  decode(loss);
  loss.l0 = context_.l0;
  gate_reconstruction(loss);
  watch.lap(phases_.decode);
  aux_loss(loss);
  backward(loss);
  loss.loss = loss.reconstruction + loss.sparsity + loss.aux;
  return loss;
}

}  // namespace drrik
