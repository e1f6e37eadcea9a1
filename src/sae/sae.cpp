#include "drrik/sae/sae.h"

namespace drrik {

void Sae::reconstruct(MatView<const float> x, MatView<float> out) const {
  SparseRows features;
  encode(x, features);
  decode(features, out);
}

}  // namespace drrik
