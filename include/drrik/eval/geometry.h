#pragma once
// The directions of an autoencoder's latents: how long they are, how alike, and how alike encoder
// and decoder are.

#include <cstdint>
#include <vector>

#include "drrik/sae/sae.h"

namespace drrik {

struct DecoderGeometry {
  // Norms of decoder directions.
  double norm_mean = 0.0;
  double norm_min = 0.0;
  double norm_max = 0.0;
  std::int64_t zero_directions = 0;  ///< Of norm 0 or not finite: they have no cosine.

  // Redundancy: for each latent the largest |cos| to another latent's decoder direction; NaN with
  // fewer than two latents.
  std::int64_t latents_compared = 0;  ///< Fewer than d_sae when those were sampled.
  double max_cosine_mean = 0.0;
  double max_cosine_over_90_percent = 0.0;  ///< Share of latents for which it is > 0.9.
  std::vector<float> max_cosine;            ///< [latents_compared], in order of `latents`.
  std::vector<std::int32_t> latents;        ///< Which were compared, ascending.

  // Cosine of a latent's encoder and decoder direction; NaN where the architecture has no encoder
  // row of its own for a latent or input and output are different spaces.
  double encoder_cosine_mean = 0.0;
  double encoder_cosine_min = 0.0;
};

/// Every latent against every other, tile by tile, up to `full_latents` of them; beyond, a sample
/// (evenly spaced) of full_latents² / d_sae latents against all others, so that time grows linearly
/// in d_sae. O(d_sae² · d_out) up to there; memory for two tiles of directions and their products,
/// never [d_sae, d_sae]. Throws Error(interrupted).
DecoderGeometry decoder_geometry(const Sae& sae, std::int64_t full_latents = 32768);

}  // namespace drrik
