#pragma once
// What one latent owns, as the kernels of every instruction set take it.

namespace drrik {

struct LatentRows {
  float *encoder, *encoder_m, *encoder_v;
  float *decoder, *decoder_m, *decoder_v;
};

}  // namespace drrik
