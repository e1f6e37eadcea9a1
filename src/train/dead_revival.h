#pragma once
// The auxiliary loss of a step: dead latents reconstruct what the others leave over.

#include <cstdint>
#include <span>
#include <vector>

#include "drrik/base/communicator.h"
#include "drrik/ops/sae_kernels.h"
#include "drrik/ops/sae_select.h"
#include "drrik/sae/sparse_coder.h"
#include "drrik/train/coder_training.h"

namespace drrik {

/// Notation as in AuxLoss; n dead latents, B rows of this rank. Its work is a product over the dead
/// where most of them are taken, else over the entries taken. Memory: [n, d] three times, [B, d]
/// twice, and [n, B] where it is dense.
class DeadRevival {
 public:
  DeadRevival(const AuxLoss& options, const SparseCoder& coder)
      : options_(options), coder_(coder) {}

  /// A batch of `rows` rows with these dead latents (ascending); none: the loss is off. `scale`:
  /// what latents are compared by, [h], or empty.
  void begin(std::vector<std::int64_t> dead, std::span<const float> scale, std::int64_t rows);
  /// A chunk of the encoder product: pre_t [latents, B] without bias, from latent `first`. Chunks
  /// come in order.
  void offer(MatView<const float> pre_t, std::int64_t first);

  /// The loss times its coefficient, of this rank's rows, and its gradients. xc [B, d_in] centred
  /// input; e [B, d_out] what is left over; total_rows of all ranks. 0 without dead latents.
  double run(MatView<const float> xc, MatView<const float> e, std::int64_t total_rows,
             Communicator& ranks);
  /// Hands the gradients to the sweep; they stay this object's.
  void add_to(SaeSweepBatch& batch) const;

  std::span<const std::int64_t> latents() const { return dead_; }

 private:
  std::int64_t wanted() const;

  AuxLoss options_;
  const SparseCoder& coder_;
  std::vector<std::int64_t> dead_;
  std::size_t offered_ = 0;  // of them
  SaeSelection selection_;
  SaeSelector selector_;
  ActiveEntries entries_;  // their latents count within dead_
  Tensor pre_, decoder_, residual_, dense_, encoder_grad_, decoder_grad_;
  std::vector<float> bias_grad_;
};

}  // namespace drrik
