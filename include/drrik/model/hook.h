#pragma once
// Hook points: the named places in a block where activations are read or edited.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/tensor/mat_view.h"

namespace drrik {

/// In the order of the forward pass. Queries, keys and values are those that the projections give
/// with their biases, before any clipping, norm or rotation of them; heads lie side by side.
enum class HookPoint : std::uint8_t {
  kEmbed,     ///< rows of the token embedding, scaled where the model scales them, before
              ///< positions, norm and projection: [n, embedding_width]. See before_blocks()
  kPosEmbed,  ///< rows of the position table, where there is one, [n, d_model]. Likewise
  kResidPre,  ///< input of the block, [n, d_model]
  kQ,         ///< queries, [n, n_heads · head_dim]
  kK,         ///< keys, [n, n_kv_heads · head_dim]
  kV,         ///< values, [n, n_kv_heads · head_dim]
  kAttnZ,     ///< the heads' weighted values, input of the attention's output projection,
              ///< [n, n_heads · head_dim]
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

/// Whether the point stands in front of the blocks. It then counts as layer 0's, and no other layer
/// has it.
constexpr bool before_blocks(HookPoint point) {
  return point == HookPoint::kEmbed || point == HookPoint::kPosEmbed;
}

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
