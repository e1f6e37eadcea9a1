// One pass over the latents: gradients in cache, Adam, unit norm.

#include <algorithm>
#include <cmath>
#include <vector>

#include "drrik/base/threads.h"
#include "drrik/ops/sae_kernels.h"
#include "ops/grain.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/sae_sweep.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "ops/sae_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {
namespace {

// Adam's step on one vector; torch divides sqrt(v) by the correction where this multiplies by its
// inverse (one rounding of difference).
struct AdamKernel {
  VF beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_correction2, eps, keep;
  explicit AdamKernel(const AdamScalars& s)
      : beta1(hn::Set(DF(), s.beta1)),
        one_minus_beta1(hn::Set(DF(), s.one_minus_beta1)),
        beta2(hn::Set(DF(), s.beta2)),
        one_minus_beta2(hn::Set(DF(), s.one_minus_beta2)),
        step_size(hn::Set(DF(), s.step_size)),
        inverse_correction2(hn::Set(DF(), 1.0F / s.sqrt_bias_correction2)),
        eps(hn::Set(DF(), s.eps)),
        keep(hn::Set(DF(), s.keep)) {}

  HWY_INLINE VF operator()(VF param, VF grad, VF& m, VF& v) const {
    m = hn::MulAdd(beta1, m, hn::Mul(one_minus_beta1, grad));
    v = hn::MulAdd(beta2, v, hn::Mul(hn::Mul(one_minus_beta2, grad), grad));
    return step(param, m, v);
  }
  // With gradient 0.
  HWY_INLINE VF idle(VF param, VF& m, VF& v) const {
    m = hn::Mul(beta1, m);
    v = hn::Mul(beta2, v);
    return step(param, m, v);
  }
  HWY_INLINE VF step(VF param, VF m, VF v) const {
    const VF denominator = hn::MulAdd(hn::Sqrt(v), inverse_correction2, eps);
    return hn::NegMulAdd(step_size, hn::Div(m, denominator), hn::Mul(keep, param));
  }
};

// Calls f(vector-wise body) over [0, n) with a padded tail: body(load, store) on offset i.
template <typename Body>
HWY_INLINE void each_vector(std::int64_t n, const Body& body) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    body([&](const float* p) HWY_ATTR { return load(d, p + i); },
         [&](VF v, float* p) HWY_ATTR { store(d, v, p + i); });
  }
  if (i < n) {
    body([&](const float* p) HWY_ATTR { return load_n(d, p + i, n - i); },
         [&](VF v, float* p) HWY_ATTR { store_n(d, v, p + i, n - i); });
  }
}

// Decays that are due to moments. One multiplication after the other: as if taken in time.
HWY_INLINE void decay(const AdamKernel& adam, std::int32_t times, VF& m, VF& v) {
  for (std::int32_t i = 0; i < times; ++i) {
    m = hn::Mul(adam.beta1, m);
    v = hn::Mul(adam.beta2, v);
  }
}

void EncoderIdle(float* HWY_RESTRICT w, float* HWY_RESTRICT m, float* HWY_RESTRICT v,
                 std::int64_t n, const AdamScalars& scalars, std::int32_t due, bool write_moments) {
  const AdamKernel adam(scalars);
  each_vector(n, [&](const auto& get, const auto& put) HWY_ATTR {
    VF vm = get(m);
    VF vv = get(v);
    decay(adam, due, vm, vv);
    put(adam.idle(get(w), vm, vv), w);
    if (write_moments) {
      put(vm, m);
      put(vv, v);
    }
  });
}

// centring += bias_grad · w before the step, unless null.
void EncoderStep(float* HWY_RESTRICT w, float* HWY_RESTRICT m, float* HWY_RESTRICT v,
                 const float* HWY_RESTRICT grad, std::int64_t n, const AdamScalars& scalars,
                 std::int32_t due, float bias_grad, float* HWY_RESTRICT centring) {
  const AdamKernel adam(scalars);
  const VF bg = hn::Set(DF(), bias_grad);
  each_vector(n, [&](const auto& get, const auto& put) HWY_ATTR {
    VF vm = get(m);
    VF vv = get(v);
    decay(adam, due, vm, vv);
    const VF vw = get(w);
    if (centring != nullptr) put(hn::MulAdd(bg, vw, get(centring)), centring);
    put(adam(vw, get(grad), vm, vv), w);
    put(vm, m);
    put(vv, v);
  });
}

void EncoderDecay(float* m, float* v, std::int64_t n, const AdamScalars& scalars,
                  std::int32_t due) {
  const AdamKernel adam(scalars);
  each_vector(n, [&](const auto& get, const auto& put) HWY_ATTR {
    VF vm = get(m);
    VF vv = get(v);
    decay(adam, due, vm, vv);
    put(vm, m);
    put(vv, v);
  });
}

HWY_INLINE void unit_row(float* w, std::int64_t n, VF squares) {
  const DF d;
  const VF inverse = hn::Set(d, 1.0F / std::max(std::sqrt(sum_of(d, squares)), 1e-8F));
  each_vector(n,
              [&](const auto& get, const auto& put) HWY_ATTR { put(hn::Mul(get(w), inverse), w); });
}

void DecoderIdle(float* HWY_RESTRICT w, float* HWY_RESTRICT m, float* HWY_RESTRICT v,
                 std::int64_t n, const AdamScalars& scalars, bool unit) {
  const AdamKernel adam(scalars);
  VF squares = hn::Zero(DF());
  each_vector(n, [&](const auto& get, const auto& put) HWY_ATTR {
    VF vm = get(m);
    VF vv = get(v);
    const VF next = adam.idle(get(w), vm, vv);
    squares = hn::MulAdd(next, next, squares);
    put(next, w);
    put(vm, m);
    put(vv, v);
  });
  if (unit) unit_row(w, n, squares);
}

void DecoderStep(float* HWY_RESTRICT w, float* HWY_RESTRICT m, float* HWY_RESTRICT v,
                 const float* HWY_RESTRICT grad, std::int64_t n, const AdamScalars& scalars,
                 bool unit) {
  const DF d;
  const AdamKernel adam(scalars);
  VF squares = hn::Zero(d);
  const VF parallel = hn::Set(d, unit ? dot_product(grad, w, n) : 0.0F);
  each_vector(n, [&](const auto& get, const auto& put) HWY_ATTR {
    VF vm = get(m);
    VF vv = get(v);
    const VF vw = get(w);
    const VF next = adam(vw, hn::NegMulAdd(parallel, vw, get(grad)), vm, vv);
    squares = hn::MulAdd(next, next, squares);
    put(next, w);
    put(vm, m);
    put(vv, v);
  });
  if (unit) unit_row(w, n, squares);
}

// to += by · from
void AddRow(float by, const float* HWY_RESTRICT from, std::int64_t n, float* HWY_RESTRICT to) {
  const VF k = hn::Set(DF(), by);
  each_vector(n, [&](const auto& get, const auto& put)
                     HWY_ATTR { put(hn::MulAdd(k, get(from), get(to)), to); });
}

void ScaleRow(float by, std::int64_t n, float* row) {
  const VF k = hn::Set(DF(), by);
  each_vector(n,
              [&](const auto& get, const auto& put) HWY_ATTR { put(hn::Mul(k, get(row)), row); });
}

float DotRows(const float* a, const float* b, std::int64_t n) { return dot_product(a, b, n); }

void RoundRow(const float* from, std::int64_t n, BF16* to) {
  map1(from, to, n, [](DF, VF v) HWY_ATTR { return v; });
}

void GradientRow(const float* base, std::int64_t stride, const std::int32_t* row,
                 const float* weight, std::int64_t entries, std::int64_t n, float* out) {
  weighted_rows(base, stride, row, weight, entries, nullptr, n, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace drrik {
namespace {

HWY_EXPORT(EncoderIdle);
HWY_EXPORT(EncoderStep);
HWY_EXPORT(EncoderDecay);
HWY_EXPORT(DecoderIdle);
HWY_EXPORT(DecoderStep);
HWY_EXPORT(GradientRow);
HWY_EXPORT(AddRow);
HWY_EXPORT(ScaleRow);
HWY_EXPORT(DotRows);
HWY_EXPORT(RoundRow);

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

void check_state(const SaeSweepState& s, MatView<float> centring) {
  check_same_shape("sae", s.encoder, s.encoder_m);
  check_same_shape("sae", s.encoder, s.encoder_v);
  check_same_shape("sae", s.decoder, s.decoder_m);
  check_same_shape("sae", s.decoder, s.decoder_v);
  const auto h = at(s.encoder.rows());
  if (s.decoder.rows() != s.encoder.rows() || s.bias.size() != h || s.bias_m.size() != h ||
      s.bias_v.size() != h) {
    throw_data("sae: encoder of ", h, " latents, decoder of ", s.decoder.rows(), ", bias of ",
               s.bias.size());
  }
  const std::int64_t blocks = (s.encoder.rows() + kSaeSweepBlock - 1) / kSaeSweepBlock;
  if (!centring.empty() && (centring.rows() < blocks || centring.cols() != s.encoder.cols())) {
    throw_data("sae: centring ", shape_of(centring), ", wanted [", blocks, ", ", s.encoder.cols(),
               "]");
  }
  if (!s.rounded_encoder.empty()) check_same_shape("sae", s.encoder, s.rounded_encoder);
}

void check_entries(const ActiveEntries& entries, MatView<const float> xc, MatView<const float> gx,
                   std::int64_t groups, std::int64_t latents, std::int64_t d, std::int64_t d_out) {
  if (entries.rows != xc.rows() || entries.latents != latents || xc.cols() != d ||
      gx.cols() != d_out || gx.rows() != groups * xc.rows()) {
    throw_data("sae: entries for [", entries.rows, ", ", entries.latents, "], rows ", shape_of(xc),
               ", output gradients ", shape_of(gx), " in ", groups, " groups, weights [", latents,
               ", ", d, "] and [", latents, ", ", d_out, "]");
  }
}

void check_batch(const SaeSweepBatch& batch, const SaeSweepState& s) {
  const auto h = at(s.encoder.rows());
  const auto groups = static_cast<std::int64_t>(std::max<std::size_t>(1, batch.group_ends.size()));
  check_entries(*batch.entries, batch.xc, batch.gx, groups, s.encoder.rows(), s.encoder.cols(),
                s.decoder.cols());
  const auto n = static_cast<std::int64_t>(batch.extra_latents.size());
  if ((!batch.bias_grad.empty() && batch.bias_grad.size() != h) ||
      (!batch.norm_grad.empty() && batch.norm_grad.size() != h) || batch.parts < 1 ||
      s.decoder.cols() % batch.parts != 0 ||
      (!batch.group_ends.empty() && batch.group_ends.back() != s.encoder.rows()) ||
      (n > 0 && (batch.extra_encoder_grad.rows() != n || batch.extra_decoder_grad.rows() != n ||
                 batch.extra_bias_grad.size() != at(n)))) {
    throw_data("sae: gradients by latent that do not fit ", h, " latents in ", batch.parts,
               " parts");
  }
}

void step_bias(float& param, float& m, float& v, float grad, const AdamScalars& s) {
  m = s.beta1 * m + s.one_minus_beta1 * grad;
  v = s.beta2 * v + s.one_minus_beta2 * grad * grad;
  param -= s.step_size * (m / (std::sqrt(v) / s.sqrt_bias_correction2 + s.eps));
}

// One latent's gradients in cache.
struct LatentGradient {
  float* encoder;
  float* decoder;
  float bias;
  float pre_sum;  // Σ dL/dp, which reaches the input
};

void round_row(const SaeSweepState& s, std::int64_t j) {
  if (s.rounded_encoder.empty()) return;
  HWY_DYNAMIC_DISPATCH(RoundRow)
  (s.encoder.row_ptr(j), s.encoder.cols(), s.rounded_encoder.row_ptr(j));
}

// `due`: decays due to the encoder's moments.
void step_latent(std::int64_t j, const LatentGradient& grad, std::int32_t due,
                 const SaeSweepOptions& options, const SaeSweepState& s, float* centring) {
  HWY_DYNAMIC_DISPATCH(EncoderStep)
  (s.encoder.row_ptr(j), s.encoder_m.row_ptr(j), s.encoder_v.row_ptr(j), grad.encoder,
   s.encoder.cols(), options.adam, due, grad.pre_sum, centring);
  HWY_DYNAMIC_DISPATCH(DecoderStep)
  (s.decoder.row_ptr(j), s.decoder_m.row_ptr(j), s.decoder_v.row_ptr(j), grad.decoder,
   s.decoder.cols(), options.adam, options.unit_decoder);
  step_bias(s.bias[at(j)], s.bias_m[at(j)], s.bias_v[at(j)], grad.bias, options.adam);
  round_row(s, j);
}

void check_deferred(const SaeDeferred& deferred, std::int64_t latents) {
  if (deferred.decoder.size() != at(latents) || deferred.encoder.size() != at(latents)) {
    throw_data("sae: deferred work of ", deferred.decoder.size(), " latents, ", latents,
               " in the weights");
  }
}

// The decoder steps due to latent j.
void take_decoder_steps(std::int64_t j, bool unit, const SaeSweepState& s, SaeDeferred& deferred) {
  std::int32_t& due = deferred.decoder[at(j)];
  for (std::int64_t t = deferred.steps - due; t < deferred.steps; ++t) {
    HWY_DYNAMIC_DISPATCH(DecoderIdle)
    (s.decoder.row_ptr(j), s.decoder_m.row_ptr(j), s.decoder_v.row_ptr(j), s.decoder.cols(),
     deferred.recent[at(t % SaeDeferred::kDecoderSteps)], unit);
  }
  due = 0;
}

// A step with gradient 0, most of it put off.
void idle_latent(std::int64_t j, const SaeSweepOptions& options, const SaeSweepState& s,
                 SaeDeferred& deferred) {
  std::int32_t& due = deferred.encoder[at(j)];
  const bool write = due + 1 == SaeDeferred::kEncoderDecays;
  HWY_DYNAMIC_DISPATCH(EncoderIdle)
  (s.encoder.row_ptr(j), s.encoder_m.row_ptr(j), s.encoder_v.row_ptr(j), s.encoder.cols(),
   options.adam, due, write);
  due = write ? 0 : due + 1;
  round_row(s, j);
  step_bias(s.bias[at(j)], s.bias_m[at(j)], s.bias_v[at(j)], 0.0F, options.adam);
  if (++deferred.decoder[at(j)] == SaeDeferred::kDecoderSteps) {
    take_decoder_steps(j, options.unit_decoder, s, deferred);
  }
}

// The part of gx that latent j sees.
MatView<const float> output_grad(const SaeSweepBatch& batch, std::int64_t j) {
  if (batch.group_ends.empty()) return batch.gx;
  const auto group = std::upper_bound(batch.group_ends.begin(), batch.group_ends.end(), j) -
                     batch.group_ends.begin();
  return batch.gx.rows_range(group * batch.xc.rows(), batch.xc.rows());
}

// Gradients of one latent by its entries; returns Σ dL/dp.
float form_gradients(const ActiveEntries& entries, std::int64_t j, MatView<const float> xc,
                     MatView<const float> gx, float* encoder_grad, float* decoder_grad) {
  const std::int64_t first = entries.start[at(j)];
  const std::int64_t n = entries.start[at(j + 1)] - first;
  const std::int32_t* row = entries.row.data() + first;
  const float* grad = entries.grad.data() + first;
  HWY_DYNAMIC_DISPATCH(GradientRow)
  (xc.data(), xc.stride(), row, grad, n, xc.cols(), encoder_grad);
  HWY_DYNAMIC_DISPATCH(GradientRow)
  (gx.data(), gx.stride(), row, entries.value.data() + first, n, gx.cols(), decoder_grad);
  float sum = 0.0F;
  for (std::int64_t e = 0; e < n; ++e) sum += grad[e];
  return sum;
}

// Index of latent j among the extra ones, or -1.
std::int64_t extra_of(const SaeSweepBatch& batch, std::int64_t j) {
  const auto found = std::lower_bound(batch.extra_latents.begin(), batch.extra_latents.end(), j);
  if (found == batch.extra_latents.end() || *found != j) return -1;
  return found - batch.extra_latents.begin();
}

// Adds what does not come from the entries; grad.pre_sum is theirs so far.
void complete(const SaeSweepBatch& batch, std::int64_t j, const SaeSweepState& state,
              LatentGradient& grad) {
  const MatView<const float> decoder = state.decoder;
  grad.bias = batch.bias_grad.empty() ? grad.pre_sum : batch.bias_grad[at(j)];
  if (const std::int64_t i = extra_of(batch, j); i >= 0) {
    HWY_DYNAMIC_DISPATCH(AddRow)
    (1.0F, batch.extra_encoder_grad.row_ptr(i), batch.extra_encoder_grad.cols(), grad.encoder);
    HWY_DYNAMIC_DISPATCH(AddRow)
    (1.0F, batch.extra_decoder_grad.row_ptr(i), batch.extra_decoder_grad.cols(), grad.decoder);
    grad.bias += batch.extra_bias_grad[at(i)];
    grad.pre_sum += batch.extra_bias_grad[at(i)];
  }
  if (!batch.norm_grad.empty() && batch.norm_grad[at(j)] != 0.0F) {
    const std::int64_t width = decoder.cols() / batch.parts;
    for (std::int64_t p = 0; p < batch.parts; ++p) {
      const float* row = decoder.row_ptr(j) + p * width;
      const float norm = std::sqrt(HWY_DYNAMIC_DISPATCH(DotRows)(row, row, width));
      if (!(norm > 0.0F)) continue;  // the norm has no gradient there; torch takes 0 too
      HWY_DYNAMIC_DISPATCH(AddRow)
      (batch.norm_grad[at(j)] / norm, row, width, grad.decoder + p * width);
    }
  }
  if (batch.grad_scale != 1.0F) {
    HWY_DYNAMIC_DISPATCH(ScaleRow)(batch.grad_scale, state.encoder.cols(), grad.encoder);
    HWY_DYNAMIC_DISPATCH(ScaleRow)(batch.grad_scale, decoder.cols(), grad.decoder);
    grad.bias *= batch.grad_scale;
    grad.pre_sum *= batch.grad_scale;
  }
}

// Whether any gradient of latent j can differ from 0.
bool has_gradient(const SaeSweepBatch& batch, std::int64_t j) {
  const ActiveEntries& entries = *batch.entries;
  return entries.start[at(j)] != entries.start[at(j + 1)] || extra_of(batch, j) >= 0;
}

// Calls f(j, centring row or null) over latents [first, last), in parallel over fixed blocks.
template <typename F>
void each_latent(std::int64_t first, std::int64_t last, std::int64_t d, bool backwards,
                 MatView<float> centring, const F& f) {
  const std::int64_t block0 = first / kSaeSweepBlock;
  const std::int64_t blocks = (last + kSaeSweepBlock - 1) / kSaeSweepBlock - block0;
  parallel_for(blocks, row_grain(kSaeSweepBlock * d), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t b = block0 + (backwards ? begin + end - 1 - i : i);
      float* sums = nullptr;
      if (!centring.empty()) {
        sums = centring.row_ptr(b);
        std::fill_n(sums, centring.cols(), 0.0F);
      }
      const std::int64_t stop = std::min(last, (b + 1) * kSaeSweepBlock);
      for (std::int64_t j = std::max(first, b * kSaeSweepBlock); j < stop; ++j) f(j, sums);
    }
  });
}

}  // namespace

SaeDeferred::SaeDeferred(std::int64_t latents)
    : decoder(at(latents), 0), encoder(at(latents), 0), recent(at(kDecoderSteps)) {}

void sae_catch_up(const ActiveEntries& entries, std::span<const std::int64_t> extra_latents,
                  bool unit_decoder, const SaeSweepState& state, SaeDeferred& deferred) {
  check_state(state, {});
  check_deferred(deferred, state.encoder.rows());
  each_latent(0, state.encoder.rows(), state.encoder.cols(), false, {},
              [&](std::int64_t j, float*) {
                if (entries.start[at(j)] == entries.start[at(j + 1)]) return;
                take_decoder_steps(j, unit_decoder, state, deferred);
              });
  for (const std::int64_t j : extra_latents) take_decoder_steps(j, unit_decoder, state, deferred);
}

void sae_settle(bool unit_decoder, const SaeSweepState& state, SaeDeferred& deferred) {
  check_state(state, {});
  check_deferred(deferred, state.encoder.rows());
  each_latent(0, state.encoder.rows(), state.encoder.cols(), false, {},
              [&](std::int64_t j, float*) {
                take_decoder_steps(j, unit_decoder, state, deferred);
                std::int32_t& due = deferred.encoder[at(j)];
                if (due == 0) return;
                // The decay rates are those of every step; the last one's will do.
                HWY_DYNAMIC_DISPATCH(EncoderDecay)
                (state.encoder_m.row_ptr(j), state.encoder_v.row_ptr(j), state.encoder.cols(),
                 deferred.recent[at((deferred.steps - 1) % SaeDeferred::kDecoderSteps)], due);
                due = 0;
              });
}

void sae_sweep_active(const SaeSweepBatch& batch, const SaeSweepOptions& options,
                      const SaeSweepState& state, SaeDeferred& deferred, MatView<float> centring) {
  check_state(state, centring);
  check_deferred(deferred, state.encoder.rows());
  check_batch(batch, state);
  const std::int64_t d = state.encoder.cols();
  const std::int64_t both = d + state.decoder.cols();
  deferred.recent[at(deferred.steps++ % SaeDeferred::kDecoderSteps)] = options.adam;
  each_latent(0, state.encoder.rows(), d, options.backwards, centring,
              [&](std::int64_t j, float* sums) {
                if (!has_gradient(batch, j)) {
                  idle_latent(j, options, state, deferred);
                  return;
                }
                static thread_local std::vector<float> buffer;
                if (buffer.size() < at(both)) buffer.resize(at(both));
                LatentGradient grad{buffer.data(), buffer.data() + d, 0.0F, 0.0F};
                grad.pre_sum = form_gradients(*batch.entries, j, batch.xc, output_grad(batch, j),
                                              grad.encoder, grad.decoder);
                complete(batch, j, state, grad);
                DRRIK_ASSERT(deferred.decoder[at(j)] == 0);
                step_latent(j, grad, deferred.encoder[at(j)], options, state, sums);
                deferred.encoder[at(j)] = 0;
              });
}

void sae_sweep_dense(MatView<float> encoder_grad, MatView<float> decoder_grad,
                     std::span<const float> grad_sums, std::int64_t first,
                     const SaeSweepBatch& batch, const SaeSweepOptions& options,
                     const SaeSweepState& state, MatView<float> centring) {
  check_state(state, centring);
  const std::int64_t n = encoder_grad.rows();
  if (first % kSaeSweepBlock != 0 || first < 0 || first + n > state.encoder.rows() ||
      decoder_grad.rows() != n || static_cast<std::int64_t>(grad_sums.size()) != n ||
      encoder_grad.cols() != state.encoder.cols() || decoder_grad.cols() != state.decoder.cols()) {
    throw_data("sae: gradients ", shape_of(encoder_grad), " and ", shape_of(decoder_grad),
               " from latent ", first, " for weights ", shape_of(state.encoder), " and ",
               shape_of(state.decoder));
  }
  each_latent(first, first + n, state.encoder.cols(), options.backwards, centring,
              [&](std::int64_t j, float* sums) {
                LatentGradient grad{encoder_grad.row_ptr(j - first),
                                    decoder_grad.row_ptr(j - first), 0.0F,
                                    grad_sums[at(j - first)]};
                complete(batch, j, state, grad);
                step_latent(j, grad, /*due=*/0, options, state, sums);
              });
}

double sae_sweep_gradients(const SaeSweepBatch& batch, bool unit_decoder,
                           const SaeSweepState& state, MatView<float> encoder_grad,
                           MatView<float> decoder_grad, std::span<float> bias_grad,
                           MatView<float> centring) {
  check_state(state, centring);
  check_batch(batch, state);
  const std::int64_t h = state.encoder.rows();
  const std::int64_t d = state.encoder.cols();
  const std::int64_t d_out = state.decoder.cols();
  SaeSweepBatch unscaled = batch;
  unscaled.grad_scale = 1.0F;
  std::vector<double> squares(at(h), 0.0);
  each_latent(0, h, d, false, centring, [&](std::int64_t j, float* sums) {
    static thread_local std::vector<float> buffer;
    if (buffer.size() < at(d + d_out)) buffer.resize(at(d + d_out));
    LatentGradient grad{encoder_grad.empty() ? buffer.data() : encoder_grad.row_ptr(j),
                        decoder_grad.empty() ? buffer.data() + d : decoder_grad.row_ptr(j), 0.0F,
                        0.0F};
    if (!has_gradient(batch, j)) {
      if (!encoder_grad.empty()) std::fill_n(grad.encoder, d, 0.0F);
      if (!decoder_grad.empty()) std::fill_n(grad.decoder, d_out, 0.0F);
      if (!bias_grad.empty()) bias_grad[at(j)] = 0.0F;
      return;
    }
    grad.pre_sum = form_gradients(*batch.entries, j, batch.xc, output_grad(batch, j), grad.encoder,
                                  grad.decoder);
    complete(unscaled, j, state, grad);
    const float* decoder = state.decoder.row_ptr(j);
    const auto square = [](const float* row, std::int64_t n) {
      return static_cast<double>(HWY_DYNAMIC_DISPATCH(DotRows)(row, row, n));
    };
    const auto parallel =
        unit_decoder
            ? static_cast<double>(HWY_DYNAMIC_DISPATCH(DotRows)(grad.decoder, decoder, d_out))
            : 0.0;
    squares[at(j)] = square(grad.encoder, d) + square(grad.decoder, d_out) - parallel * parallel +
                     static_cast<double>(grad.bias) * static_cast<double>(grad.bias);
    if (!bias_grad.empty()) bias_grad[at(j)] = grad.bias;
    if (sums != nullptr) {
      HWY_DYNAMIC_DISPATCH(AddRow)(grad.pre_sum, state.encoder.row_ptr(j), d, sums);
    }
  });
  double sum = 0.0;
  for (const double s : squares) sum += s;
  return sum;
}

void sae_gradients_active(const ActiveEntries& entries, MatView<const float> xc,
                          MatView<const float> gx, MatView<float> encoder_grad,
                          MatView<float> decoder_grad, std::span<float> bias_grad) {
  check_entries(entries, xc, gx, 1, encoder_grad.rows(), encoder_grad.cols(), decoder_grad.cols());
  each_latent(0, encoder_grad.rows(), encoder_grad.cols(), false, {}, [&](std::int64_t j, float*) {
    bias_grad[at(j)] =
        form_gradients(entries, j, xc, gx, encoder_grad.row_ptr(j), decoder_grad.row_ptr(j));
  });
}

}  // namespace drrik
#endif  // HWY_ONCE
