#pragma once
// The described sparse autoencoder: ReLU features, L1 penalty, one tied bias, unit decoder columns
// (Bricken et al., "Towards Monosemanticity", 2023).
//
//   f = ReLU((x − bias) Eᵀ + encoder_bias)      x̂ = f Dᵀ + bias
//   loss = mean over all elements of (x̂ − x)² + l1_coefficient · mean over rows of Σ f

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "drrik/base/rng.h"
#include "drrik/sae/sae.h"
#include "drrik/tensor/mat_view.h"
#include "drrik/tensor/tensor.h"

namespace drrik {

struct ReluSaeConfig {
  std::int64_t activation_dim = 0;
  std::int64_t hidden_dim = 0;
  double l1_coefficient = 0.01;
  bool normalize_decoder = true;  ///< Unit L2 columns of D during training.
  bool pre_encoder_bias = true;   ///< Without it there is no `bias` at all (it stays zero).

  /// Throws Error(usage) naming the field.
  void validate() const;
};

/// Loss of some rows and its parts.
struct SaeLoss {
  double loss = 0.0;  ///< mse + l1_coefficient · l1
  double mse = 0.0;   ///< Mean over all elements of (x̂ − x)².
  double l1 = 0.0;    ///< Mean over rows of Σ f.
  double l0 = 0.0;    ///< Mean over rows of the number of active latents.
};

/// dL/dparameter, each of the parameter's shape as ReluSae stores it.
struct ReluSaeGradients {
  Tensor encoder;       ///< [h, d]
  Tensor decoder;       ///< [h, d]
  Tensor encoder_bias;  ///< [h]
  Tensor bias;          ///< [d]
};

struct ResampleOptions {
  /// A latent is dead when its summed activity over the rows is under this; ignored with a mask.
  double dead_threshold = 1e-8;
  /// [h], non-zero = dead; empty: decide by the threshold.
  std::span<const std::uint8_t> dead_mask;
};

/// Const use from several threads is safe.
class ReluSae final : public Sae {
 public:
  /// All weights zero. Throws Error(usage) for an impossible configuration.
  explicit ReluSae(const ReluSaeConfig& config);
  /// Both matrices Kaiming-uniform with a = √5, i.e. U(±1/√fan_in) (fan_in d for E, h for D), E
  /// drawn first; then unit columns of D when config.normalize_decoder. Biases zero.
  static ReluSae random(const ReluSaeConfig& config, Rng& rng);
  ReluSae clone() const;

  const ReluSaeConfig& config() const { return config_; }

  /// E [h, d]: row j is latent j's encoder vector.
  MatView<const float> encoder() const { return encoder_.mat<float>(); }
  MatView<float> encoder() { return encoder_.mutable_mat<float>(); }
  /// Dᵀ [h, d]: row j is latent j's direction, column j of the described decoder.
  MatView<const float> decoder() const { return decoder_.mat<float>(); }
  MatView<float> decoder() { return decoder_.mutable_mat<float>(); }
  std::span<const float> encoder_bias() const { return encoder_bias_.data<float>(); }
  std::span<float> encoder_bias() { return encoder_bias_.mutable_data<float>(); }
  /// [d]; zeros without pre_encoder_bias.
  std::span<const float> bias() const { return bias_.data<float>(); }
  std::span<float> bias() { return bias_.mutable_data<float>(); }

  std::string architecture() const override { return "relu"; }
  std::int64_t d_in() const override { return config_.activation_dim; }
  std::int64_t d_sae() const override { return config_.hidden_dim; }
  void encode(MatView<const float> x, MatView<float> out) const override;
  void encode(MatView<const float> x, SparseRows& out) const override;
  void decode(MatView<const float> f, MatView<float> out) const override;
  void decode(const SparseRows& f, MatView<float> out) const override;
  void encode_and_reconstruct(MatView<const float> x, SparseRows& features,
                              MatView<float> out) const override;
  std::vector<float> decoder_direction(std::int64_t latent) const override;
  std::vector<float> encoder_direction(std::int64_t latent) const override;

  /// x [n, d] -> reconstruction [n, d], features [n, h]. Throws Error(data) when widths differ.
  void forward(MatView<const float> x, MatView<float> reconstruction,
               MatView<float> features) const;
  /// Streams: never stores [n, h]. Adds to (*active_rows)[j], [h], the rows on which latent j is
  /// active when it is given. Throws Error(data) without rows.
  SaeLoss loss(MatView<const float> x, std::vector<std::int64_t>* active_rows = nullptr) const;
  /// Loss and every gradient by the plain formulas, dense. For checks and small problems.
  SaeLoss gradients(MatView<const float> x, ReluSaeGradients& out) const;

  /// Scales every column of D to unit L2 norm (the norm clamped at 1e-8).
  void normalize_decoder_weights();

  /// Gives dead latents a new life. Each takes a row of x drawn with probability ∝ (the row's
  /// summed squared error)²: decoder column = the row normalised, encoder row = that direction
  /// × 0.2 × the mean norm of alive encoder rows (taken as 0.1 when none is alive), encoder bias 0;
  /// then D is re-normalised when the configuration says so. Returns the latents, ascending; their
  /// optimizer moments must be reset by the caller (`fit` does). Throws Error(data) for a width or
  /// mask that does not fit, Error(numeric) when the errors are not finite.
  std::vector<std::int64_t> resample_dead_neurons(MatView<const float> x, Rng& rng,
                                                  const ResampleOptions& options = {});

 private:
  ReluSaeConfig config_;
  Tensor encoder_;
  Tensor decoder_;
  Tensor encoder_bias_;
  Tensor bias_;
};

}  // namespace drrik
