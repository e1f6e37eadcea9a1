// Logits and every hook of every layer against transformers, on tiny random models.

#include <map>

#include "model/compare.h"

namespace drrik {
namespace {

using test::all_hooks;
using test::data_folder;
using test::flat;
using test::key_of;
using test::load_reference;
using test::relative_error;

// Sums of up to 100 products in float32 err by about √100 · 2^-24 = 6e-7 relative to the norm, in
// the reference as in ours; three blocks and their non-linearities multiply that by a few.
constexpr double kTolerance = 1e-5;

class ReferenceModel : public testing::TestWithParam<std::string> {};

TEST_P(ReferenceModel, GivesTheLogits) {
  const Model model = Model::load(data_folder(GetParam()));
  const auto reference = load_reference(GetParam());
  const Tensor want = test::expect_logits(model, reference, kTolerance);

  ForwardOptions options;
  options.logits = ForwardOptions::Logits::kLast;
  const Tensor last = model.forward(reference.batch, options);
  ASSERT_EQ(last.dim(0), reference.batch.sequences());
  for (std::int64_t s = 0; s < reference.batch.sequences(); ++s) {
    const auto row = reference.batch.boundaries[static_cast<std::size_t>(s) + 1] - 1;
    EXPECT_LE(relative_error(last.mat<float>().row(s), want.mat<float>().row(row)), kTolerance);
  }
}

TEST_P(ReferenceModel, GivesEveryHookInOrder) {
  test::expect_hooks_in_order(Model::load(data_folder(GetParam())), load_reference(GetParam()),
                              kTolerance);
}

TEST_P(ReferenceModel, GivesEveryHookAlone) {
  test::expect_hooks_alone(Model::load(data_folder(GetParam())), load_reference(GetParam()),
                           kTolerance);
}

// Several blocks of queries and of keys, windows that leave whole blocks out, lengths beyond what
// the rotary frequencies were made for.
TEST_P(ReferenceModel, GivesTheLogitsAfterALongSequence) {
  const auto reference = load_reference(GetParam());
  if (!reference.file.find_entry("long_ids")) return;
  const Model model = Model::load(data_folder(GetParam()));
  const Tensor ids = reference.file.get("long_ids");
  TokenBatch batch;
  batch.append(ids.data<std::int32_t>());
  ForwardOptions options;
  options.logits = ForwardOptions::Logits::kLast;
  const Tensor logits = model.forward(batch, options);
  const Tensor want = reference.file.get("long_last");
  EXPECT_LE(relative_error(logits.data<float>(), want.data<float>()), kTolerance);
}

TEST_P(ReferenceModel, CountsItsParameters) {
  const auto path = data_folder(GetParam()) / "model.safetensors";
  const ModelConfig config = read_model_config(data_folder(GetParam()));
  if (!std::filesystem::exists(path)) return;  // sharded
  const SafetensorsFile file = SafetensorsFile::open(path);
  std::int64_t stored = 0;
  for (const SafetensorsEntry& entry : file.entries()) {
    const bool sees =
        entry.name.starts_with("vision_tower.") || entry.name.starts_with("multi_modal_projector.");
    std::int64_t elements = sees ? 0 : 1;
    for (const std::int64_t size : entry.shape) elements *= size;
    stored += elements;
  }
  EXPECT_EQ(config.parameter_count(), stored);
}

TEST_P(ReferenceModel, LoadsOnlyTheLayersNeeded) {
  ModelOptions options;
  options.max_layers = 1;
  const Model model = Model::load(data_folder(GetParam()), options);
  const auto reference = load_reference(GetParam());
  ForwardOptions forward;
  forward.hooks = {Hook{HookPoint::kMlpOut, 0}};
  forward.on_hook = [&](const Hook& hook, MatView<float> got) {
    const Tensor want = reference.file.get(key_of(hook));
    EXPECT_LE(relative_error(flat(got), want.data<float>()), kTolerance);
  };
  model.forward(reference.batch, forward);
  EXPECT_THROW(model.check_hook(Hook{HookPoint::kMlpOut, 1}), Error);
  if (model.config().n_layers == 1) return;
  EXPECT_LT(model.weight_bytes_per_token(),
            Model::load(data_folder(GetParam())).weight_bytes_per_token());
}

INSTANTIATE_TEST_SUITE_P(All, ReferenceModel, testing::ValuesIn(test::reference_models()),
                         [](const auto& test) {
                           std::string name = test.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(Comparator, RefusesWhatIsWrong) {
  const std::vector<float> want = {1.0F, -2.0F, 3.0F};
  EXPECT_EQ(relative_error(want, want), 0.0);
  const auto error = [&](std::vector<float> got) { return relative_error(got, want); };
  EXPECT_GT(error({1.0F, -2.0F, 3.0002F}), kTolerance);
  EXPECT_GT(error({-1.0F, 2.0F, -3.0F}), kTolerance);
  EXPECT_GT(error({0.0F, 0.0F, 0.0F}), kTolerance);
  EXPECT_GT(error({1.0F, -2.0F}), kTolerance);
  EXPECT_GT(error({}), kTolerance);
  EXPECT_GT(error({1.0F, -2.0F, std::nanf("")}), kTolerance);
  EXPECT_GT(error({1.0F, -2.0F, std::numeric_limits<float>::infinity()}), kTolerance);
}

TEST(Hooks, NamesRoundTrip) {
  for (const std::string& name : hook_names()) EXPECT_EQ(hook_name(parse_hook(name)), name);
  const auto [kind, text] = test::error_of([] { parse_hook("mlp_outt"); });
  EXPECT_EQ(kind, ErrorKind::kUsage);
  EXPECT_NE(text.find("did you mean 'mlp_out'"), std::string::npos) << text;
}

TEST(Hooks, HaveModulePaths) {
  const auto path = [](const char* model, HookPoint point) {
    return Model::load(data_folder(model)).module_path(Hook{point, 1});
  };
  EXPECT_EQ(path("llama-plain", HookPoint::kMlpOut), "model.layers[1].mlp");
  EXPECT_EQ(path("llama-plain", HookPoint::kMlpPost), "model.layers[1].mlp.down_proj (input)");
  EXPECT_EQ(path("gpt2-plain", HookPoint::kMlpOut), "transformer.h[1].mlp");
  EXPECT_EQ(path("gpt2-plain", HookPoint::kResidMid), "transformer.h[1].ln_2 (input)");
  EXPECT_EQ(path("neox-parallel", HookPoint::kAttnOut), "gpt_neox.layers[1].attention");
  EXPECT_EQ(path("neox-parallel", HookPoint::kResidPost), "gpt_neox.layers[1]");
  EXPECT_EQ(path("gemma2-plain", HookPoint::kMlpOut), "model.layers[1].mlp");
  EXPECT_EQ(path("gemma2-plain", HookPoint::kMlpAdd), "model.layers[1].post_feedforward_layernorm");
  EXPECT_EQ(path("gemma2-plain", HookPoint::kResidMid),
            "model.layers[1].pre_feedforward_layernorm (input)");
  EXPECT_EQ(path("gemma3-multimodal", HookPoint::kMlpOut), "model.language_model.layers[1].mlp");
  EXPECT_EQ(path("olmo2-plain", HookPoint::kAttnAdd), "model.layers[1].post_attention_layernorm");
  EXPECT_EQ(path("olmo2-plain", HookPoint::kResidMid), "model.layers[1].mlp (input)");
  EXPECT_EQ(path("opt-plain", HookPoint::kMlpIn), "model.decoder.layers[1].fc1 (input)");
  EXPECT_EQ(path("opt-plain", HookPoint::kMlpOut), "model.decoder.layers[1].fc2");
  EXPECT_EQ(path("opt-post-norm", HookPoint::kResidMid),
            "model.decoder.layers[1].self_attn_layer_norm (input)");
  EXPECT_EQ(path("bloom-plain", HookPoint::kMlpOut), "transformer.h[1].mlp.dense_4h_to_h");
  EXPECT_EQ(path("bloom-plain", HookPoint::kMlpIn), "transformer.h[1].mlp (input)");
}

}  // namespace
}  // namespace drrik
