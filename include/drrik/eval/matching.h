#pragma once
// Whether two dictionaries hold the same features.

#include <cstdint>
#include <vector>

#include "drrik/sae/sae.h"

namespace drrik {

/// Of each latent of one coder, the most similar of the other's, by the cosine of decoder
/// directions.
struct FeatureMatch {
  std::vector<float> cosine;          ///< [h of a], the largest; 0 for a direction of norm 0.
  std::vector<std::int32_t> partner;  ///< [h of a], whose it is.
  double mean_max_cosine = 0.0;       ///< Mean of `cosine`.
  double matched = 0.0;               ///< Share of latents of a with a partner of cosine >= 0.7.
  /// Share of latents of a that are also the most similar to their partner.
  double mutual = 0.0;
};

/// The usual measure of seed-to-seed stability (mean max cosine similarity, Sharkey et al. 2022).
/// O(h_a · h_b · d) time in products; memory for a tile of them. Throws Error(data) when the
/// outputs differ in width, Error(interrupted).
FeatureMatch match_features(const Sae& a, const Sae& b);

}  // namespace drrik
