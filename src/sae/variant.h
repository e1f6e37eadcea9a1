#pragma once
// What sets one architecture apart. Adding one: a file variant_<name>.cpp with a class of this
// interface, and a line in the table of variant.cpp (docs/architectures.md walks through it).
//
// Training and inference share activate(). Training sees a batch latent by latent, as the entries
// that select() let through; everything that is linear (products, decoding, sums of gradients, the
// optimizer) is the stepper's and the same for all (train/coder_stepper.cpp).

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/ops/sae_select.h"
#include "drrik/sae/sparse_coder.h"
#include "drrik/sae/sparsity.h"

namespace drrik {

/// What is the same for all latents of a batch.
struct BatchContext {
  const SparsityOptions* sparsity = nullptr;
  std::int64_t rows = 0;
  double l0 = 0.0;                       ///< Mean active latents a row; known in backward(), as
  std::span<const std::int32_t> row_l0;  ///< [B], those of each row.
  std::span<const std::uint8_t> dead;    ///< [h], non-zero: dead; empty: unknown.
};

/// One latent's entries in a batch.
struct LatentEntries {
  std::int64_t latent = 0;
  std::span<const std::int32_t> row;  ///< Ascending.
  std::span<const float> pre;         ///< h
  std::span<float> value;             ///< f, made by activate()
  /// dL/df by the reconstruction; backward() makes it dL/dp (p = h without its bias).
  std::span<float> grad;
  /// Only with gate_values(): what the gate alone would decode to, and its gradient.
  std::span<float> gate_value;
  std::span<const float> gate_grad;
  float decoder_norm = 0.0F;  ///< ‖D_j‖ (crosscoder: sum over parts).
};

/// What backward() says of a latent besides its entries.
struct LatentGradients {
  double penalty = 0.0;         ///< Its part of the loss, already times λ and over the rows.
  float bias = 0.0F;            ///< dL/db_enc
  float norm = 0.0F;            ///< dL/d‖D_j‖
  float parameter[2] = {0, 0};  ///< dL/d of the architecture's own, in the order of parameters()
};

class SaeVariant {
 public:
  virtual ~SaeVariant() = default;
  virtual std::string_view name() const = 0;
  /// Names of its own parameters, [h] each; at most two.
  virtual std::vector<std::string> parameters() const { return {}; }
  /// Throws Error(usage) where the configuration makes no sense for it.
  virtual void validate(const SparseCoderConfig&) const {}
  virtual void initialize(SparseCoder&, const SparseCoderInit&) const {}

  /// Which entries of x Eᵀ + b_enc can be active, for single rows.
  virtual SaeSelection select(const SparseCoder& coder) const = 0;
  /// The same for a batch in training, which may need more (entries that only have a gradient).
  virtual SaeSelection select_batch(const SparseCoder& coder, const BatchContext&) const {
    return select(coder);
  }
  /// f of selected entries of one latent, 0 for what is not active.
  virtual void activate(const SparseCoder& coder, std::int64_t latent, std::span<const float> pre,
                        std::span<float> value) const = 0;

  /// Whether training also reconstructs from the gate alone (gated): fills e.gate_value.
  virtual bool gate_values() const { return false; }
  virtual void gate(LatentEntries&) const {}
  /// Whether backward() reads decoder_norm.
  virtual bool needs_decoder_norm(const SparsityOptions&) const { return false; }
  /// Through the activation, and the penalty. The default: f = h where it is not 0, no penalty.
  virtual void backward(const SparseCoder& coder, const BatchContext& batch, LatentEntries& entries,
                        LatentGradients& out) const;
  /// A penalty on the batch as a whole, with batch.l0 known.
  virtual double batch_penalty(const BatchContext&) const { return 0.0; }
  /// Before each training step: where parameters are kept within bounds.
  virtual void before_step(SparseCoder&) const {}
  /// Whether its threshold is not learned but the running mean of the batches' smallest kept value.
  virtual bool averages_threshold() const { return false; }
  /// The architecture that inference_form() makes of it.
  virtual std::string_view inference_architecture() const { return name(); }
};

/// Selection by the coder's thresholds, in units of h where they are compared with h‖D_j‖.
SaeSelection select_by_threshold(const SparseCoder& coder);

/// Throws Error(usage) listing the names when there is none so called.
std::unique_ptr<const SaeVariant> make_sae_variant(std::string_view name);

// One factory per file.
std::unique_ptr<const SaeVariant> make_standard_variant();
std::unique_ptr<const SaeVariant> make_topk_variant();
std::unique_ptr<const SaeVariant> make_batchtopk_variant();
std::unique_ptr<const SaeVariant> make_matryoshka_variant();
std::unique_ptr<const SaeVariant> make_jumprelu_variant();
std::unique_ptr<const SaeVariant> make_gated_variant();

}  // namespace drrik
