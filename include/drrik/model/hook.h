#pragma once
// Hook points: the named places in a block where activations are read or edited.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/tensor/mat_view.h"

namespace drrik {

/// In the order of the forward pass.
enum class HookPoint : std::uint8_t {
  kResidPre,  ///< input of the block, [n, d_model]
  kAttnOut,   ///< output of the attention module, [n, d_model]
  kAttnAdd,   ///< attn_out after its own norm, where the architecture has one (Gemma 2 and 3, OLMo
              ///< 2): what the residual stream takes in, [n, d_model]
  kResidMid,  ///< after the attention's residual add, [n, d_model]
  kMlpIn,     ///< input of the MLP module (after its norm), [n, d_model]
  kMlpPost,   ///< after the non-linearity (and gate), input of the down projection, [n, d_mlp]
  kMlpOut,    ///< output of the MLP module, [n, d_model]
  kMlpAdd,    ///< mlp_out after its own norm, as attn_add, [n, d_model]
  kResidPost  ///< output of the block, [n, d_model]
};

/// "mlp_out" and so on.
std::string_view hook_name(HookPoint point);
/// Throws Error(usage) naming the known points and the nearest one.
HookPoint parse_hook(std::string_view name);
std::vector<std::string> hook_names();

/// One place: a point in a zero-based layer.
struct Hook {
  HookPoint point = HookPoint::kMlpOut;
  std::int64_t layer = 0;
  friend bool operator==(const Hook&, const Hook&) = default;
};

/// Called with the activations of every row of the batch, float32 [n, dim], at a hook.
/// A reader leaves them alone; an editor (steering) may change them in place, and what follows in
/// the forward pass sees the change.
using HookFunction = std::function<void(const Hook& hook, MatView<float> activations)>;

}  // namespace drrik
