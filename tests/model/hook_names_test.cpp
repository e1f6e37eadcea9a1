// Hook names in three spellings, against where transformers and TransformerLens have the same
// values (tests/data/model/hook_names.json, by tools/reference/hook_names.py).

#include "drrik/model/hook_names.h"

#include <algorithm>
#include <map>
#include <set>

#include "drrik/base/rng.h"
#include "io/json.h"
#include "model/compare.h"

namespace drrik {
namespace {

using test::error_of;

constexpr std::int64_t kLayer = 1;  // the one that the file tells of

struct Case {
  std::string name;
  ModelConfig config;
  /// Names of the same values.
  std::vector<std::vector<std::string>> groups;
  std::vector<std::vector<std::string>> outer;  // what stands in front of block 0

  /// The group of a name, -1 when the file has it not. Those of `outer` follow the others.
  int group_of(const std::string& wanted) const {
    int at = 0;
    for (const auto* part : {&groups, &outer}) {
      for (const auto& group : *part) {
        if (std::ranges::find(group, wanted) != group.end()) return at;
        ++at;
      }
    }
    return -1;
  }
  bool lens_knows_it() const {
    for (const auto& group : groups) {
      for (const std::string& known : group) {
        if (known.starts_with("blocks.")) return true;
      }
    }
    return false;
  }
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = [] {
    std::vector<Case> out;
    const Json json = read_json_file(test::data_folder("hook_names.json"));
    for (const Json& entry : json) {
      Case c;
      c.name = get_string(entry, "name", "case");
      c.config = parse_model_config(json_text(entry.at("config")), c.name);
      c.groups = entry.at("groups").get<std::vector<std::vector<std::string>>>();
      c.outer = entry.at("outer").get<std::vector<std::vector<std::string>>>();
      out.push_back(std::move(c));
    }
    return out;
  }();
  return all;
}

std::optional<NamedHook> try_parse(const std::string& name, const ModelConfig& config) {
  try {
    return parse_hook(name, config);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage) << name;
    return std::nullopt;
  }
}

/// As the file spells it: "model.layers[1].mlp (input)" is "model.layers.1.mlp.input".
std::string as_in_file(std::string path) {
  const bool input = path.ends_with(" (input)");
  if (input) path.resize(path.size() - std::string(" (input)").size());
  for (std::size_t at = path.find('['); at != std::string::npos; at = path.find('[')) {
    path.replace(at, 1, ".");
    path.erase(path.find(']'), 1);
  }
  return path + (input ? ".input" : ".output");
}

// Every name that is accepted means the values that our hook point has, whoever's name it is; what
// no point stands for is refused.
TEST(HookNames, MeanTheSameValuesInEverySpelling) {
  for (const Case& c : cases()) {
    std::map<HookPoint, std::set<int>> groups_of;
    int accepted = 0;
    for (std::size_t g = 0; g < c.groups.size(); ++g) {
      for (const std::string& name : c.groups[g]) {
        const auto hook = try_parse(name, c.config);
        if (!hook) continue;
        ++accepted;
        EXPECT_EQ(hook->layer, kLayer) << c.name << ": " << name;
        groups_of[hook->point].insert(static_cast<int>(g));
      }
    }
    EXPECT_GE(accepted, 10) << c.name;
    for (const auto& [point, groups] : groups_of) {
      EXPECT_EQ(groups.size(), 1U) << c.name << ": " << hook_name(point);
    }
  }
}

TEST(HookNames, OfWhatStandsBeforeTheBlocksMeanTheSameValues) {
  for (const Case& c : cases()) {
    std::map<HookPoint, std::set<std::size_t>> groups_of;
    for (std::size_t g = 0; g < c.outer.size(); ++g) {
      for (const std::string& name : c.outer[g]) {
        if (name == "blocks.0.input") {  // the script's own name for it
          groups_of[HookPoint::kResidPre].insert(g);
          continue;
        }
        const auto hook = try_parse(name, c.config);
        if (!hook) continue;
        EXPECT_EQ(hook->layer, 0) << c.name << ": " << name;
        groups_of[hook->point].insert(g);
      }
    }
    EXPECT_EQ(groups_of.contains(HookPoint::kPosEmbed), has_hook(c.config, HookPoint::kPosEmbed));
    EXPECT_TRUE(groups_of.contains(HookPoint::kEmbed)) << c.name;
    for (const auto& [point, groups] : groups_of) {
      EXPECT_EQ(groups.size(), 1U) << c.name << ": " << hook_name(point);
    }
    for (const char* name : {"hook_embed", "hook_pos_embed", "embed.hook_out"}) {
      if (c.group_of(name) < 0) continue;
      EXPECT_TRUE(try_parse(name, c.config)) << c.name << ": " << name;
      EXPECT_TRUE(names_a_place(name));
    }
  }
}

TEST(HookNames, AreWrittenAsTheyAreRead) {
  for (const Case& c : cases()) {
    for (const HookPoint point : hook_points(c.config)) {
      const std::string what = str(c.name, ": ", hook_name(point));
      const std::int64_t layer = before_blocks(point) ? 0 : kLayer;
      const std::string path = module_path({point, layer}, c.config);
      // A part of what a module gives has no name in transformers.
      const bool part = path.ends_with("(q)") || path.ends_with("(k)") || path.ends_with("(v)");
      const std::string name = part ? transformer_lens_name({point, layer}, c.config) : path;
      const int group = c.group_of(part ? name : as_in_file(path));
      EXPECT_TRUE(group >= 0 || (part && !c.lens_knows_it())) << what << ": nobody has " << name;
      const auto back = try_parse(path, c.config);
      ASSERT_TRUE(back) << what << ": " << path;
      EXPECT_EQ(back->layer, layer);
      // OLMo 2 has no norm in front of its MLP: there resid_mid and mlp_in are one place.
      if (back->point != point) {
        EXPECT_EQ(c.config.norm_wiring, NormWiring::kOutput) << what << ": " << path;
        EXPECT_EQ(group, c.group_of(as_in_file(module_path({back->point, kLayer}, c.config))));
      }
      const std::string lens = transformer_lens_name({point, layer}, c.config);
      if (lens.empty()) continue;
      const auto lens_back = try_parse(lens, c.config);
      ASSERT_TRUE(lens_back) << what << ": " << lens;
      EXPECT_EQ(lens_back->point, point) << lens;
      if (!c.lens_knows_it()) continue;
      EXPECT_EQ(c.group_of(lens), group) << what << ": " << lens;
    }
  }
}

// TransformerLens's usual names are all there where it has them.
TEST(HookNames, OfTransformerLensAreAccepted) {
  for (const Case& c : cases()) {
    for (const char* place : {"attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_z",
                              "attn.q.hook_out", "attn.o.hook_in"}) {
      const std::string name = str("blocks.", kLayer, ".", place);
      EXPECT_EQ(c.group_of(name) >= 0, c.lens_knows_it()) << c.name << ": " << name;
      EXPECT_TRUE(try_parse(name, c.config)) << c.name << ": " << name;
    }
    if (!c.config.causal) continue;  // its names for encoders mean other things
    for (const char* place : {"hook_resid_pre", "hook_attn_out", "hook_resid_mid", "hook_mlp_in",
                              "hook_mlp_out", "hook_resid_post", "mlp.hook_post", "mlp.hook_in"}) {
      const std::string name = str("blocks.", kLayer, ".", place);
      if (c.group_of(name) < 0) continue;
      EXPECT_TRUE(try_parse(name, c.config)) << c.name << ": " << name;
    }
  }
}

const ModelConfig& config_of(const std::string& name) {
  for (const Case& c : cases()) {
    if (c.name == name) return c.config;
  }
  throw_usage("no case ", name);
}

TEST(HookNames, ComeWithAndWithoutPrefixAndBrackets) {
  struct Row {
    const char* model;
    const char* name;
    HookPoint point;
  };
  const Row rows[] = {
      {"llama", "mlp_out", HookPoint::kMlpOut},
      {"llama", " Resid_Pre ", HookPoint::kResidPre},
      {"llama", "model.layers[1].mlp", HookPoint::kMlpOut},
      {"llama", "model.layers.1.mlp", HookPoint::kMlpOut},
      {"llama", "model.model.layers[1].mlp.output", HookPoint::kMlpOut},
      {"llama", "layers.1.mlp.output[0]", HookPoint::kMlpOut},
      {"llama", "layers[1].mlp.down_proj.input", HookPoint::kMlpPost},
      {"llama", "layers[1].mlp.down_proj.inputs[0][0]", HookPoint::kMlpPost},
      {"llama", "layers[1].mlp.down_proj (input)", HookPoint::kMlpPost},
      {"llama", "model.layers[1].self_attn", HookPoint::kAttnOut},
      {"llama", "model.layers[1].self_attn.output[0]", HookPoint::kAttnOut},
      {"llama", "model.layers[1]", HookPoint::kResidPost},
      {"llama", "model.layers[1].output[0]", HookPoint::kResidPost},
      {"llama", "model.layers.1", HookPoint::kResidPost},
      {"llama", "model.layers[1].input", HookPoint::kResidPre},
      {"llama", "model.layers[1].inputs[0][0]", HookPoint::kResidPre},
      {"llama", "blocks.1.hook_mlp_out", HookPoint::kMlpOut},
      {"llama", "blocks.1.hook_mlp_in", HookPoint::kResidMid},
      {"gpt_neox", "blocks.1.hook_mlp_in", HookPoint::kResidPre},
      {"gpt2", "transformer.h[1].mlp", HookPoint::kMlpOut},
      {"gpt2", "h.1.mlp.c_proj.input", HookPoint::kMlpPost},
      {"gpt2", "model.transformer.h[1].mlp.output", HookPoint::kMlpOut},
      {"gpt2", "transformer.h.1.ln_2.output", HookPoint::kMlpIn},
      {"llama", "attn_z", HookPoint::kAttnZ},
      {"llama", "blocks.1.attn.hook_z", HookPoint::kAttnZ},
      {"llama", "layers[1].self_attn.o_proj.input", HookPoint::kAttnZ},
      {"llama", "layers[1].self_attn.q_proj", HookPoint::kQ},
      {"llama", "model.layers[1].self_attn.v_proj.output", HookPoint::kV},
      {"qwen3", "model.layers[1].self_attn.k_norm.input", HookPoint::kK},
      {"gpt2", "h[1].attn.c_attn (k)", HookPoint::kK},
      {"gpt2", "transformer.h.1.attn.c_attn.output (v)", HookPoint::kV},
      {"falcon", "transformer.h.1.self_attention.query_key_value (q)", HookPoint::kQ},
  };
  for (const Row& row : rows) {
    const NamedHook hook = parse_hook(row.name, config_of(row.model));
    EXPECT_EQ(hook.point, row.point) << row.name;
    const bool ours = std::string(row.name).find_first_of(".[") == std::string::npos;
    EXPECT_EQ(hook.layer, ours ? std::nullopt : std::optional<std::int64_t>(1)) << row.name;
    EXPECT_EQ(names_a_place(row.name), !ours);
  }
}

TEST(HookNames, OfTheFirstLayerEndInBracketsToo) {
  for (const Case& c : cases()) {
    for (const HookPoint point : hook_points(c.config)) {
      const std::string path = module_path({point, 0}, c.config);
      const auto hook = try_parse(path, c.config);
      ASSERT_TRUE(hook) << c.name << ": " << path;
      EXPECT_EQ(hook->layer, 0) << c.name << ": " << path;
    }
  }
  EXPECT_EQ(parse_hook("layers[0].output[0]", config_of("llama")).point, HookPoint::kResidPost);
}

TEST(HookNames, RefuseWhatIsNoPlace) {
  const auto refused = [](const char* model, const std::string& name,
                          std::initializer_list<const char*> parts) {
    const auto [kind, text] = error_of([&] { parse_hook(name, config_of(model)); });
    EXPECT_EQ(kind, ErrorKind::kUsage) << name;
    for (const char* part : parts) EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  refused("llama", "mpl_out", {"mlp_out"});
  refused("llama", "model.layers[1].mpl", {"did you mean 'model.layers[1].mlp'"});
  refused("llama", "blocks.1.hook_mpl_out", {"did you mean 'blocks.1.hook_mlp_out'"});
  refused("llama", "model.layers[2].mlp", {"layer 2 does not exist", "2 layers (0 to 1)"});
  refused("llama", "blocks.7.hook_mlp_out", {"layer 7 does not exist"});
  refused("llama", "blocks.-1.hook_mlp_out", {"wanted model.layers[0]"});
  refused("llama", "blocks.99999999999999999999.hook_mlp_out", {"wanted model.layers[0]"});
  refused("llama", "model.layers[99999999999999999999].mlp", {"wanted model.layers[0]"});
  refused("llama", "transformer.h[1].mlp", {"wanted model.layers[0]"});
  refused("llama", "model.layers", {"wanted model.layers[0]"});
  refused("llama", "model.layers[x].mlp", {"wanted model.layers[0]"});
  refused("llama", "model.norm", {"wanted model.layers[0]"});
  refused("llama", "blocks.1.ln2.hook_normalized", {"before its weight", "mlp_in"});
  refused("llama", "blocks.1.mlp.hook_pre", {"non-linearity", "mlp_post"});
  refused("llama", "blocks.1.attn.hook_pattern", {"is not a place that can be read", "mlp_out = "});
  refused("llama", "model.layers[1].input_layernorm", {"is not a place that can be read"});
  refused("gpt_neox", "blocks.1.hook_resid_mid", {"does not exist in this gpt_neox model"});
  refused("gpt_neox", "resid_mid", {"does not exist in this gpt_neox model"});
  refused("gpt2", "transformer.h[1].attn.c_attn", {"together", "(q)", "h[1].attn.c_attn (v)"});
  refused("llama", "model.layers[1].self_attn.q_proj (q)", {"is not a place that can be read"});
  refused("gpt2", "transformer.h[1].attn.c_attn (input) (q)", {"is not a place"});
  refused("llama", "blocks.1.attn.hook_rot_q", {"behind the rotation"});
  refused("llama", "blocks.0.hook_embed", {"wanted model.layers[0]"});
  refused("llama", "hook_pos_embed", {"does not exist in this llama model", "no table"});
  refused("llama", "pos_embed", {"does not exist in this llama model", "no table"});
  refused("bloom", "pos_embed", {"does not exist in this bloom model"});
  refused("llama", "model.embed_tokens.input", {"wanted model.layers[0]"});
  refused("llama", "model.embed_token", {"did you mean 'model.embed_tokens'"});
  refused("llama", "", {"known"});
  for (const char* odd : {".", "[", "]", "..", "model.", "layers.1.", "layers..1", ".input",
                          " (input)", "layers[1]..mlp", "blocks.", "blocks.1", "blocks.1."}) {
    refused("llama", odd, {"hook '"});
  }
  // A record can bring a name of any length; neither the message nor the search for a similar one
  // grows with it.
  const auto [kind, text] =
      error_of([] { parse_hook(std::string(1 << 20, '.'), config_of("llama")); });
  EXPECT_EQ(kind, ErrorKind::kUsage);
  EXPECT_LT(text.size(), 4096U);
}

// Names with characters changed, left out and doubled: a point that the model has, or a short
// error.
TEST(HookNames, OfAnyTextGiveAPointOrAnError) {
  Rng rng(11);
  const std::string pieces = ".[]0123 ()abzhx_-";
  for (const Case& c : cases()) {
    for (int round = 0; round < 100; ++round) {
      const auto& group = c.groups[rng.below(c.groups.size())];
      std::string name = group[rng.below(group.size())];
      for (std::uint64_t edits = 1 + rng.below(3); edits > 0; --edits) {
        const std::size_t at = rng.below(name.size() + 1);
        const char piece = pieces[rng.below(pieces.size())];
        switch (rng.below(3)) {
          case 0:
            name.insert(at, 1, piece);
            break;
          case 1:
            name.erase(at, 1);
            break;
          default:
            if (at < name.size()) name[at] = piece;
        }
      }
      try {
        const NamedHook hook = parse_hook(name, c.config);
        EXPECT_TRUE(has_hook(c.config, hook.point)) << c.name << ": " << name;
        EXPECT_LT(hook.layer.value_or(0), c.config.n_layers) << c.name << ": " << name;
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kUsage) << c.name << ": " << name;
        EXPECT_LT(std::string_view(error.what()).size(), 2048U) << error.what();
      }
    }
  }
}

TEST(HookNames, AgreeWithLayersOrReplaceThem) {
  const ModelConfig& llama = config_of("llama");
  using Layer = std::optional<std::int64_t>;
  EXPECT_EQ(parse_hook("blocks.1.hook_mlp_out", Layer(), llama), (Hook{HookPoint::kMlpOut, 1}));
  EXPECT_EQ(parse_hook("blocks.1.hook_mlp_out", Layer(1), llama), (Hook{HookPoint::kMlpOut, 1}));
  EXPECT_EQ(parse_hook("mlp_out", Layer(0), llama), (Hook{HookPoint::kMlpOut, 0}));
  auto [kind, text] = error_of([&] { parse_hook("blocks.1.hook_mlp_out", Layer(0), llama); });
  EXPECT_EQ(kind, ErrorKind::kUsage);
  EXPECT_NE(text.find("is in layer 1, and layer 0 was asked for"), std::string::npos) << text;
  std::tie(kind, text) = error_of([&] { parse_hook("mlp_out", Layer(), llama); });
  EXPECT_NE(text.find("names no layer"), std::string::npos) << text;
  std::tie(kind, text) = error_of([&] { parse_hook("mlp_out", Layer(2), llama); });
  EXPECT_NE(text.find("layer 2 does not exist"), std::string::npos) << text;

  for (const char* name : {"embed", "Embed", "hook_embed", "model.embed_tokens"}) {
    EXPECT_EQ(parse_hook(name, Layer(), llama), (Hook{HookPoint::kEmbed, 0})) << name;
    EXPECT_TRUE(names_a_place(name));
    std::tie(kind, text) = error_of([&] { parse_hook(name, Layer(1), llama); });
    EXPECT_NE(text.find("is in layer 0, and layer 1 was asked for"), std::string::npos) << text;
  }
  EXPECT_EQ(parse_hook("hook_embed", config_of("bert")).point, HookPoint::kResidPre);
  EXPECT_EQ(parse_hook("hook_pos_embed", config_of("bert")).point, HookPoint::kPosEmbed);

  using Layers = std::vector<std::int64_t>;
  EXPECT_EQ(parse_hook("mlp_out", Layers{0, 1}, llama).layers, (Layers{0, 1}));
  EXPECT_EQ(parse_hook("layers[1].mlp", Layers{}, llama).layers, Layers{1});
  EXPECT_EQ(parse_hook("layers[1].mlp", Layers{1}, llama).layers, Layers{1});
  std::tie(kind, text) = error_of([&] { parse_hook("layers[1].mlp", Layers{0, 1}, llama); });
  EXPECT_NE(text.find("is in layer 1, and layer 0 was asked for"), std::string::npos) << text;
}

}  // namespace
}  // namespace drrik
