#include "drrik/model/hook_names.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <tuple>

#include "drrik/base/error.h"
#include "drrik/model/model.h"
#include "io/lens_names.h"
#include "model/family.h"
#include "model/model_impl.h"

namespace drrik {
namespace {

using detail::TensorNames;

/// The residual stream as the MLP's branch leaves it, in front of any norm.
HookPoint mlp_branch_point(const ModelConfig& config) {
  return config.parallel_residual ? HookPoint::kResidPre : HookPoint::kResidMid;
}

/// A module inside a block, by its input or its output, where the activations of a point pass.
struct Place {
  HookPoint point;
  std::string module;  // empty: the block itself
  bool input = false;
  std::string_view part = {};  // "q", "k", "v": of an output that holds all three; empty: the whole

  /// As module_path() writes it.
  std::string path(std::string_view block) const {
    return str(block, module.empty() ? "" : ".", module, input ? " (input)" : "",
               part.empty() ? "" : str(" (", part, ")"));
  }
};

/// Every place of a block whose activations are those of a hook point. Of two at one place the
/// first counts; of one point's places the first is the one that module_path() gives.
std::vector<Place> places(const ModelConfig& c) {
  const TensorNames t = detail::tensor_names(c);
  const detail::ModulePaths& m = detail::get_family(c.family).modules;
  const bool after = c.norm_wiring == NormWiring::kPost;
  std::vector<Place> out;
  const auto add = [&](HookPoint point, std::string_view module, bool input) {
    if (!module.empty()) out.push_back({point, std::string(module), input});
  };
  out.push_back({HookPoint::kResidPre, "", true});
  if (!after) add(HookPoint::kResidPre, t.attn_norm, true);
  const std::tuple<HookPoint, std::string_view, std::string_view, std::string_view> made[] = {
      {HookPoint::kQ, "q", t.q, t.q_norm},
      {HookPoint::kK, "k", t.k, t.k_norm},
      {HookPoint::kV, "v", t.v, {}}};
  for (const auto& [point, part, module, norm] : made) {
    if (t.qkv_layout == detail::QkvLayout::kSeparate) {
      add(point, module, false);
    } else {
      out.push_back({point, std::string(t.qkv), false, part});
    }
    if (c.qk_norm != QkNorm::kNone) add(point, norm, true);
  }
  add(HookPoint::kAttnZ, t.attn_out, true);
  add(HookPoint::kAttnOut, m.attention, false);
  add(HookPoint::kAttnOut, t.attn_out, false);
  add(HookPoint::kAttnOut, t.attn_out_norm, true);
  add(HookPoint::kAttnAdd, t.attn_out_norm, false);
  add(HookPoint::kMlpIn, m.mlp_in.empty() ? m.mlp : m.mlp_in, true);
  for (const std::string_view reader : {t.up, t.gate, t.gate_up}) {
    add(HookPoint::kMlpIn, reader, true);
  }
  if (after) {
    add(HookPoint::kResidMid, t.attn_norm, true);
    add(HookPoint::kMlpIn, t.attn_norm, false);
  } else if (c.norm_wiring == NormWiring::kOutput) {
    add(HookPoint::kResidMid, m.mlp, true);  // which is mlp_in, too
  } else if (c.shared_norm) {
    add(HookPoint::kMlpIn, t.attn_norm, false);
  } else {
    add(mlp_branch_point(c), t.mlp_norm, true);
    add(HookPoint::kMlpIn, t.mlp_norm, false);
  }
  add(HookPoint::kMlpPost, t.down, true);
  add(HookPoint::kMlpOut, m.mlp, false);
  add(HookPoint::kMlpOut, t.down, false);
  add(HookPoint::kMlpOut, t.mlp_out_norm, true);
  add(HookPoint::kMlpAdd, t.mlp_out_norm, false);
  out.push_back({HookPoint::kResidPost, "", false});
  if (after) add(HookPoint::kResidPost, t.mlp_norm, false);
  return out;
}

/// The same of what stands in front of the blocks: modules after the prefix, by their outputs.
std::vector<Place> outer_places(const ModelConfig& c) {
  const TensorNames t = detail::tensor_names(c);
  std::vector<Place> out = {{HookPoint::kEmbed, std::string(t.embedding)}};
  if (has_hook(c, HookPoint::kPosEmbed)) {
    out.push_back({HookPoint::kPosEmbed, std::string(t.positions)});
  }
  if (c.embedding_norm) out.push_back({HookPoint::kResidPre, std::string(t.embedding_norm)});
  return out;
}

struct LensPlace {
  HookPoint point;
  std::string_view name;
};

/// Where a TransformerBridge has our points, of each its most usual name first.
std::vector<LensPlace> lens_places(const ModelConfig& c) {
  const TensorNames t = detail::tensor_names(c);
  const detail::ModulePaths& m = detail::get_family(c.family).modules;
  std::vector<LensPlace> out = {{HookPoint::kResidPre, "hook_resid_pre"},
                                {HookPoint::kResidPre, "hook_in"},
                                {HookPoint::kMlpPost, "mlp.hook_post"},
                                {HookPoint::kMlpPost, "mlp.out.hook_in"},
                                {HookPoint::kResidPost, "hook_resid_post"},
                                {HookPoint::kResidPost, "hook_out"},
                                {HookPoint::kQ, "attn.hook_q"},
                                {HookPoint::kQ, "attn.q.hook_out"},
                                {HookPoint::kK, "attn.hook_k"},
                                {HookPoint::kK, "attn.k.hook_out"},
                                {HookPoint::kV, "attn.hook_v"},
                                {HookPoint::kV, "attn.v.hook_out"},
                                {HookPoint::kAttnZ, "attn.hook_z"},
                                {HookPoint::kAttnZ, "attn.o.hook_in"}};
  const auto add = [&](HookPoint point, std::string_view name) { out.push_back({point, name}); };
  // Behind the norm that the embedding may have: what the first block reads.
  add(c.embedding_norm ? HookPoint::kResidPre : HookPoint::kEmbed, "hook_embed");
  add(HookPoint::kEmbed, "embed.hook_out");
  if (has_hook(c, HookPoint::kPosEmbed)) {
    add(HookPoint::kPosEmbed, "hook_pos_embed");
    add(HookPoint::kPosEmbed, "pos_embed.hook_out");
  }
  // What the residual stream takes in.
  const bool normed = c.output_norms();
  add(normed ? HookPoint::kMlpAdd : HookPoint::kMlpOut, "hook_mlp_out");
  // BLOOM's module around the MLP adds the residual stream itself.
  if (m.mlp_in.empty() || !t.down.starts_with(str(m.mlp_in, "."))) {
    add(HookPoint::kMlpOut, "mlp.hook_out");
  }
  if (c.norm_wiring == NormWiring::kPost) {
    // The other names stand behind the norms here, or elsewhere in earlier versions.
    add(HookPoint::kAttnOut, "attn.o.hook_out");
    add(HookPoint::kResidMid, "ln1.hook_in");
    add(HookPoint::kMlpIn, "ln1.hook_out");
    return out;
  }
  add(normed ? HookPoint::kAttnAdd : HookPoint::kAttnOut, "hook_attn_out");
  if (m.attention != t.attn_out) add(HookPoint::kAttnOut, "attn.hook_out");
  add(HookPoint::kAttnOut, "attn.o.hook_out");
  if (normed) {
    add(HookPoint::kAttnOut, "ln1_post.hook_in");
    add(HookPoint::kAttnAdd, "ln1_post.hook_out");
    add(HookPoint::kMlpOut, "ln2_post.hook_in");
    add(HookPoint::kMlpAdd, "ln2_post.hook_out");
  }
  if (!c.parallel_residual) add(HookPoint::kResidMid, "hook_resid_mid");
  // In front of the norm, unlike our mlp_in.
  add(mlp_branch_point(c), "hook_mlp_in");
  add(HookPoint::kMlpIn, "mlp.hook_in");
  add(HookPoint::kMlpIn, "mlp.in.hook_in");
  if (c.norm_wiring == NormWiring::kOutput || c.shared_norm) return out;
  add(mlp_branch_point(c), "ln2.hook_in");
  add(HookPoint::kMlpIn, "ln2.hook_out");
  if (!c.norm_weights) add(HookPoint::kMlpIn, "ln2.hook_normalized");
  return out;
}

std::string_view base_prefix(const ModelConfig& config) {
  return detail::get_family(config.family).tensors.prefix;
}

std::string block_path(const ModelConfig& config, std::int64_t layer) {
  const TensorNames& t = detail::get_family(config.family).tensors;
  return str(t.prefix, t.blocks, "[", layer, "]");
}

constexpr std::string_view kNoPlace = "is not a place that can be read";
// Long enough for any name; what is longer is cut before it is compared or shown.
constexpr std::size_t kLongestName = 200;

std::string quoted(std::string_view name) {
  return name.size() <= kLongestName
             ? str("hook '", name, "'")
             : str("hook '", name.substr(0, kLongestName), "…' (", name.size(), " characters)");
}

/// What a user can choose from, in all spellings, for a layer.
std::vector<std::string> known_names(const ModelConfig& config, std::int64_t layer) {
  std::vector<std::string> out;
  const std::string block = block_path(config, layer);
  for (const HookPoint point : hook_points(config)) {
    out.emplace_back(hook_name(point));
  }
  for (const LensPlace& place : lens_places(config)) {
    out.push_back(detail::make_lens_name(layer, place.name));
  }
  for (const Place& place : places(config)) out.push_back(place.path(block));
  for (const Place& place : outer_places(config)) {
    out.push_back(str(base_prefix(config), place.module));
  }
  return out;
}

/// `why` follows the name. `slip`: the name may be a misspelled one.
enum class Slip : bool { kNo, kYes };
[[noreturn]] void refuse(std::string_view name, std::int64_t layer, const ModelConfig& config,
                         std::string_view why, Slip slip = Slip::kNo) {
  std::vector<std::string> paths;
  for (const HookPoint point : hook_points(config)) {
    paths.push_back(str(hook_name(point), " = ", module_path({point, layer}, config)));
  }
  const std::string hint =
      slip == Slip::kNo ? ""
                        : did_you_mean(name.substr(0, kLongestName), known_names(config, layer));
  throw_usage(quoted(name), " ", why, hint, hint.empty() ? "; the" : " The",
              " hook points of this ", config.family, " model are ", join(paths));
}

void check_layer(std::string_view name, std::int64_t layer, const ModelConfig& config) {
  if (layer >= 0 && layer < config.n_layers) return;
  throw_usage(quoted(name), ": layer ", layer, " does not exist: the model has ", config.n_layers,
              " layers (0 to ", config.n_layers - 1, ")");
}

[[noreturn]] void contradict(std::string_view name, std::int64_t named, std::int64_t asked) {
  throw_usage(quoted(name), " is in layer ", named, ", and layer ", asked,
              " was asked for; leave one of them out");
}

void check_point(std::string_view name, HookPoint point, const ModelConfig& config) {
  const std::string why = detail::absence(point, config);
  if (!why.empty()) throw_usage(quoted(name), " ", why);
}

NamedHook parse_lens(std::string_view name, const detail::LensName& parts,
                     const ModelConfig& config) {
  check_layer(name, parts.layer, config);
  for (const LensPlace& place : lens_places(config)) {
    if (place.name == parts.place) return {place.point, parts.layer};
  }
  if (parts.place == "hook_resid_mid" && config.parallel_residual) {
    check_point(name, HookPoint::kResidMid, config);
  }
  if (parts.place == "hook_pos_embed" || parts.place == "pos_embed.hook_out") {
    check_point(name, HookPoint::kPosEmbed, config);
  }
  const auto is = [&](std::string_view place) { return parts.place == place; };
  std::string_view why;
  if (is("ln2.hook_normalized")) {
    why = "is what the norm gives before its weight is applied; mlp_in comes after it";
  } else if (is("mlp.hook_pre")) {
    why = "stands in front of the non-linearity; mlp_post comes after it";
  } else if (is("attn.hook_rot_q") || is("attn.hook_rot_k")) {
    why = "stands behind the rotation of queries and keys; q and k come before it";
  } else if (is("hook_attn_out") || is("hook_resid_mid") || is("hook_mlp_in") ||
             is("attn.hook_out") || is("mlp.hook_in") || is("mlp.hook_out")) {
    why = "stands elsewhere in such a model than its name says, behind a norm or a residual add";
  } else {
    refuse(name, parts.layer, config, kNoPlace, Slip::kYes);
  }
  refuse(name, parts.layer, config, why);
}

std::vector<std::string> split_path(std::string_view path) {
  std::vector<std::string> out(1);
  for (const char c : path) {
    if (c == '.' || c == '[') {
      out.emplace_back();
    } else if (c != ']') {
      out.back() += c;
    }
  }
  return out;
}

std::optional<std::int64_t> number(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

bool drop_suffix(std::string_view& text, std::string_view suffix) {
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

/// Takes ".output", ".input", ".output[0]", ".inputs[0][0]", " (input)" off; whether it was input.
bool take_side(std::string_view& path) {
  if (drop_suffix(path, " (input)")) return true;
  if (drop_suffix(path, " (output)")) return false;
  std::string_view bare = path;
  while (drop_suffix(bare, "[0]")) {
  }
  for (const std::string_view side : {".output", ".input", ".inputs"}) {
    if (!drop_suffix(bare, side)) continue;
    path = bare;
    return side != ".output";
  }
  return false;  // and a "[0]" that stands at the end is a layer's
}

/// Takes " (q)", " (k)", " (v)" off; which it was.
std::string_view take_part(std::string_view& path) {
  for (const std::string_view part : {"q", "k", "v"}) {
    if (drop_suffix(path, str(" (", part, ")"))) return part;
  }
  return {};
}

/// The parts from `begin` on, as a module's name.
std::string module_of(const std::vector<std::string>& parts, std::size_t begin) {
  std::string out;
  for (std::size_t i = begin; i < parts.size(); ++i) {
    if (i > begin) out += '.';
    out += parts[i];
  }
  return out;
}

NamedHook parse_path(std::string_view name, const ModelConfig& config) {
  const TensorNames& t = detail::get_family(config.family).tensors;
  std::string_view path = name;
  const std::string_view part = take_part(path);
  const bool input = take_side(path);
  const std::vector<std::string> parts = split_path(path);
  const std::vector<std::string> blocks = split_path(t.blocks);
  const std::vector<std::string> prefix = split_path(t.prefix);
  // What may stand in front of the blocks: the base model's prefix, whole, in part or not at all,
  // and the variable that holds the model in nnsight's documentation.
  std::size_t begin = 0;
  const auto at_blocks = [&] {
    return begin + blocks.size() < parts.size() &&
           std::equal(blocks.begin(), blocks.end(),
                      parts.begin() + static_cast<std::ptrdiff_t>(begin)) &&
           number(parts[begin + blocks.size()]).has_value();
  };
  while (begin < parts.size() && !at_blocks()) {
    const std::string& step = parts[begin];
    const bool known = step == "model" || step == "language_model" ||
                       (!step.empty() && std::ranges::find(prefix, step) != prefix.end());
    if (!known) break;
    ++begin;
  }
  if (begin >= parts.size() || !at_blocks()) {
    const std::string outer = module_of(parts, begin);
    for (const Place& place : outer_places(config)) {
      if (place.module == outer && !input && part.empty()) return {place.point, 0};
    }
    refuse(name, 0, config, str("names no block of this model, wanted ", block_path(config, 0)),
           Slip::kYes);
  }
  const std::int64_t layer = *number(parts[begin + blocks.size()]);
  check_layer(name, layer, config);
  const std::string module = module_of(parts, begin + blocks.size() + 1);
  // A dot too many leaves an empty part, which no module's name has.
  const bool whole = parts.size() == begin + blocks.size() + 1;
  for (const Place& place : places(config)) {
    if (place.module != module || place.input != input || place.module.empty() != whole) continue;
    if (place.part != part) continue;
    check_point(name, place.point, config);
    return {place.point, layer};
  }
  if (!t.qkv.empty() && module == t.qkv && !input && part.empty()) {
    refuse(name, layer, config, "gives queries, keys and values together; name one, as in (q)");
  }
  refuse(name, layer, config, kNoPlace, Slip::kYes);
}

/// Not one of our own names.
bool is_foreign(std::string_view text) {
  return text.find_first_of(".[") != std::string_view::npos ||
         detail::split_lens_name(text).has_value();
}

std::string lower(std::string_view text) {
  std::string out(text.substr(0, kLongestName));
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

}  // namespace

HookLayers parse_hook(std::string_view name, const std::vector<std::int64_t>& layers,
                      const ModelConfig& config) {
  const NamedHook named = parse_hook(name, config);
  if (!named.layer) return {named.point, layers};
  for (const std::int64_t layer : layers) {
    if (layer != *named.layer) contradict(name, *named.layer, layer);
  }
  return {named.point, {*named.layer}};
}

bool names_a_place(std::string_view name) {
  const std::string_view text = trim(name);
  if (is_foreign(text)) return true;
  const std::string own = lower(text);
  return own == hook_name(HookPoint::kEmbed) || own == hook_name(HookPoint::kPosEmbed);
}

std::vector<HookPoint> hook_points(const ModelConfig& config) {
  std::vector<HookPoint> out;
  for (const std::string& own : hook_names()) {
    const HookPoint point = parse_hook(own);
    if (has_hook(config, point)) out.push_back(point);
  }
  return out;
}

std::int64_t hook_width(HookPoint point, const ModelConfig& config) {
  switch (point) {
    case HookPoint::kEmbed:
      return config.embedding_width();
    case HookPoint::kQ:
    case HookPoint::kAttnZ:
      return config.q_dim();
    case HookPoint::kK:
    case HookPoint::kV:
      return config.kv_dim();
    case HookPoint::kMlpPost:
      return config.d_mlp;
    default:
      return config.d_model;
  }
}

NamedHook parse_hook(std::string_view name, const ModelConfig& config) {
  const std::string_view text = trim(name);
  if (!is_foreign(text)) {
    const HookPoint point = parse_hook(lower(text));
    check_point(text, point, config);
    if (before_blocks(point)) return {point, 0};
    return {point, std::nullopt};
  }
  if (text.size() > kLongestName) refuse(text, 0, config, "is too long for a hook's name");
  if (const auto lens = detail::split_lens_name(text)) return parse_lens(text, *lens, config);
  return parse_path(text, config);
}

Hook parse_hook(std::string_view name, std::optional<std::int64_t> layer,
                const ModelConfig& config) {
  const NamedHook named = parse_hook(name, config);
  if (named.layer && layer && *named.layer != *layer) contradict(name, *named.layer, *layer);
  if (!named.layer && !layer) {
    throw_usage(quoted(name), " names no layer; give one, or write ",
                module_path({named.point, 0}, config), " and its like");
  }
  const Hook hook{named.point, named.layer ? *named.layer : *layer};
  check_layer(name, hook.layer, config);
  return hook;
}

std::string module_path(const Hook& hook, const ModelConfig& config) {
  const std::string block = block_path(config, hook.layer);
  for (const Place& place : places(config)) {
    if (place.point == hook.point) return place.path(block);
  }
  for (const Place& place : outer_places(config)) {
    if (place.point == hook.point) return str(base_prefix(config), place.module);
  }
  return str(block, " ", hook_name(hook.point));
}

std::string transformer_lens_name(const Hook& hook, const ModelConfig& config) {
  for (const LensPlace& place : lens_places(config)) {
    if (place.point == hook.point) return detail::make_lens_name(hook.layer, place.name);
  }
  return "";
}

}  // namespace drrik
