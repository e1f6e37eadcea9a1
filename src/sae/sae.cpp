#include "drrik/sae/sae.h"

namespace drrik {

void Sae::reconstruct(MatView<const float> x, MatView<float> out) const {
  SparseRows features;
  encode(x, features);
  decode(features, out);
}

void Sae::encode_and_reconstruct(MatView<const float> x, SparseRows& features,
                                 MatView<float> out) const {
  encode(x, features);
  reconstruct(x, out);
}

std::vector<float> Sae::encoder_direction(std::int64_t /*latent*/) const { return {}; }

}  // namespace drrik
