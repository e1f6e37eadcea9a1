#pragma once
// Non-linearities of feed-forward layers, element by element, in parallel over rows.
//
// Accuracy against double precision: within 4 float32 ulp of the result plus 1e-7 of |x| where the
// result cancels towards zero (the negative tail of the GELUs).

#include <cstdint>
#include <optional>
#include <string_view>

#include "drrik/tensor/dtype.h"
#include "drrik/tensor/mat_view.h"

namespace drrik {

enum class Activation : std::uint8_t {
  kIdentity,
  kRelu,
  kGelu,       ///< x · Φ(x), with erf.
  kGeluTanh,   ///< 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))): "gelu_new", "gelu_pytorch_tanh".
  kGeluQuick,  ///< x · sigmoid(1.702 x).
  kSilu,       ///< x · sigmoid(x), also called swish.
  kTanh,
  kSigmoid,
  kReluSquared,  ///< max(x, 0)².
  kRelu6,        ///< min(max(x, 0), 6).
  kLeakyRelu,    ///< x, or 0.01 x below 0.
  kGelu10,       ///< kGelu, at most 10.
  kMish,         ///< x · tanh(ln(1 + exp(x))).
  kHardSwish     ///< x · min(max(x + 3, 0), 6) / 6.
};
inline constexpr Activation kLastActivation = Activation::kHardSwish;

/// By the names that `hidden_act` of config.json has: "gelu", "gelu_new", "silu", "swish", ...
std::optional<Activation> find_activation(std::string_view name);
std::string_view activation_name(Activation activation);

/// out = f(x). x, out of one shape; out may be x itself. Throws Error(data) when shapes differ.
/// Thread-safe.
void activate(Activation activation, MatView<const float> x, MatView<float> out);
void activate(Activation activation, MatView<const float> x, MatView<BF16> out);

/// out = f(gate) · up, in one pass (SwiGLU, GeGLU). All of one shape, any strides; out may be gate
/// or up itself. Throws Error(data) when shapes differ. Thread-safe.
void gate_mul(Activation activation, MatView<const float> gate, MatView<const float> up,
              MatView<float> out);
void gate_mul(Activation activation, MatView<const float> gate, MatView<const float> up,
              MatView<BF16> out);

}  // namespace drrik
