#pragma once
// TransformerLens's names of the places in a block ("blocks.3.hook_mlp_out"), which SAELens writes
// into its files, as text. Two rooms that do not know each other speak them: the autoencoder's
// files, and the model's hooks. What a name means in a model of another wiring than GPT-2's is the
// model room's affair (drrik/model/hook_names.h).

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace drrik::detail {

struct LensName {
  std::int64_t layer = 0;
  std::string_view place;  ///< "hook_mlp_out", "attn.hook_z"; a part of the text split.
};

/// "blocks.3.hook_mlp_out" in its parts; nothing when the text is not of that form. The names that
/// stand in front of the blocks ("hook_embed") are places of layer 0.
std::optional<LensName> split_lens_name(std::string_view name);
std::string make_lens_name(std::int64_t layer, std::string_view place);

/// "hook_mlp_out" for our "mlp_out". Empty: TransformerLens has no name for it.
std::string_view find_lens_place(std::string_view own);
/// "mlp_out" for "hook_mlp_out", and for what newer versions call it as well, "mlp.hook_out".
/// Empty: not a place that we name.
std::string_view find_own_place(std::string_view lens);

}  // namespace drrik::detail
