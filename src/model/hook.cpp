#include "drrik/model/hook.h"

#include <array>

#include "drrik/base/error.h"

namespace drrik {
namespace {

constexpr std::array<std::string_view, 15> kNames = {
    "embed",    "pos_embed", "resid_pre", "q",        "k",       "v",       "attn_z",    "attn_out",
    "attn_add", "resid_mid", "mlp_in",    "mlp_post", "mlp_out", "mlp_add", "resid_post"};

}  // namespace

std::string_view hook_name(HookPoint point) { return kNames[static_cast<std::size_t>(point)]; }

std::vector<std::string> hook_names() { return {kNames.begin(), kNames.end()}; }

HookPoint parse_hook(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<HookPoint>(i);
  }
  throw_usage("hook '", name, "' is not known; known: ", join(hook_names()),
              did_you_mean(name, hook_names()));
}

}  // namespace drrik
