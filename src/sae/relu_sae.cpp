#include "drrik/sae/relu_sae.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "drrik/base/checked.h"
#include "drrik/base/error.h"
#include "drrik/base/threads.h"
#include "drrik/ops/convert.h"
#include "drrik/ops/sae_kernels.h"
#include "sae/tiles.h"

namespace drrik {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

void check_width(std::int64_t got, std::int64_t wanted, const char* what) {
  if (got != wanted) {
    throw_data("sae: ", what, " of width ", got, ", the autoencoder takes ", wanted);
  }
}

template <typename A, typename B>
void check_rows(MatView<A> a, MatView<B> b) {
  if (a.rows() != b.rows()) {
    throw_data("sae: ", a.rows(), " rows in, room for ", b.rows(), " rows out");
  }
}

double norm_of(std::span<const float> row) { return std::sqrt(sum_squares(row)); }

// Per-row sums that the loss is made of.
struct RowSums {
  std::vector<double> error;  // Σ (x̂ − x)²
  std::vector<double> l1;
  std::vector<std::int64_t> active;
};

// Reconstructs tile by tile, over active entries where they are few.
void sum_rows_of(const ReluSae& sae, MatView<const float> x, RowSums& sums,
                 std::vector<std::int64_t>* active_rows = nullptr) {
  sums.error.assign(at(x.rows()), 0.0);
  sums.l1.assign(at(x.rows()), 0.0);
  sums.active.assign(at(x.rows()), 0);
  const std::int64_t h = sae.d_sae();
  Tensor reconstruction;
  each_encoded_tile(
      x, sae.bias(), sae.encoder(),
      [&](std::int64_t first, MatView<const float> xc, MatView<float> pre) {
        if (!reconstruction.defined()) {
          reconstruction = Tensor::uninitialized(DType::kF32, {xc.rows(), xc.cols()});
        }
        const auto xhat = reconstruction.mutable_mat<float>().rows_range(0, xc.rows());
        SparseRows rows;
        append_active(pre, sae.encoder_bias(), rows);
        if (active_rows != nullptr) {
          for (const std::int32_t latent : rows.latent) ++(*active_rows)[at(latent)];
        }
        // A product beats the sparse sum when more than about one entry in eight is active.
        const bool dense = rows.row_start.back() * 8 > pre.rows() * h;
        if (dense) {
          relu_rows(pre, sae.encoder_bias());
          matmul(pre, Trans::kNo, sae.decoder(), Trans::kNo, xhat);
        } else {
          sae_decode_rows(rows.row_start, rows.latent, rows.value, sae.decoder(), {}, xhat);
        }
        // x̂ − x = f Dᵀ − (x − bias): the tied bias cancels.
        parallel_for(xc.rows(), 16, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t r = begin; r < end; ++r) {
            double error = 0.0;
            const float* a = xhat.row_ptr(r);
            const float* b = xc.row_ptr(r);
            for (std::int64_t c = 0; c < xc.cols(); ++c) {
              const double e = static_cast<double>(a[c]) - static_cast<double>(b[c]);
              error += e * e;
            }
            double l1 = 0.0;
            const std::int64_t stop = rows.row_start[at(r + 1)];
            for (std::int64_t e = rows.row_start[at(r)]; e < stop; ++e) {
              l1 += static_cast<double>(rows.value[at(e)]);
            }
            sums.error[at(first + r)] = error;
            sums.l1[at(first + r)] = l1;
            sums.active[at(first + r)] = stop - rows.row_start[at(r)];
          }
        });
      });
}

}  // namespace

void ReluSaeConfig::validate() const {
  if (activation_dim < 1) throw_usage("activation_dim: got ", activation_dim, ", wanted >= 1");
  if (hidden_dim < 1) throw_usage("hidden_dim: got ", hidden_dim, ", wanted >= 1");
  constexpr std::int64_t kMax = 0x7FFFFFFF;
  if (activation_dim > kMax || hidden_dim > kMax || !checked_mul(activation_dim, hidden_dim)) {
    throw_usage("an autoencoder of ", activation_dim, " x ", hidden_dim, " is too large");
  }
  if (!std::isfinite(l1_coefficient) || l1_coefficient < 0) {
    throw_usage("l1_coefficient: got ", l1_coefficient, ", wanted a finite number >= 0");
  }
}

ReluSae::ReluSae(const ReluSaeConfig& config) : config_(config) {
  config.validate();
  const std::int64_t h = config.hidden_dim;
  const std::int64_t d = config.activation_dim;
  encoder_ = Tensor::zeros<float>({h, d});
  decoder_ = Tensor::zeros<float>({h, d});
  encoder_bias_ = Tensor::zeros<float>({h});
  bias_ = Tensor::zeros<float>({d});
}

ReluSae ReluSae::random(const ReluSaeConfig& config, Rng& rng) {
  ReluSae sae(config);
  const auto fill = [&rng](std::span<float> weights, std::int64_t fan_in) {
    const float bound = 1.0F / std::sqrt(static_cast<float>(fan_in));
    for (float& w : weights) w = (2.0F * rng.uniform() - 1.0F) * bound;
  };
  fill(sae.encoder_.mutable_data<float>(), config.activation_dim);
  fill(sae.decoder_.mutable_data<float>(), config.hidden_dim);
  if (config.normalize_decoder) sae.normalize_decoder_weights();
  return sae;
}

ReluSae ReluSae::clone() const {
  ReluSae copy(config_);
  copy.encoder_ = encoder_.clone();
  copy.decoder_ = decoder_.clone();
  copy.encoder_bias_ = encoder_bias_.clone();
  copy.bias_ = bias_.clone();
  return copy;
}

void ReluSae::encode(MatView<const float> x, MatView<float> out) const {
  check_width(x.cols(), d_in(), "activations");
  check_width(out.cols(), d_sae(), "features");
  check_rows(x, out);
  each_encoded_tile(x, bias(), encoder(),
                    [&](std::int64_t first, MatView<const float>, MatView<float> pre) {
                      relu_rows(pre, encoder_bias());
                      copy(pre, out.rows_range(first, pre.rows()));
                    });
}

void ReluSae::encode(MatView<const float> x, SparseRows& out) const {
  check_width(x.cols(), d_in(), "activations");
  out.row_start.assign(1, 0);
  out.latent.clear();
  out.value.clear();
  each_encoded_tile(x, bias(), encoder(),
                    [&](std::int64_t, MatView<const float>, MatView<float> pre) {
                      append_active(pre, encoder_bias(), out);
                    });
}

void ReluSae::decode(MatView<const float> f, MatView<float> out) const {
  check_width(f.cols(), d_sae(), "features");
  check_width(out.cols(), d_in(), "activations");
  check_rows(f, out);
  matmul(f, Trans::kNo, decoder(), Trans::kNo, out);
  add_row(bias(), out);
}

void ReluSae::decode(const SparseRows& f, MatView<float> out) const {
  check_width(out.cols(), d_in(), "activations");
  sae_decode_rows(f.row_start, f.latent, f.value, decoder(), bias(), out);
}

std::vector<float> ReluSae::decoder_direction(std::int64_t latent) const {
  if (latent < 0 || latent >= d_sae()) {
    throw_usage("feature ", latent, " is outside [0, ", d_sae(), ")");
  }
  const auto row = decoder().row(latent);
  return {row.begin(), row.end()};
}

std::vector<float> ReluSae::encoder_direction(std::int64_t latent) const {
  if (latent < 0 || latent >= d_sae()) {
    throw_usage("feature ", latent, " is outside [0, ", d_sae(), ")");
  }
  const auto row = encoder().row(latent);
  return {row.begin(), row.end()};
}

void ReluSae::encode_and_reconstruct(MatView<const float> x, SparseRows& features,
                                     MatView<float> out) const {
  encode(x, features);
  decode(features, out);
}

void ReluSae::forward(MatView<const float> x, MatView<float> reconstruction,
                      MatView<float> features) const {
  encode(x, features);
  decode(features, reconstruction);
}

SaeLoss ReluSae::loss(MatView<const float> x, std::vector<std::int64_t>* active_rows) const {
  check_width(x.cols(), d_in(), "activations");
  if (x.rows() == 0) throw_data("sae: the loss of no rows");
  if (active_rows != nullptr) {
    check_width(static_cast<std::int64_t>(active_rows->size()), d_sae(), "activity counts");
  }
  RowSums sums;
  sum_rows_of(*this, x, sums, active_rows);
  SaeLoss out;
  for (std::size_t r = 0; r < sums.error.size(); ++r) {
    out.mse += sums.error[r];
    out.l1 += sums.l1[r];
    out.l0 += static_cast<double>(sums.active[r]);
  }
  const auto n = static_cast<double>(x.rows());
  out.mse /= n * static_cast<double>(x.cols());
  out.l1 /= n;
  out.l0 /= n;
  out.loss = out.mse + config_.l1_coefficient * out.l1;
  return out;
}

SaeLoss ReluSae::gradients(MatView<const float> x, ReluSaeGradients& out) const {
  check_width(x.cols(), d_in(), "activations");
  if (x.rows() == 0) throw_data("sae: the gradients of no rows");
  const std::int64_t n = x.rows();
  const std::int64_t d = d_in();
  const std::int64_t h = d_sae();
  Tensor features = Tensor::zeros<float>({n, h});
  Tensor residual = Tensor::zeros<float>({n, d});
  Tensor centred = Tensor::zeros<float>({n, d});
  Tensor feature_grad = Tensor::zeros<float>({n, h});
  const auto f = features.mutable_mat<float>();
  const auto gx = residual.mutable_mat<float>();
  const auto xc = centred.mutable_mat<float>();
  const auto gf = feature_grad.mutable_mat<float>();
  forward(x, gx, f);
  const SaeLoss loss_value = loss(x);

  const float scale = 2.0F / (static_cast<float>(n) * static_cast<float>(d));
  for (std::int64_t r = 0; r < n; ++r) {
    for (std::int64_t c = 0; c < d; ++c) {
      gx(r, c) = scale * (gx(r, c) - x(r, c));
      xc(r, c) = x(r, c) - bias()[at(c)];
    }
  }
  // dL/df, through the ReLU.
  matmul(gx, Trans::kNo, decoder(), Trans::kYes, gf);
  const auto l1 = static_cast<float>(config_.l1_coefficient / static_cast<double>(n));
  for (std::int64_t r = 0; r < n; ++r) {
    for (std::int64_t j = 0; j < h; ++j) gf(r, j) = f(r, j) > 0.0F ? gf(r, j) + l1 : 0.0F;
  }
  out.encoder = Tensor::zeros<float>({h, d});
  out.decoder = Tensor::zeros<float>({h, d});
  out.encoder_bias = Tensor::zeros<float>({h});
  out.bias = Tensor::zeros<float>({d});
  matmul(gf, Trans::kYes, xc, Trans::kNo, out.encoder.mutable_mat<float>());
  matmul(f, Trans::kYes, gx, Trans::kNo, out.decoder.mutable_mat<float>());
  sum_rows(gf, out.encoder_bias.mutable_data<float>());
  if (config_.pre_encoder_bias) {
    // The bias is added to the output and subtracted from the input.
    const auto grad = out.bias.mutable_data<float>();
    sum_rows(gx, grad);
    const auto be = out.encoder_bias.data<float>();
    for (std::int64_t j = 0; j < h; ++j) axpy(-be[at(j)], encoder().row(j), grad);
  }
  return loss_value;
}

void ReluSae::normalize_decoder_weights() {
  const auto rows = decoder();
  parallel_for(rows.rows(), 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      const auto row = rows.row(j);
      const auto inverse = static_cast<float>(1.0 / std::max(norm_of(row), 1e-8));
      for (float& w : row) w *= inverse;
    }
  });
}

std::vector<std::int64_t> ReluSae::resample_dead_neurons(MatView<const float> x, Rng& rng,
                                                         const ResampleOptions& options) {
  check_width(x.cols(), d_in(), "activations");
  if (x.rows() == 0) throw_data("sae: resampling needs at least one row");
  const std::int64_t h = d_sae();
  std::vector<std::int64_t> dead;
  if (!options.dead_mask.empty()) {
    check_width(static_cast<std::int64_t>(options.dead_mask.size()), h, "dead mask");
    for (std::int64_t j = 0; j < h; ++j) {
      if (options.dead_mask[at(j)] != 0) dead.push_back(j);
    }
  } else {
    SparseRows rows;
    std::vector<double> activity(at(h), 0.0);
    each_encoded_tile(x, bias(), encoder(),
                      [&](std::int64_t, MatView<const float>, MatView<float> pre) {
                        rows = {};
                        append_active(pre, encoder_bias(), rows);
                        for (std::size_t e = 0; e < rows.latent.size(); ++e) {
                          activity[at(rows.latent[e])] += static_cast<double>(rows.value[e]);
                        }
                      });
    for (std::int64_t j = 0; j < h; ++j) {
      if (activity[at(j)] < options.dead_threshold) dead.push_back(j);
    }
  }
  if (dead.empty()) return dead;

  // Rows by their squared loss, as a running sum.
  RowSums sums;
  sum_rows_of(*this, x, sums);
  std::vector<double> cumulative(sums.error.size());
  double total = 0.0;
  for (std::size_t r = 0; r < cumulative.size(); ++r) {
    total += sums.error[r] * sums.error[r];
    cumulative[r] = total;
  }
  if (!std::isfinite(total)) throw_numeric("resampling: the rows' losses are not finite");

  double alive_norm = 0.0;
  std::size_t next_dead = 0;
  for (std::int64_t j = 0; j < h; ++j) {
    if (next_dead < dead.size() && dead[next_dead] == j) {
      ++next_dead;
    } else {
      alive_norm += norm_of(encoder().row(j));
    }
  }
  const std::int64_t alive = h - static_cast<std::int64_t>(dead.size());
  alive_norm = alive > 0 ? alive_norm / static_cast<double>(alive) : 0.1;

  for (const std::int64_t j : dead) {
    auto r = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(x.rows())));
    if (total > 0) {
      const double target = rng.uniform_double() * total;
      r = std::min<std::int64_t>(
          std::upper_bound(cumulative.begin(), cumulative.end(), target) - cumulative.begin(),
          x.rows() - 1);
    }
    const auto sample = x.row(r);
    const auto inverse = static_cast<float>(1.0 / std::max(norm_of(sample), 1e-8));
    const auto gain = static_cast<float>(0.2 * alive_norm);
    const auto direction = decoder().row(j);
    const auto row = encoder().row(j);
    for (std::size_t c = 0; c < sample.size(); ++c) {
      direction[c] = sample[c] * inverse;
      row[c] = direction[c] * gain;
    }
    encoder_bias()[at(j)] = 0.0F;
  }
  if (config_.normalize_decoder) normalize_decoder_weights();
  return dead;
}

}  // namespace drrik
