#pragma once
// The part of a coder's training loss that makes it sparse.

#include <cstdint>

namespace drrik {

/// A variant reads what concerns it. Sums over latents, means over rows.
struct SparsityOptions {
  double coefficient = 0.0;  ///< λ, after its warm-up.
  /// standard, gated: λ Σ f ‖d‖ instead of λ Σ f.
  bool by_decoder_norm = false;

  enum class JumpRelu : std::uint8_t {
    kL0,      ///< λ · L0 (Rajamanoharan et al., 2024).
    kTarget,  ///< λ · (L0 / target_l0 − 1)², L0 the batch's mean (dictionary_learning).
    kQuadratic,  ///< λ · mean of (2 / target_l0) (L0 − target_l0)², each row's L0 (Gemma Scope 2).
    kTanh        ///< λ Σ tanh(tanh_scale f ‖d‖) (Anthropic, January 2025).
  };
  JumpRelu jumprelu = JumpRelu::kL0;
  double target_l0 = 20.0;
  double tanh_scale = 4.0;
  double bandwidth = 0.001;  ///< ε of the kernel 1[|u| < 1/2] of (h − θ) / ε.
  /// kTanh: coefficient of Σ relu(θ − h) ‖d‖ over dead latents. 0: off.
  double preact_coefficient = 0.0;
  /// Whether the kernel's gradient of θ also reaches h, negated (Anthropic's form).
  bool gradient_to_input = false;
};

}  // namespace drrik
