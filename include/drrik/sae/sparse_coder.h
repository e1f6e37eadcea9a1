#pragma once
// Sparse coders of every architecture: sparse autoencoders, transcoders and crosscoders.
//
//   xc = x − b_dec (or x)      p = xc Eᵀ      h = p + b_enc      f = activation(h)
//   x̂ = f D + b_dec (+ x W_skipᵀ)
//
// What turns h into f is the architecture (docs/architectures.md): it is one file each in src/sae,
// behind src/sae/variant.h. Notation as in sae.h; B rows, d_in, d_out, h = d_sae.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/base/rng.h"
#include "drrik/io/named_tensor.h"
#include "drrik/sae/sae.h"
#include "drrik/tensor/mat_view.h"
#include "drrik/tensor/tensor.h"

namespace drrik {

class SaeVariant;

/// What a row goes through before it is encoded, and its reconstruction after.
enum class RowNormalization : std::uint8_t {
  kNone,
  /// (x − mean(x)) / (std(x) + 1e-5) over the row; out · std(x) + mean(x) (OpenAI's TopK files,
  /// SAELens's layer_norm; std is the unbiased one).
  kLayerNorm,
  /// x · √d_in / ‖x‖, undone on the output (SAELens's constant_norm_rescale).
  kConstantNorm
};

struct SparseCoderConfig {
  /// A name of sparse_coder_architectures().
  std::string architecture = "topk";
  std::int64_t d_in = 0;
  std::int64_t d_out = 0;  ///< 0: d_in. Another width, or other rows: a transcoder.
  std::int64_t d_sae = 0;
  std::int64_t k =
      32;  ///< Active latents a row: topk exactly, batchtopk and matryoshka on average.
  /// matryoshka: the ends of the nested prefixes of latents, ascending, the last one d_sae.
  std::vector<std::int64_t> groups;
  /// Crosscoder: the input is so many activations side by side, each d_in / parts wide, and a
  /// latent's norm is the sum of its norms over them. 1: a plain coder.
  std::int64_t parts = 1;
  bool apply_b_dec_to_input = true;  ///< Centre the input; needs d_in == d_out.
  bool skip = false;                 ///< x W_skipᵀ is added to the output (skip transcoder).
  /// topk: whether what is kept goes through a ReLU (SAELens, sparsify, dictionary_learning), or
  /// may be negative (OpenAI without postact_fn).
  bool relu_after_topk = true;
  /// Latents are compared, and features measured, by h·‖d_j‖ instead of h (SAELens's
  /// rescale_acts_by_decoder_norm). fold_decoder_norms() makes the same coder without it.
  bool rescale_by_decoder_norm = false;
  RowNormalization row_normalization = RowNormalization::kNone;

  std::int64_t output_width() const { return d_out > 0 ? d_out : d_in; }
  /// Throws Error(usage) naming the field.
  void validate() const;
};

/// How weights start (docs/architectures.md).
struct SparseCoderInit {
  enum class Encoder : std::uint8_t {
    kTranspose,       ///< E = the decoder's rows.
    kKaimingUniform,  ///< U(±1/√d_in), nn.Linear's default.
  };
  double decoder_norm = 0.1;  ///< Norm of each decoder row (of each part of a crosscoder).
  Encoder encoder = Encoder::kTranspose;
  double threshold = 0.001;   ///< jumprelu's θ.
  bool zero_decoder = false;  ///< Transcoders of sparsify start with D = 0.
};

/// Const use from several threads is safe.
class SparseCoder final : public Sae {
 public:
  /// All weights zero. Throws Error(usage) for an impossible configuration.
  explicit SparseCoder(const SparseCoderConfig& config);
  /// Decoder rows random directions of norm init.decoder_norm; biases zero.
  static SparseCoder random(const SparseCoderConfig& config, const SparseCoderInit& init, Rng& rng);
  SparseCoder clone() const;
  SparseCoder(SparseCoder&&) noexcept;
  SparseCoder& operator=(SparseCoder&&) noexcept;
  ~SparseCoder() override;

  const SparseCoderConfig& config() const { return config_; }
  const SaeVariant& variant() const { return *variant_; }

  /// E [h, d_in] and D [h, d_out]: row j belongs to latent j.
  MatView<const float> encoder() const { return encoder_.mat<float>(); }
  MatView<float> encoder() { return encoder_.mutable_mat<float>(); }
  MatView<const float> decoder() const { return decoder_.mat<float>(); }
  MatView<float> decoder() { return decoder_.mutable_mat<float>(); }
  std::span<const float> b_enc() const { return b_enc_.data<float>(); }
  std::span<float> b_enc() { return b_enc_.mutable_data<float>(); }
  std::span<const float> b_dec() const { return b_dec_.data<float>(); }
  std::span<float> b_dec() { return b_dec_.mutable_data<float>(); }
  /// The architecture's own parameters, [h] each: "threshold" (jumprelu, batchtopk, matryoshka),
  /// "r_mag" and "b_mag" (gated, whose b_enc is the gate's bias). Empty span: it has none so
  /// called.
  std::span<const float> latent_parameter(std::string_view name) const;
  std::span<float> latent_parameter(std::string_view name);
  std::vector<std::string> latent_parameter_names() const;
  /// W_skip [d_out, d_in]; an empty view without skip.
  MatView<const float> skip() const;
  MatView<float> skip();

  /// Every parameter by name: W_enc [h, d_in] and W_dec [h, d_out] as above (files may keep them
  /// otherwise), b_enc, b_dec, W_skip, and those of latent_parameter_names(). Valid while this
  /// lives.
  std::vector<NamedTensor> parameters() const;
  /// The same to write through. Throws Error(usage) for a name that it has not.
  Tensor& parameter(std::string_view name);

  /// ‖D_j‖ (crosscoder: Σ over parts), [h].
  std::vector<float> decoder_norms() const;
  /// E_j, b_enc_j (and what scales with h) times ‖D_j‖, D_j over ‖D_j‖: the same reconstructions
  /// with decoder rows of norm 1; features become h·‖D_j‖. Latents of norm 0 stay. Afterwards
  /// config().rescale_by_decoder_norm is off. thresholds are scaled unless they were compared with
  /// rescaled values already.
  void fold_decoder_norms();
  /// For a coder trained on s_in·x (and targets s_out·y): the one that takes x and gives y.
  /// Features stay, but with rescale_by_decoder_norm they are in the units of y afterwards.
  void fold_input_scale(double s_in, double s_out);
  /// The same with a scale for each part of a crosscoder.
  void fold_part_scales(std::span<const double> s_in, std::span<const double> s_out);
  /// A coder that needs no batch: batchtopk and matryoshka become jumprelu with their threshold,
  /// the others a copy.
  SparseCoder inference_form() const;

  std::string architecture() const override { return config_.architecture; }
  std::int64_t d_in() const override { return config_.d_in; }
  std::int64_t d_sae() const override { return config_.d_sae; }
  std::int64_t d_out() const override { return config_.output_width(); }
  void encode(MatView<const float> x, MatView<float> out) const override;
  void encode(MatView<const float> x, SparseRows& out) const override;
  /// Without the skip connection and without undoing a row's normalisation, which need x:
  /// reconstruct() has both.
  void decode(MatView<const float> f, MatView<float> out) const override;
  void decode(const SparseRows& f, MatView<float> out) const override;
  void reconstruct(MatView<const float> x, MatView<float> out) const override;
  void encode_and_reconstruct(MatView<const float> x, SparseRows& features,
                              MatView<float> out) const override;
  std::vector<float> decoder_direction(std::int64_t latent) const override;
  std::vector<float> encoder_direction(std::int64_t latent) const override;

 private:
  SparseCoderConfig config_;
  std::unique_ptr<const SaeVariant> variant_;
  Tensor encoder_;
  Tensor decoder_;
  Tensor b_enc_;
  Tensor b_dec_;
  Tensor skip_;
  std::vector<Tensor> latent_parameters_;  // in the order of the variant's names
};

/// Names of the architectures: "standard", "topk", "batchtopk", "matryoshka", "jumprelu", "gated".
std::vector<std::string> sparse_coder_architectures();

}  // namespace drrik
