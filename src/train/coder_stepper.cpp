#include "train/coder_stepper.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "drrik/base/error.h"
#include "train/step_parts.h"

namespace drrik {
namespace {

// Clipping divides by the norm and this, as torch.nn.utils.clip_grad_norm_.
constexpr double kClipEps = 1e-6;

}  // namespace

using step::at;
using step::rows_grain;
using step::shaped;
using step::Stopwatch;
using step::sum_of;

const Tensor& CoderGradients::at(std::string_view name) const {
  for (const auto& [known, tensor] : named) {
    if (known == name) return tensor;
  }
  throw_usage("no gradient '", name, "'");
}

CoderStepper::CoderStepper(SparseCoder& coder, const CoderTraining& training, Communicator& ranks)
    : coder_(coder),
      training_(training),
      ranks_(ranks),
      deferred_(coder.d_sae()),
      revival_(training.aux, coder) {
  training.validate(coder.config());
  for (const NamedTensor& p : std::as_const(coder).parameters()) {
    moments_.push_back(
        {p.name, Tensor::zeros<float>(p.tensor->shape()), Tensor::zeros<float>(p.tensor->shape())});
  }
  const std::int64_t blocks = (coder.d_sae() + kSaeSweepBlock - 1) / kSaeSweepBlock;
  if (coder.config().apply_b_dec_to_input) centring_ = Tensor::zeros<float>({blocks, coder.d_in()});
  if (training.compute == Compute::kBF16) {
    rounded_encoder_ = Tensor::uninitialized(DType::kBF16, {coder.d_sae(), coder.d_in()});
  }
  group_ends_ = coder.config().groups;
  if (group_ends_.size() == 1) group_ends_.clear();
  parameter_grads_.resize(coder.variant().parameters().size());
  weights_changed();
}

double CoderStepper::total(double part) const {
  ranks_.sum(std::span(&part, 1));
  return part;
}

double CoderStepper::total(std::span<const double> parts) const { return total(sum_of(parts)); }

void CoderStepper::weights_changed() {
  if (rounded_encoder_.defined()) {
    convert(std::as_const(coder_).encoder(), rounded_encoder_.mutable_mat<BF16>());
  }
}

CoderStepper::Moments& CoderStepper::moments(std::string_view name) {
  for (Moments& m : moments_) {
    if (m.name == name) return m;
  }
  throw_usage("no parameter '", name, "'");
}

SaeSweepState CoderStepper::sweep_state() {
  Moments& e = moments("W_enc");
  Moments& d = moments("W_dec");
  Moments& b = moments("b_enc");
  SaeSweepState state{coder_.encoder(), e.m.mutable_mat<float>(),  e.v.mutable_mat<float>(),
                      coder_.decoder(), d.m.mutable_mat<float>(),  d.v.mutable_mat<float>(),
                      coder_.b_enc(),   b.m.mutable_data<float>(), b.v.mutable_data<float>()};
  if (rounded_encoder_.defined()) state.rounded_encoder = rounded_encoder_.mutable_mat<BF16>();
  return state;
}

MatView<float> CoderStepper::centring() {
  return centring_.defined() ? centring_.mutable_mat<float>() : MatView<float>();
}

// Latents worked on at a time: their [chunk, B] floats stay in cache, and the first chunks tell
// early what a row's k largest must exceed.
std::int64_t CoderStepper::chunk_latents(std::int64_t rows) const {
  const std::int64_t fit =
      std::min<std::int64_t>((std::int64_t{1} << 20) / std::max<std::int64_t>(rows, 1), 512);
  return std::clamp<std::int64_t>(fit / kSaeSweepBlock * kSaeSweepBlock, 4 * kSaeSweepBlock,
                                  std::max(coder_.d_sae(), 4 * kSaeSweepBlock));
}

SaeSweepBatch CoderStepper::sweep_batch() const {
  SaeSweepBatch batch;
  batch.entries = &entries_;
  batch.xc = xc_;
  batch.gx = residual_.mat<float>();
  batch.group_ends = group_ends_;
  batch.bias_grad = bias_grad_;
  batch.norm_grad = norm_grad_;
  batch.parts = coder_.config().parts;
  revival_.add_to(batch);
  return batch;
}

// What the output alone says about b_dec and W_skip.
void CoderStepper::output_gradients() {
  b_dec_grad_.resize(at(coder_.d_out()));
  const auto gx = residual_.mat<float>().rows_range(0, rows_);
  sum_rows(gx, b_dec_grad_);
  if (coder_.config().skip) {
    matmul(gx, Trans::kYes, xc_, Trans::kNo, shaped(skip_grad_, coder_.d_out(), coder_.d_in()));
  }
}

// What reaches b_dec through the input, as the sweep left it.
void CoderStepper::add_centring() {
  if (!centring_.defined()) return;
  const auto blocks = centring_.mat<float>();
  for (std::int64_t b = 0; b < blocks.rows(); ++b) {
    axpy(-1.0F, blocks.row(b), std::span(b_dec_grad_));
  }
}

// Gradients of all parameters summed over the ranks, as matrices: encoder_grad_, decoder_grad_,
// summed_bias_grad_, b_dec_grad_ (whole), skip_grad_, parameter_grads_. Returns their Σ g², without
// the part of a decoder row's that is parallel to the row where that is projected out.
double CoderStepper::sum_gradients(const SaeSweepBatch& batch) {
  const auto encoder = shaped(encoder_grad_, coder_.d_sae(), coder_.d_in());
  const auto decoder = shaped(decoder_grad_, coder_.d_sae(), coder_.d_out());
  summed_bias_grad_.resize(at(coder_.d_sae()));
  sae_sweep_gradients(batch, training_.unit_decoder, sweep_state(), encoder, decoder,
                      summed_bias_grad_, centring());
  add_centring();
  ranks_.sum(encoder_grad_.mutable_data<float>());
  ranks_.sum(decoder_grad_.mutable_data<float>());
  ranks_.sum(std::span(summed_bias_grad_));
  ranks_.sum(std::span(b_dec_grad_));
  for (auto& grads : parameter_grads_) ranks_.sum(std::span(grads));
  if (coder_.config().skip) ranks_.sum(skip_grad_.mutable_data<float>());
  if (training_.clip_norm <= 0) return 0.0;
  std::vector<double> by_latent(at(coder_.d_sae()), 0.0);
  const auto weights = std::as_const(coder_).decoder();
  parallel_for(
      coder_.d_sae(), rows_grain(coder_.d_out()), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t j = begin; j < end; ++j) {
          double parallel = 0.0;
          for (std::int64_t c = 0; training_.unit_decoder && c < coder_.d_out(); ++c) {
            parallel += static_cast<double>(decoder(j, c)) * static_cast<double>(weights(j, c));
          }
          by_latent[at(j)] =
              sum_squares(encoder.row(j)) + sum_squares(decoder.row(j)) - parallel * parallel;
        }
      });
  double squares = sum_of(by_latent) + sum_squares(summed_bias_grad_) + sum_squares(b_dec_grad_);
  if (coder_.config().skip) squares += sum_squares(skip_grad_.data<float>());
  for (const auto& grads : parameter_grads_) squares += sum_squares(grads);
  return squares;
}

double CoderStepper::clip_factor(const SaeSweepBatch& batch, CoderLoss& loss) {
  double squares = together() ? sum_gradients(batch) : 0.0;
  if (training_.clip_norm <= 0) return 1.0;
  if (!together()) {
    squares =
        sae_sweep_gradients(batch, training_.unit_decoder, sweep_state(), {}, {}, {}, centring());
    std::vector<float> b_dec = b_dec_grad_;
    add_centring();
    squares += sum_squares(b_dec_grad_);
    std::swap(b_dec, b_dec_grad_);  // the sweep forms it again, scaled
    if (coder_.config().skip) squares += sum_squares(skip_grad_.data<float>());
    for (const auto& grads : parameter_grads_) squares += sum_squares(grads);
  }
  loss.gradient_norm = std::sqrt(squares);
  return std::min(1.0, training_.clip_norm / (loss.gradient_norm + kClipEps));
}

void CoderStepper::sweep_dense(const SaeSweepBatch& batch, const SaeSweepOptions& options) {
  const std::int64_t rows = rows_;
  const std::int64_t chunk = std::min(chunk_latents(rows), coder_.d_sae());
  const auto buffer = shaped(dense_, chunk, rows);
  const auto encoder_grad = shaped(encoder_grad_, chunk, coder_.d_in());
  const auto decoder_grad = shaped(decoder_grad_, chunk, coder_.d_out());
  chunk_sums_.resize(at(chunk));
  each_chunk(rows, [&](std::int64_t first, std::int64_t count) {
    const auto f = buffer.rows_range(0, count);
    const auto ge = encoder_grad.rows_range(0, count);
    const auto gd = decoder_grad.rows_range(0, count);
    step::scatter(entries_, first, entries_.value, f);
    matmul(f, Trans::kNo, batch.gx, Trans::kNo, gd);
    step::scatter(entries_, first, entries_.grad, f);
    matmul(f, Trans::kNo, xc_, Trans::kNo, ge);
    for (std::int64_t i = 0; i < count; ++i) {
      float sum = 0.0F;
      for (std::int64_t e = entries_.start[at(first + i)]; e < entries_.start[at(first + i + 1)];
           ++e) {
        sum += entries_.grad[at(e)];
      }
      chunk_sums_[at(i)] = sum;
    }
    sae_sweep_dense(ge, gd, std::span(chunk_sums_).first(at(count)), first, batch, options,
                    sweep_state(), centring());
  });
}

// b_dec, W_skip and the architecture's own parameters.
void CoderStepper::step_vectors(const AdamScalars& adam, float scale) {
  const auto step = [&](std::string_view name, std::span<float> parameter,
                        std::span<const float> grad) {
    Moments& m = moments(name);
    adam_step(parameter, grad, m.m.mutable_data<float>(), m.v.mutable_data<float>(), adam);
  };
  for (float& g : b_dec_grad_) g *= scale;
  if (!together()) add_centring();  // scaled already
  step("b_dec", coder_.b_dec(), b_dec_grad_);
  if (coder_.config().skip) {
    if (scale != 1.0F) drrik::scale(scale, skip_grad_.mutable_mat<float>());
    step("W_skip", coder_.parameter("W_skip").mutable_data<float>(), skip_grad_.data<float>());
  }
  const std::vector<std::string> names = coder_.variant().parameters();
  if (coder_.variant().averages_threshold()) return;  // its one parameter is not learned
  for (std::size_t p = 0; p < names.size(); ++p) {
    for (float& g : parameter_grads_[p]) g *= scale;
    step(names[p], coder_.latent_parameter(names[p]), parameter_grads_[p]);
  }
}

void CoderStepper::update(std::int64_t number, const StepFactors& factors, CoderLoss& loss) {
  Stopwatch watch;
  AdamOptions adam = training_.adam;
  adam.learning_rate *= factors.learning_rate;
  const AdamScalars scalars = adam_scalars(adam, number + 1);
  output_gradients();
  SaeSweepBatch batch = sweep_batch();
  batch.grad_scale = static_cast<float>(clip_factor(batch, loss));
  const SaeSweepOptions options{scalars, training_.unit_decoder, number % 2 == 1};
  if (together()) {
    SaeSweepBatch summed;
    summed.bias_grad = summed_bias_grad_;
    summed.grad_scale = batch.grad_scale;
    chunk_sums_.assign(at(coder_.d_sae()), 0.0F);  // for the centring, which is in b_dec_grad_
    sae_sweep_dense(encoder_grad_.mutable_mat<float>(), decoder_grad_.mutable_mat<float>(),
                    chunk_sums_, 0, summed, options, sweep_state(), {});
  } else if (sparse_) {
    sae_sweep_active(batch, options, sweep_state(), deferred_, centring());
  } else {
    settle();
    sweep_dense(batch, options);
  }
  step_vectors(scalars, batch.grad_scale);
  watch.lap(phases_.sweep);
}

// The running mean of the smallest kept value, in the units in which it is compared.
void CoderStepper::update_threshold() {
  if (!coder_.variant().averages_threshold()) return;
  if (threshold_updates_++ < training_.threshold_start) return;
  float least = std::numeric_limits<float>::infinity();
  for (std::int64_t j = 0; j < coder_.d_sae(); ++j) {
    const float scale = selection_.scale.empty() ? 1.0F : selection_.scale[at(j)];
    for (std::int64_t e = entries_.start[at(j)]; e < entries_.start[at(j + 1)]; ++e) {
      const float v = entries_.value[at(e)] * scale;
      if (v > 0.0F) least = std::min(least, v);
    }
  }
  ranks_.minimum(std::span(&least, 1));
  if (!std::isfinite(least)) return;
  const auto theta = coder_.latent_parameter("threshold");
  const bool first =
      threshold_updates_ == training_.threshold_start + 1 && !training_.threshold_from_zero;
  const double next = first ? static_cast<double>(least)
                            : training_.threshold_decay * static_cast<double>(theta.front()) +
                                  (1.0 - training_.threshold_decay) * static_cast<double>(least);
  std::ranges::fill(theta, static_cast<float>(next));
}

CoderLoss CoderStepper::step(MatView<float> x, MatView<const float> y, std::int64_t number,
                             const StepFactors& factors, std::span<std::int64_t> last_active) {
  sparsity_ = training_.sparsity;
  sparsity_.coefficient *= factors.sparsity;
  coder_.variant().before_step(coder_);
  CoderLoss loss = forward(x, y, number, last_active);
  if (!std::isfinite(loss.loss)) return loss;
  for (std::int64_t j = 0; j < coder_.d_sae(); ++j) {
    if (active_[at(j)] > 0) last_active[at(j)] = number;
  }
  update_threshold();
  update(number, factors, loss);
  return loss;
}

CoderLoss CoderStepper::gradients(MatView<float> x, MatView<const float> y, std::int64_t number,
                                  const StepFactors& factors,
                                  std::span<const std::int64_t> last_active, CoderGradients& out) {
  settle();
  sparsity_ = training_.sparsity;
  sparsity_.coefficient *= factors.sparsity;
  const CoderLoss loss = forward(x, y, number, last_active);
  output_gradients();
  out.named.clear();
  for (const Moments& m : moments_) {
    out.named.emplace_back(m.name, Tensor::zeros<float>(m.m.shape()));
  }
  const auto of = [&](std::string_view name) -> Tensor& {
    for (auto& [known, tensor] : out.named) {
      if (known == name) return tensor;
    }
    throw_usage("no gradient '", name, "'");
  };
  sae_sweep_gradients(sweep_batch(), training_.unit_decoder, sweep_state(),
                      of("W_enc").mutable_mat<float>(), of("W_dec").mutable_mat<float>(),
                      of("b_enc").mutable_data<float>(), centring());
  add_centring();
  std::ranges::copy(b_dec_grad_, of("b_dec").mutable_data<float>().begin());
  if (coder_.config().skip) of("W_skip") = skip_grad_.clone();
  const std::vector<std::string> names = coder_.variant().parameters();
  for (std::size_t p = 0; p < names.size(); ++p) {
    std::ranges::copy(parameter_grads_[p], of(names[p]).mutable_data<float>().begin());
  }
  for (auto& [name, tensor] : out.named) ranks_.sum(tensor.mutable_data<float>());
  return loss;
}

void CoderStepper::settle() { sae_settle(training_.unit_decoder, sweep_state(), deferred_); }

void CoderStepper::reset_moments(std::span<const std::int64_t> latents) {
  settle();
  for (Moments& m : moments_) {
    if (m.name == "b_dec" || m.name == "W_skip") continue;
    for (Tensor* moment : {&m.m, &m.v}) {
      const std::int64_t width = moment->rank() == 2 ? moment->dim(1) : 1;
      const auto values = moment->mutable_data<float>();
      for (const std::int64_t j : latents) {
        std::fill_n(values.begin() + j * width, width, 0.0F);
      }
    }
  }
}

std::vector<NamedTensor> CoderStepper::state() {
  settle();
  std::vector<NamedTensor> all = std::as_const(coder_).parameters();
  for (const Moments& m : moments_) {
    all.push_back({m.name + ".m", &m.m});
    all.push_back({m.name + ".v", &m.v});
  }
  return all;
}

void CoderStepper::restore(const std::string& name, const Tensor& tensor) {
  settle();
  const auto take = [&](Tensor& to) {
    if (tensor.shape() != to.shape() || tensor.dtype() != DType::kF32) {
      throw_data("tensor '", name, "' is ", dtype_name(tensor.dtype()), " ",
                 shape_string(tensor.shape()), ", wanted float32 ", shape_string(to.shape()));
    }
    std::ranges::copy(tensor.clone().data<float>(), to.mutable_data<float>().begin());
  };
  for (Moments& m : moments_) {
    if (name == m.name) {
      take(coder_.parameter(name));
      weights_changed();
      return;
    }
    if (name == m.name + ".m") return take(m.m);
    if (name == m.name + ".v") return take(m.v);
  }
  throw_data("tensor '", name, "' does not belong to this state");
}

}  // namespace drrik
