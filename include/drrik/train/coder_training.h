#pragma once
// How a sparse coder is trained: its loss, optimizer and bookkeeping of dead latents. Formulas and
// where each comes from: docs/architectures.md.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/ops/adam.h"
#include "drrik/ops/gemm.h"
#include "drrik/sae/sparse_coder.h"
#include "drrik/sae/sparsity.h"

namespace drrik {

/// How the work of a batch is done. The mathematics is the same.
enum class StepPath : std::uint8_t {
  kAuto,   ///< By the measured density: sparse below about 1 in 8.
  kDense,  ///< Products over all latents.
  kSparse  ///< One product; everything else over active entries.
};

/// The auxiliary loss that revives dead latents: those of them with the largest pre-activations
/// reconstruct what is left over (Gao et al., 2024). ê = z D, without b_dec; the target e = y − ŷ
/// has no gradient.
struct AuxLoss {
  double coefficient = 0.0;  ///< 0: off. OpenAI and dictionary_learning: 1/32; SAELens: 1.
  std::int64_t k = 0;        ///< Entries a row; 0: d_in / 2.
  bool rectify = true;       ///< Only positive pre-activations (not so in SAELens).
  enum class Scale : std::uint8_t {
    kResidualVariance,  ///< ⟨‖ê − e‖²⟩ / ⟨‖e − ⟨e⟩‖²⟩ (dictionary_learning)
    kDeadShare          ///< min(dead / k, 1) ⟨‖ê − e‖²⟩ (SAELens)
  };
  Scale scale = Scale::kResidualVariance;
};

struct CoderTraining {
  enum class Reconstruction : std::uint8_t {
    kSum,   ///< ⟨‖ŷ − y‖²⟩: sums over the width, means over rows.
    kMean,  ///< Means over both.
    kFvu    ///< Σ‖ŷ − y‖² / Σ‖y − ⟨y⟩‖² over the batch (sparsify).
  };
  Reconstruction reconstruction = Reconstruction::kSum;
  SparsityOptions sparsity;
  AuxLoss aux;
  /// matryoshka: weight of each prefix's reconstruction loss; empty: 1 each (SAELens).
  std::vector<double> group_weights;

  AdamOptions adam;
  double clip_norm = 0.0;     ///< Of the whole gradient; 0: off.
  bool unit_decoder = false;  ///< Decoder rows are kept at norm 1.
  /// A latent is dead when it was active in none of the last so many batches.
  std::int64_t dead_steps = 1000;

  // batchtopk, matryoshka: θ is the running mean of each batch's smallest kept value.
  double threshold_decay = 0.999;  ///< θ ← decay θ + (1 − decay) new; the first is taken as it is.
  std::int64_t threshold_start = 0;  ///< Batches before the first.
  bool threshold_from_zero = false;  ///< Start from 0 instead (SAELens).

  Compute compute = Compute::kF32;  ///< Of the encoder product.
  StepPath path = StepPath::kAuto;

  /// Throws Error(usage) naming the field.
  void validate(const SparseCoderConfig& config) const;
};

/// One batch's loss and what else a run records.
struct CoderLoss {
  double loss = 0.0;            ///< reconstruction + sparsity + aux
  double reconstruction = 0.0;  ///< With its weights (matryoshka: all prefixes).
  double sparsity = 0.0;
  double aux = 0.0;  ///< Times its coefficient.
  double mse = 0.0;  ///< ⟨‖ŷ − y‖²⟩ of the whole coder.
  double fvu = 0.0;  ///< mse over the batch's ⟨‖y − ⟨y⟩‖²⟩; NaN for rows without variance.
  double l0 = 0.0;
  double l1 = 0.0;             ///< ⟨Σ f⟩
  std::int64_t dead = 0;       ///< Latents that counted as dead.
  double gradient_norm = 0.0;  ///< Before clipping; 0 when clipping is off.
};

/// Multipliers at one step.
struct StepFactors {
  double learning_rate = 1.0;
  double sparsity = 1.0;
};

}  // namespace drrik
