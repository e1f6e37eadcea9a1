#pragma once
// The three spellings of a hook point, mapped onto each other:
//
//   ours            mlp_out (the layer is given apart)
//   TransformerLens blocks.3.hook_mlp_out, blocks.3.mlp.hook_post, blocks.3.mlp.hook_out
//   module paths    model.layers[3].mlp, transformer.h.3.mlp.c_proj.input, h.3.mlp,
//                   transformer.h[3].attn.c_attn (q): the queries in what that module gives
//
// A module path is the one of transformers or nnsight, with [3] or .3, with the base model's prefix
// or without; it means the module's output unless ".input" (or nnsight's ".input[0]", or the
// " (input)" that module_path() writes) follows. TransformerLens's names are those of version 4's
// TransformerBridge; "raw" values, as nothing is folded into or centred out of the weights here.
// docs/hooks.md has the table.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/model/config.h"
#include "drrik/model/hook.h"

namespace drrik {

/// A hook as a user writes it.
struct NamedHook {
  HookPoint point = HookPoint::kMlpOut;
  std::optional<std::int64_t> layer;  ///< Where the name carries one (before_blocks(): always 0).
};

/// Reads a name in any spelling for a model of this configuration. Throws Error(usage) for a name
/// that is none, names a place that is no hook point of this model (and says which are, with the
/// nearest one), a layer that the model has not, or a point whose meaning differs from one version
/// of TransformerLens to another.
NamedHook parse_hook(std::string_view name, const ModelConfig& config);

/// The same for one hook: the name's layer, or `layer`. Throws Error(usage) as well when both are
/// there and differ, or neither is.
Hook parse_hook(std::string_view name, std::optional<std::int64_t> layer,
                const ModelConfig& config);

/// The same for several layers: the name's one, or `layers`. Throws Error(usage) as well when the
/// name's layer is not all that `layers` asks for; without any it answers none.
struct HookLayers {
  HookPoint point = HookPoint::kMlpOut;
  std::vector<std::int64_t> layers;
};
HookLayers parse_hook(std::string_view name, const std::vector<std::int64_t>& layers,
                      const ModelConfig& config);

/// Whether a name says the layer, or takes a model's configuration to be understood:
/// TransformerLens's names and module paths do; of ours only those of before_blocks().
bool names_a_place(std::string_view name);

/// The points that a model of this configuration has, in the order of the forward pass.
std::vector<HookPoint> hook_points(const ModelConfig& config);

/// Width of the activations at a point.
std::int64_t hook_width(HookPoint point, const ModelConfig& config);

/// "model.layers[3].mlp", "model.layers[3].mlp.down_proj (input)"; "transformer.h[3].attn.c_attn
/// (q)" where one module gives queries, keys and values together.
std::string module_path(const Hook& hook, const ModelConfig& config);

/// "blocks.3.hook_mlp_out". Empty where TransformerLens has no name that means just this.
std::string transformer_lens_name(const Hook& hook, const ModelConfig& config);

}  // namespace drrik
