#pragma once
// A tiny autoencoder whose numbers can be worked out by hand: f = max(x W, 0), x̂ = s f Wᵀ.

#include <cmath>
#include <vector>

#include "drrik/sae/sae.h"

namespace drrik {

/// W is [d, h], row-major.
class FakeSae : public Sae {
 public:
  FakeSae(std::int64_t d, std::int64_t h, std::vector<float> w, float scale = 1.0F)
      : d_(d), h_(h), w_(std::move(w)), scale_(scale) {}

  std::string architecture() const override { return "fake"; }
  std::int64_t d_in() const override { return d_; }
  std::int64_t d_sae() const override { return h_; }
  void encode(MatView<const float> x, MatView<float> out) const override {
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      for (std::int64_t j = 0; j < h_; ++j) {
        float sum = 0;
        for (std::int64_t c = 0; c < d_; ++c) sum += x(r, c) * weight(c, j);
        out(r, j) = std::fmax(sum, 0.0F);
      }
    }
  }
  void encode(MatView<const float> x, SparseRows& out) const override {
    std::vector<float> dense(static_cast<std::size_t>(x.rows() * h_));
    const MatView<float> f(dense.data(), x.rows(), h_);
    encode(x, f);
    out = {{0}, {}, {}};
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      for (std::int64_t j = 0; j < h_; ++j) {
        if (f(r, j) <= 0) continue;
        out.latent.push_back(static_cast<std::int32_t>(j));
        out.value.push_back(f(r, j));
      }
      out.row_start.push_back(static_cast<std::int64_t>(out.value.size()));
    }
  }
  void decode(MatView<const float> f, MatView<float> out) const override {
    for (std::int64_t r = 0; r < f.rows(); ++r) {
      for (std::int64_t c = 0; c < d_; ++c) {
        float sum = 0;
        for (std::int64_t j = 0; j < h_; ++j) sum += f(r, j) * weight(c, j);
        out(r, c) = scale_ * sum;
      }
    }
  }
  void decode(const SparseRows& f, MatView<float> out) const override {
    for (std::int64_t r = 0; r < out.rows(); ++r) {
      for (std::int64_t c = 0; c < d_; ++c) {
        float sum = 0;
        const auto begin = static_cast<std::size_t>(f.row_start[static_cast<std::size_t>(r)]);
        const auto end = static_cast<std::size_t>(f.row_start[static_cast<std::size_t>(r) + 1]);
        for (std::size_t e = begin; e < end; ++e) sum += f.value[e] * weight(c, f.latent[e]);
        out(r, c) = scale_ * sum;
      }
    }
  }
  std::vector<float> decoder_direction(std::int64_t latent) const override {
    std::vector<float> direction;
    for (std::int64_t c = 0; c < d_; ++c) direction.push_back(weight(c, latent));
    return direction;
  }

 private:
  float weight(std::int64_t c, std::int64_t j) const {
    return w_[static_cast<std::size_t>(c * h_ + j)];
  }
  std::int64_t d_;
  std::int64_t h_;
  std::vector<float> w_;
  float scale_;
};

/// ±1 pairs: reconstructs every input exactly (scale 1).
inline FakeSae identity_sae(std::int64_t d, float scale = 1.0F) {
  std::vector<float> w(static_cast<std::size_t>(d * 2 * d));
  for (std::int64_t c = 0; c < d; ++c) {
    w[static_cast<std::size_t>(c * 2 * d + 2 * c)] = 1.0F;
    w[static_cast<std::size_t>(c * 2 * d + 2 * c + 1)] = -1.0F;
  }
  return {d, 2 * d, std::move(w), scale};
}

}  // namespace drrik
