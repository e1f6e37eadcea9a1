// The step of the described autoencoder.
//
// Dense: five products, cut along the latents, so that each chunk's gradients are used while they
// are in cache. Sparse: one product; the rest over active entries (drrik/ops/sae_kernels.h).
// Both handle features transposed, [h, B].

#include <algorithm>
#include <cmath>

#include "drrik/base/error.h"
#include "drrik/base/system.h"
#include "drrik/base/threads.h"
#include "drrik/ops/convert.h"
#include "drrik/ops/gemm.h"
#include "train/step_parts.h"
#include "train/stepper.h"

namespace drrik {
namespace {

using step::at;
using step::packed;
using step::shaped;
using step::Stopwatch;

class ReluStepper final : public Stepper {
 public:
  ReluStepper(ReluSae& sae, const StepperOptions& options)
      : sae_(sae), options_(options), deferred_(sae.d_sae()) {
    const std::int64_t h = sae.d_sae();
    const std::int64_t d = sae.d_in();
    for (Tensor* moment : {&encoder_m_, &encoder_v_, &decoder_m_, &decoder_v_}) {
      *moment = Tensor::zeros<float>({h, d});
    }
    for (Tensor* moment : {&encoder_bias_m_, &encoder_bias_v_}) {
      *moment = Tensor::zeros<float>({h});
    }
    for (Tensor* moment : {&bias_m_, &bias_v_}) *moment = Tensor::zeros<float>({d});
    centring_ = Tensor::zeros<float>({(h + kSaeSweepBlock - 1) / kSaeSweepBlock, d});
    bias_grad_ = Tensor::zeros<float>({d});
  }

  StepOutcome step(MatView<float> x, std::int64_t number,
                   std::span<std::int64_t> last_active) override {
    Stopwatch watch;
    centre(x);
    scale_ = 2.0F / (static_cast<float>(x.rows()) * static_cast<float>(x.cols()));
    l1_ = static_cast<float>(sae_.config().l1_coefficient / static_cast<double>(x.rows()));
    error_.assign(at(x.rows()), 0.0);
    const auto residual = shaped(residual_, x.rows(), x.cols());
    const SaeSweepOptions sweep{adam_scalars(options_.adam, number + 1),
                                sae_.config().normalize_decoder, number % 2 == 1};
    StepOutcome out;
    out.sparse = options_.path == StepPath::kSparse ||
                 (options_.path == StepPath::kAuto && density_ < step::kSparseBelow);
    if (out.sparse) {
      sparse_forward(x, residual, watch);
    } else {
      settle();
      dense_forward(x, residual);
    }
    out.loss = batch_loss(x, out.sparse);
    if (!std::isfinite(out.loss.loss)) return out;
    mark_active(number, last_active, out.sparse);
    if (out.sparse) {
      sae_sweep_active({.entries = &entries_, .xc = x, .gx = residual}, sweep, sweep_state(),
                       deferred_, centring());
    } else {
      dense_backward(x, residual, sweep);
    }
    step_bias(residual, sweep.adam);
    watch.lap(phases_.sweep);
    density_ = out.loss.l0 / static_cast<double>(sae_.d_sae());
    return out;
  }

  void settle() override { sae_settle(sae_.config().normalize_decoder, sweep_state(), deferred_); }

  void reset_moments(std::span<const std::int64_t> latents) override {
    settle();
    for (const std::int64_t j : latents) {
      for (Tensor* moment : {&encoder_m_, &encoder_v_, &decoder_m_, &decoder_v_}) {
        std::ranges::fill(moment->mutable_mat<float>().row(j), 0.0F);
      }
      encoder_bias_m_.mutable_data<float>()[at(j)] = 0.0F;
      encoder_bias_v_.mutable_data<float>()[at(j)] = 0.0F;
    }
  }

  std::vector<NamedTensor> state() override {
    settle();
    // The autoencoder lends its weights as views; checkpoints take tensors.
    weights_[0] = copied(sae_.encoder());
    weights_[1] = copied(sae_.decoder());
    weights_[2] = Tensor::from<float>(std::as_const(sae_).encoder_bias(), {sae_.d_sae()});
    weights_[3] = Tensor::from<float>(std::as_const(sae_).bias(), {sae_.d_in()});
    std::vector<NamedTensor> all = {{"encoder", &weights_[0]},
                                    {"decoder", &weights_[1]},
                                    {"encoder_bias", &weights_[2]},
                                    {"bias", &weights_[3]}};
    for (const auto& [name, moment] : moments()) all.push_back({name, moment});
    return all;
  }

  void restore(const std::string& name, const Tensor& tensor) override {
    settle();
    const auto take = [&](std::span<float> to, std::vector<std::int64_t> shape) {
      if (tensor.shape() != shape) {
        throw_data("tensor '", name, "' has shape ", shape_string(tensor.shape()), ", wanted ",
                   shape_string(shape));
      }
      std::ranges::copy(tensor.clone().data<float>(), to.begin());
    };
    const std::int64_t h = sae_.d_sae();
    const std::int64_t d = sae_.d_in();
    if (name == "encoder") return take({sae_.encoder().data(), at(h * d)}, {h, d});
    if (name == "decoder") return take({sae_.decoder().data(), at(h * d)}, {h, d});
    if (name == "encoder_bias") return take(sae_.encoder_bias(), {h});
    if (name == "bias") return take(sae_.bias(), {d});
    for (const auto& [known, moment] : moments()) {
      if (known == name) return take(moment->mutable_data<float>(), moment->shape());
    }
    throw_data("tensor '", name, "' does not belong to this state");
  }

  double density() const override { return density_; }
  void set_density(double density) override { density_ = density; }
  const PhaseSeconds& phases() const override { return phases_; }

 private:
  std::vector<std::pair<std::string, Tensor*>> moments() {
    return {{"encoder.m", &encoder_m_},
            {"encoder.v", &encoder_v_},
            {"decoder.m", &decoder_m_},
            {"decoder.v", &decoder_v_},
            {"encoder_bias.m", &encoder_bias_m_},
            {"encoder_bias.v", &encoder_bias_v_},
            {"bias.m", &bias_m_},
            {"bias.v", &bias_v_}};
  }

  static Tensor copied(MatView<const float> m) {
    Tensor out = Tensor::uninitialized(DType::kF32, {m.rows(), m.cols()});
    copy(m, out.mutable_mat<float>());
    return out;
  }

  SaeSweepState sweep_state() {
    return {sae_.encoder(),
            encoder_m_.mutable_mat<float>(),
            encoder_v_.mutable_mat<float>(),
            sae_.decoder(),
            decoder_m_.mutable_mat<float>(),
            decoder_v_.mutable_mat<float>(),
            sae_.encoder_bias(),
            encoder_bias_m_.mutable_data<float>(),
            encoder_bias_v_.mutable_data<float>()};
  }

  MatView<float> centring() {
    return sae_.config().pre_encoder_bias ? centring_.mutable_mat<float>() : MatView<float>();
  }

  void centre(MatView<float> x) {
    if (sae_.config().pre_encoder_bias) step::subtract_row(x, std::as_const(sae_).bias(), x);
  }

  // Latents worked on at a time: their [chunk, B] floats stay in cache.
  std::int64_t chunk_latents(std::int64_t batch) const {
    const std::int64_t fit = (std::int64_t{1} << 20) / std::max<std::int64_t>(batch, 1);
    return std::clamp<std::int64_t>(fit / kSaeSweepBlock * kSaeSweepBlock, 4 * kSaeSweepBlock,
                                    std::max(sae_.d_sae(), 4 * kSaeSweepBlock));
  }

  // Calls f(first, count) over the chunks.
  template <typename F>
  void each_chunk(std::int64_t batch, const F& f) const {
    const std::int64_t chunk = chunk_latents(batch);
    for (std::int64_t first = 0; first < sae_.d_sae(); first += chunk) {
      f(first, std::min(chunk, sae_.d_sae() - first));
    }
  }

  void sparse_forward(MatView<const float> x, MatView<float> residual, Stopwatch& watch) {
    const Weight batch = packed(x, packing_);
    watch.lap(phases_.pack);
    const MatView<const float> encoder = std::as_const(sae_).encoder();
    const auto bias = std::as_const(sae_).encoder_bias();
    entries_.begin(x.rows(), sae_.d_sae());
    const auto buffer = shaped(pre_, std::min(chunk_latents(x.rows()), sae_.d_sae()), x.rows());
    each_chunk(x.rows(), [&](std::int64_t first, std::int64_t count) {
      const auto pre = buffer.rows_range(0, count);
      linear(encoder.rows_range(first, count), batch, {}, pre);
      watch.lap(phases_.product);
      sae_collect_active(pre, bias.subspan(at(first), at(count)), first, entries_);
      watch.lap(phases_.select);
    });
    sae_group_by_row(entries_);
    watch.lap(phases_.order);
    sae_catch_up(entries_, {}, sae_.config().normalize_decoder, sweep_state(), deferred_);
    watch.lap(phases_.sweep);
    l1_sums_.resize(at(x.rows()));
    sae_decode_active(entries_, std::as_const(sae_).decoder(), x, scale_, l1_, residual, error_,
                      l1_sums_);
    watch.lap(phases_.decode);
  }

  void dense_forward(MatView<const float> x, MatView<float> residual) {
    const Weight batch = packed(x, packing_);
    const MatView<const float> encoder = std::as_const(sae_).encoder();
    const auto bias = std::as_const(sae_).encoder_bias();
    const auto f = shaped(features_, sae_.d_sae(), x.rows());
    counts_.resize(at(sae_.d_sae()));
    l1_sums_.resize(at(sae_.d_sae()));
    each_chunk(x.rows(), [&](std::int64_t first, std::int64_t count) {
      const auto pre = f.rows_range(first, count);
      linear(encoder.rows_range(first, count), batch, {}, pre);
      sae_relu_dense(pre, bias.subspan(at(first), at(count)),
                     std::span(counts_).subspan(at(first), at(count)),
                     std::span(l1_sums_).subspan(at(first), at(count)));
    });
    matmul(f, Trans::kYes, std::as_const(sae_).decoder(), Trans::kNo, residual);
    sae_residual(residual, x, scale_, error_);
  }

  void dense_backward(MatView<const float> x, MatView<const float> residual,
                      const SaeSweepOptions& sweep) {
    const Weight batch = packed(residual, packing_);
    const MatView<const float> decoder = std::as_const(sae_).decoder();
    const std::int64_t d = x.cols();
    const std::int64_t chunk = std::min(chunk_latents(x.rows()), sae_.d_sae());
    const auto feature_grad = shaped(pre_, chunk, x.rows());
    const auto encoder_grad = shaped(encoder_grad_, chunk, d);
    const auto decoder_grad = shaped(decoder_grad_, chunk, d);
    encoder_bias_grad_.resize(at(chunk));
    each_chunk(x.rows(), [&](std::int64_t first, std::int64_t count) {
      const auto gf = feature_grad.rows_range(0, count);
      const auto ge = encoder_grad.rows_range(0, count);
      const auto gd = decoder_grad.rows_range(0, count);
      const auto gb = std::span(encoder_bias_grad_).first(at(count));
      const MatView<const float> f = features_.mat<float>().rows_range(first, count);
      linear(decoder.rows_range(first, count), batch, {}, gf);
      sae_mask_dense(f, l1_, gf, gb);
      matmul(gf, Trans::kNo, x, Trans::kNo, ge);
      matmul(f, Trans::kNo, residual, Trans::kNo, gd);
      sae_sweep_dense(ge, gd, gb, first, {}, sweep, sweep_state(), centring());
    });
  }

  SaeLoss batch_loss(MatView<const float> x, bool sparse) const {
    SaeLoss loss;
    for (const double e : error_) loss.mse += e;
    for (const double s : l1_sums_) loss.l1 += s;
    std::int64_t active = entries_.count;
    if (!sparse) {
      active = 0;
      for (const std::int64_t n : counts_) active += n;
    }
    const auto n = static_cast<double>(x.rows());
    loss.mse /= n * static_cast<double>(x.cols());
    loss.l1 /= n;
    loss.l0 = static_cast<double>(active) / n;
    loss.loss = loss.mse + sae_.config().l1_coefficient * loss.l1;
    return loss;
  }

  void mark_active(std::int64_t number, std::span<std::int64_t> last_active, bool sparse) const {
    for (std::int64_t j = 0; j < sae_.d_sae(); ++j) {
      const bool active =
          sparse ? entries_.start[at(j + 1)] > entries_.start[at(j)] : counts_[at(j)] > 0;
      if (active) last_active[at(j)] = number;
    }
  }

  // The tied bias is added to the output (dL/dx̂ summed) and subtracted from the input (minus
  // Σ dL/db[j] E[j], which the sweep has summed by blocks).
  void step_bias(MatView<const float> residual, const AdamScalars& adam) {
    if (!sae_.config().pre_encoder_bias) return;
    const auto grad = bias_grad_.mutable_data<float>();
    sum_rows(residual, grad);
    const MatView<const float> blocks = centring_.mat<float>();
    for (std::int64_t b = 0; b < blocks.rows(); ++b) axpy(-1.0F, blocks.row(b), grad);
    adam_step(sae_.bias(), grad, bias_m_.mutable_data<float>(), bias_v_.mutable_data<float>(),
              adam);
  }

  ReluSae& sae_;
  StepperOptions options_;
  SaeDeferred deferred_;  // steps of idle latents that have not been taken yet
  double density_ = 1.0;
  PhaseSeconds phases_;

  Tensor encoder_m_, encoder_v_, decoder_m_, decoder_v_;  // [h, d]
  Tensor encoder_bias_m_, encoder_bias_v_;                // [h]
  Tensor bias_m_, bias_v_;                                // [d]
  Tensor weights_[4];                                     // copies lent to checkpoints

  // One batch.
  float scale_ = 0.0F;  // dL/dx̂ = scale · (x̂ − x)
  float l1_ = 0.0F;     // dL/df of an active entry by the penalty
  ActiveEntries entries_;
  Tensor packing_, pre_, residual_, features_, encoder_grad_, decoder_grad_, centring_, bias_grad_;
  std::vector<double> error_, l1_sums_;
  std::vector<std::int64_t> counts_;
  std::vector<float> encoder_bias_grad_;
};

}  // namespace

std::unique_ptr<Stepper> make_relu_stepper(ReluSae& sae, const StepperOptions& options) {
  return std::make_unique<ReluStepper>(sae, options);
}

}  // namespace drrik
