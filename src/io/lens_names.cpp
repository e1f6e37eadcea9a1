#include "io/lens_names.h"

#include <charconv>

#include "drrik/base/error.h"

namespace drrik::detail {
namespace {

struct Row {
  std::string_view own;
  std::string_view lens;
  std::string_view alias;  ///< The same place in a TransformerBridge, by the module beside it.
};

// The first row that fits counts. hook_mlp_in is left out on purpose: it is the residual stream in
// front of the norm, resid_mid in most models, and never our mlp_in, which only bridges can name.
constexpr Row kRows[] = {{"embed", "hook_embed", "embed.hook_out"},
                         {"pos_embed", "hook_pos_embed", "pos_embed.hook_out"},
                         {"resid_pre", "hook_resid_pre", "hook_in"},
                         {"q", "attn.hook_q", "attn.q.hook_out"},
                         {"k", "attn.hook_k", "attn.k.hook_out"},
                         {"v", "attn.hook_v", "attn.v.hook_out"},
                         {"attn_z", "attn.hook_z", "attn.o.hook_in"},
                         {"attn_out", "hook_attn_out", "attn.hook_out"},
                         {"attn_add", "hook_attn_out", "ln1_post.hook_out"},
                         {"resid_mid", "hook_resid_mid", "ln2.hook_in"},
                         {"mlp_in", "mlp.hook_in", "ln2.hook_out"},
                         {"mlp_post", "mlp.hook_post", "mlp.out.hook_in"},
                         {"mlp_out", "hook_mlp_out", "mlp.hook_out"},
                         {"mlp_add", "hook_mlp_out", "ln2_post.hook_out"},
                         {"resid_post", "hook_resid_post", "hook_out"}};

// What stands in front of the blocks has no layer in its name.
bool before_blocks(std::string_view place) {
  for (const std::string_view outer :
       {"hook_embed", "embed.hook_out", "hook_pos_embed", "pos_embed.hook_out"}) {
    if (place == outer) return true;
  }
  return false;
}

}  // namespace

std::optional<LensName> split_lens_name(std::string_view name) {
  constexpr std::string_view kPrefix = "blocks.";
  if (before_blocks(name)) return LensName{0, name};
  if (!name.starts_with(kPrefix)) return std::nullopt;
  LensName out;
  const char* end = name.data() + name.size();
  const auto [after, error] = std::from_chars(name.data() + kPrefix.size(), end, out.layer);
  if (error != std::errc{} || after == end || *after != '.' || out.layer < 0) return std::nullopt;
  out.place = {after + 1, static_cast<std::size_t>(end - after - 1)};
  if (before_blocks(out.place)) return std::nullopt;
  return out;
}

std::string make_lens_name(std::int64_t layer, std::string_view place) {
  return before_blocks(place) ? std::string(place) : str("blocks.", layer, ".", place);
}

std::string_view find_lens_place(std::string_view own) {
  for (const Row& row : kRows) {
    if (row.own == own) return row.lens;
  }
  return {};
}

std::string_view find_own_place(std::string_view lens) {
  for (const Row& row : kRows) {
    if (row.lens == lens || row.alias == lens) return row.own;
  }
  return {};
}

}  // namespace drrik::detail
