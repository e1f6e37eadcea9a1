#pragma once
// The loops of an SAE step that touch only active entries.
//
// Notation: B rows, d = d_in, h = d_sae. Encoder and decoder are both stored [h, d], one row a
// latent, so that everything a latent owns is contiguous. Pre-activations are handled transposed,
// [h, B]: the encoder is then the plain left factor of the product, and the active rows of a
// latent come out in order. Results do not depend on the number of threads.

#include <cstdint>
#include <span>
#include <vector>

#include "drrik/ops/adam.h"
#include "drrik/tensor/dtype.h"
#include "drrik/tensor/mat_view.h"

namespace drrik {

/// Active entries of one batch, by latent and by row. Buffers are kept from batch to batch.
struct ActiveEntries {
  std::int64_t rows = 0;
  std::int64_t latents = 0;
  std::int64_t count = 0;
  // By latent: latent j owns [start[j], start[j + 1]), rows ascending.
  std::vector<std::int64_t> start;  ///< [h + 1]
  std::vector<std::int32_t> row;    ///< [>= count]
  std::vector<float> pre;           ///< [>= count], h; made by SaeSelector only
  std::vector<float> value;         ///< [>= count], f
  std::vector<float> grad;          ///< [>= count], dL/df, made by sae_decode_active
  // By row: row r owns [row_start[r], row_start[r + 1]), latents ascending.
  std::vector<std::int64_t> row_start;  ///< [B + 1]
  std::vector<std::int32_t> latent;     ///< [>= count]
  std::vector<std::int64_t> position;   ///< [>= count], index of the entry in the order by latent

  /// Forgets the entries and sets the shape. Throws Error(usage) when B or h exceed 2^31 - 1.
  void begin(std::int64_t row_count, std::int64_t latent_count);

  struct Block {
    std::vector<std::int32_t> row;
    std::vector<float> value;
    std::int64_t count = 0;
  };
  std::vector<Block> blocks;               ///< scratch of sae_collect_active
  std::vector<std::int64_t> block_counts;  ///< scratch of sae_group_by_row
};

/// Appends latents [first, first + pre_t.rows()): entries where pre_t(j, r) + bias[j] > 0.
/// pre_t [latents of this chunk, B]; bias the chunk's part of the encoder bias. Chunks come in
/// order.
void sae_collect_active(MatView<const float> pre_t, std::span<const float> bias, std::int64_t first,
                        ActiveEntries& entries);

/// Active entries of one row of pre-activations [h] with bias added: latents ascending. `latent`
/// and `value` must have room for h entries and 64 bytes more. Returns how many.
std::int64_t sae_collect_row(std::span<const float> pre, std::span<const float> bias,
                             std::int32_t* latent, float* value);

/// In place f = max(pre_t + bias, 0), [h, B]; counts[j] = active rows, sums[j] = Σ f of latent j.
void sae_relu_dense(MatView<float> pre_t, std::span<const float> bias,
                    std::span<std::int64_t> counts, std::span<double> sums);
/// grad_t(j, r) = f_t(j, r) > 0 ? grad_t(j, r) + l1 : 0; sums[j] = Σ_r grad_t(j, r).
void sae_mask_dense(MatView<const float> f_t, float l1, MatView<float> grad_t,
                    std::span<float> sums);

/// Makes the order by row from the order by latent. O(count).
void sae_group_by_row(ActiveEntries& entries);

/// Row by row: residual_grad = scale · (Σ f D − x); grad = residual_grad · D + l1 for every active
/// entry; error[r] = Σ (Σ f D − x)², l1_sums[r] = Σ f of row r. With x centred by the tied bias
/// this is the residual of the reconstruction. residual_grad [B, d] must not alias x.
void sae_decode_active(ActiveEntries& entries, MatView<const float> decoder, MatView<const float> x,
                       float scale, float l1, MatView<float> residual_grad, std::span<double> error,
                       std::span<double> l1_sums);

/// The same for nested prefixes of latents that each reconstruct: group g decodes all latents below
/// group_ends[g] (ascending, the last h). residual_grads [G · B, d] receives for each group and row
/// Σ over the group and all wider ones of scales · residual, which is what a latent of the group
/// sees; errors [G, B] the squared errors of each prefix.
void sae_decode_groups(ActiveEntries& entries, MatView<const float> decoder, MatView<const float> x,
                       std::span<const std::int64_t> group_ends, std::span<const float> scales,
                       MatView<float> residual_grads, MatView<double> errors);

/// The dense counterpart of its second step: y = scale · (y − x) in place, error[r] = Σ (y − x)².
void sae_residual(MatView<float> y, MatView<const float> x, float scale, std::span<double> error);

/// out[r] = Σ value · decoder[latent] + bias for rows given as compressed rows.
void sae_decode_rows(std::span<const std::int64_t> row_start, std::span<const std::int32_t> latent,
                     std::span<const float> value, MatView<const float> decoder,
                     std::span<const float> bias, MatView<float> out);

/// Parameters of all latents with their Adam moments. The decoder may be of another width.
struct SaeSweepState {
  MatView<float> encoder, encoder_m, encoder_v;  ///< [h, d]
  MatView<float> decoder, decoder_m, decoder_v;  ///< [h, d_out]
  std::span<float> bias, bias_m, bias_v;         ///< [h], the encoder's bias
  /// Rounded copy of the encoder, [h, d], kept up to date by the sweep; empty: none.
  MatView<BF16> rounded_encoder = {};
};

struct SaeSweepOptions {
  AdamScalars adam;
  /// Remove the part of each decoder row's gradient parallel to the row, and scale the row to unit
  /// length (norm clamped at 1e-8) after the step.
  bool unit_decoder = true;
  /// Visit the latents from the last to the first. In turns with the other direction, the cache
  /// still holds the end of the sweep before. Results are the same.
  bool backwards = false;
};

/// Latents summed into one partial of `centring`: fixed, so that the sum does not depend on
/// threads.
inline constexpr std::int64_t kSaeSweepBlock = 64;

/// Steps with gradient 0 that latents without entries have not taken yet. Taking them later, one
/// after the other, gives the same bits as at once, but moves each latent's memory once for many
/// steps. A decoder row is wanted only when its latent is active; an encoder row always, but its
/// moments only need to be written now and then.
struct SaeDeferred {
  static constexpr std::int32_t kDecoderSteps = 64;  ///< Most that may be due to a decoder row.
  static constexpr std::int32_t kEncoderDecays =
      8;  ///< Most decays due to an encoder row's moments.

  std::vector<std::int32_t> decoder;  ///< [h] steps due, all of them the last ones
  std::vector<std::int32_t> encoder;  ///< [h] decays due to the moments (the row itself is current)
  std::vector<AdamScalars> recent;    ///< [kDecoderSteps] ring, step number modulo its size
  std::int64_t steps = 0;             ///< Sweeps taken; recent[(steps - 1) % size] is the last.

  explicit SaeDeferred(std::int64_t latents = 0);
};

/// Takes the decoder steps that are due to latents with entries, and to some more: before
/// sae_decode_active.
void sae_catch_up(const ActiveEntries& entries, std::span<const std::int64_t> extra_latents,
                  bool unit_decoder, const SaeSweepState& state, SaeDeferred& deferred);
/// Takes everything that is due: before anyone else looks at weights or moments.
void sae_settle(bool unit_decoder, const SaeSweepState& state, SaeDeferred& deferred);

/// What the gradients of a batch are made of.
struct SaeSweepBatch {
  const ActiveEntries* entries = nullptr;
  MatView<const float> xc;  ///< [B, d] centred input
  /// [G · B, d_out]: dL/dx̂ of every row for each of G groups of latents, one group below the other.
  /// A latent sees the part of its group.
  MatView<const float> gx;
  std::span<const std::int64_t> group_ends = {};  ///< [G] ascending, the last h; empty: one group.
  /// dL/d(encoder bias), [h]; empty: Σ grad of the latent's entries.
  std::span<const float> bias_grad = {};
  /// dL/d‖D_j‖, [h]; empty: none. The norm is the sum of the norms of `parts` equal pieces.
  std::span<const float> norm_grad = {};
  std::int64_t parts = 1;
  /// Gradients from elsewhere for some latents (ascending), added: [n, d], [n, d_out], [n].
  std::span<const std::int64_t> extra_latents = {};
  MatView<const float> extra_encoder_grad = {};
  MatView<const float> extra_decoder_grad = {};
  std::span<const float> extra_bias_grad = {};
  float grad_scale = 1.0F;  ///< Every gradient times this (clipping).
};

/// One pass over latents: forms dL/dE[j] = Σ grad · xc[row] and dL/dD[j] = Σ f · gx[row] from the
/// active entries in cache, takes Adam's step and re-normalises, before it moves on; no gradient
/// matrix exists. Latents without entries take their step with gradient 0, now or later.
/// `centring` [ceil(h / kSaeSweepBlock), d] receives block sums of Σ grad · E[j] before the step,
/// times grad_scale (empty: not wanted).
void sae_sweep_active(const SaeSweepBatch& batch, const SaeSweepOptions& options,
                      const SaeSweepState& state, SaeDeferred& deferred, MatView<float> centring);

/// The same for latents [first, first + n) whose gradients by their entries are given, [n, d] and
/// [n, d_out] (changed), with grad_sums [n] the sums of dL/dp; first must be a multiple of
/// kSaeSweepBlock. Nothing may be due to them.
void sae_sweep_dense(MatView<float> encoder_grad, MatView<float> decoder_grad,
                     std::span<const float> grad_sums, std::int64_t first,
                     const SaeSweepBatch& batch, const SaeSweepOptions& options,
                     const SaeSweepState& state, MatView<float> centring);

/// What the sweep would step by: gradients with everything in `batch` but grad_scale, [h, d],
/// [h, d_out], [h]; where unit_decoder the part parallel to a decoder row is still there. Nothing
/// may be due. `centring` as above. Matrices may be empty: then only the sum of squares is formed.
/// Returns Σ g² of all three, the parallel part left out where `unit_decoder`.
double sae_sweep_gradients(const SaeSweepBatch& batch, bool unit_decoder,
                           const SaeSweepState& state, MatView<float> encoder_grad,
                           MatView<float> decoder_grad, std::span<float> bias_grad,
                           MatView<float> centring);

/// Gradients of latent rows from the active entries, for checks: both [h, d], bias_grad [h].
void sae_gradients_active(const ActiveEntries& entries, MatView<const float> xc,
                          MatView<const float> gx, MatView<float> encoder_grad,
                          MatView<float> decoder_grad, std::span<float> bias_grad);

}  // namespace drrik
