#pragma once
// Where the time of training steps goes.

namespace drrik {

/// Seconds spent so far in each phase of sparse steps.
struct PhaseSeconds {
  double pack = 0;      ///< centring, metrics of the input, packing the batch for the product
  double product = 0;   ///< encoder product
  double select = 0;    ///< bias, activation, active entries by latent
  double order = 0;     ///< the same entries by row
  double decode = 0;    ///< reconstruction, residual, feature gradients
  double aux = 0;       ///< auxiliary loss of dead latents
  double backward = 0;  ///< through the activation
  double sweep = 0;     ///< weight gradients, Adam, unit norm
};

}  // namespace drrik
