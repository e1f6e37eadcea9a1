// Encoders: logits and every hook of every layer against transformers, on tiny random models
// (tools/reference/encoder_reference.py), and what their configurations may not say.

#include <cstdio>
#include <map>

#include "drrik/model/generate.h"
#include "drrik/model/hook_names.h"
#include "io/json.h"
#include "model/compare.h"

namespace drrik {
namespace {

using test::all_hooks;
using test::error_of;
using test::flat;
using test::key_of;
using test::relative_error;

// As in reference_test.cpp: sums of at most 41 products err by some 2^-24 · √41 = 4e-7 relative to
// the norm, in the reference as in ours, and three blocks multiply that by a few.
constexpr double kTolerance = 1e-5;

const char* const kModels[] = {
    "bert-plain",     "bert-old-names", "bert-untied",      "bert-bare",         "roberta-plain",
    "roberta-untied", "roberta-bare",   "distilbert-plain", "distilbert-untied", "distilbert-bare"};

// A folder of their own: not every one of them has a head, and none generates.
std::string encoder(const std::string& name) { return "../encoders/" + name; }
std::filesystem::path encoder_folder(const std::string& name) {
  return test::data_folder(encoder(name));
}
test::Reference reference_of(const std::string& name) {
  return test::load_reference(encoder(name));
}

class Encoder : public testing::TestWithParam<const char*> {
 protected:
  /// The base model alone has no head.
  bool bare() const { return std::string(GetParam()).ends_with("-bare"); }
  Model load(Compute compute = Compute::kF32) const {
    return Model::load(encoder_folder(GetParam()), {.compute = compute, .skip_head = bare()});
  }
};

TEST_P(Encoder, GivesTheLogits) {
  if (!bare()) test::expect_logits(load(), reference_of(GetParam()), kTolerance);
}

TEST_P(Encoder, GivesEveryHookInOrder) {
  const Model model = load();
  EXPECT_EQ(all_hooks(model).size(), static_cast<std::size_t>(2 + 11 * model.config().n_layers));
  test::expect_hooks_in_order(model, reference_of(GetParam()), kTolerance);
}

TEST_P(Encoder, GivesEveryHookAlone) {
  test::expect_hooks_alone(load(), reference_of(GetParam()), kTolerance);
}

// bfloat16 rounds each factor of a product by at most 2^-9 of itself, so a product's relative error
// is about √2 · 2^-9 = 2.8e-3 of its norm when its terms err independently. A block has six
// products in line (q·k, weights·v, the projections around them, up, down), whose errors add in
// squares, and every norm brings the stream back to unit size: √(6 · 3 layers + 2) · 2.8e-3
// = 1.3e-2. The softmax's exponent and the sharpest slope of a non-linearity (1.13, GELU's) can
// each double an error: 5e-2.
TEST_P(Encoder, StaysCloseInBfloat16) {
  const Model model = load(Compute::kBF16);
  const auto reference = reference_of(GetParam());
  ForwardOptions options;
  options.hooks = all_hooks(model);
  double largest = 0.0;
  options.on_hook = [&](const Hook& hook, MatView<float> got) {
    const Tensor want = reference.file.get(key_of(hook));
    const double error = relative_error(flat(got), want.data<float>());
    EXPECT_LE(error, 5e-2) << key_of(hook);
    largest = std::max(largest, error);
  };
  if (!bare()) options.logits = ForwardOptions::Logits::kAll;
  const Tensor logits = model.forward(reference.batch, options);
  if (!bare()) {
    const Tensor want = reference.file.get("logits");
    EXPECT_LE(relative_error(logits.data<float>(), want.data<float>()), 5e-2);
  }
  EXPECT_GT(largest, 1e-4);  // it did round
}

INSTANTIATE_TEST_SUITE_P(All, Encoder, testing::ValuesIn(kModels), [](const auto& test) {
  std::string name = test.param;
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
});

TEST(Encoders, CountTheirParameters) {
  for (const std::string name : {"bert-plain", "roberta-plain", "distilbert-plain"}) {
    const auto file = SafetensorsFile::open(encoder_folder(name) / "model.safetensors");
    std::int64_t stored = 0;
    for (const SafetensorsEntry& entry : file.entries()) {
      std::int64_t elements = 1;
      for (const std::int64_t size : entry.shape) elements *= size;
      stored += elements;
    }
    EXPECT_EQ(read_model_config(encoder_folder(name)).parameter_count(), stored) << name;
  }
}

// The rows of docs/models.md.
TEST(Encoders, AreWithinTheBoundOfTheTable) {
  struct Worst {
    int models = 0;
    double logits = 0.0, hooks = 0.0, bf16_logits = 0.0;
  };
  std::map<std::string, Worst> families;
  for (const std::string name : kModels) {
    const bool bare = name.ends_with("-bare");
    const auto reference = reference_of(name);
    const Model model = Model::load(encoder_folder(name), {.skip_head = bare});
    Worst& worst = families[model.config().family];
    ++worst.models;
    ForwardOptions options;
    options.hooks = all_hooks(model);
    options.on_hook = [&](const Hook& hook, MatView<float> got) {
      const Tensor want = reference.file.get(key_of(hook));
      worst.hooks = std::max(worst.hooks, relative_error(flat(got), want.data<float>()));
    };
    if (bare) {
      model.forward(reference.batch, options);
      continue;
    }
    options.logits = ForwardOptions::Logits::kAll;
    const Tensor want = reference.file.get("logits");
    const Tensor logits = model.forward(reference.batch, options);
    worst.logits = std::max(worst.logits, relative_error(logits.data<float>(), want.data<float>()));
    ForwardOptions plain;
    plain.logits = ForwardOptions::Logits::kAll;
    const Model rounded = Model::load(encoder_folder(name), {.compute = Compute::kBF16});
    const Tensor rounded_logits = rounded.forward(reference.batch, plain);
    worst.bf16_logits = std::max(worst.bf16_logits,
                                 relative_error(rounded_logits.data<float>(), want.data<float>()));
  }
  for (const auto& [family, w] : families) {
    EXPECT_GE(w.models, 3) << family;
    EXPECT_LE(std::max(w.logits, w.hooks), kTolerance) << family;
    std::printf("| %s | %d | %.1e | %.1e | - | %.1e |\n", family.c_str(), w.models, w.logits,
                w.hooks, w.bf16_logits);
  }
}

// Sequences laid end to end do not see each other, though every token sees its whole sequence.
TEST(Encoders, SeeTheWholeSequenceAndNoOther) {
  const Model model = Model::load(encoder_folder("bert-plain"));
  const auto last_layer = [&](const TokenBatch& batch) {
    std::vector<float> out;
    model.forward(batch, {.hooks = {{HookPoint::kResidPost, 1}},
                          .on_hook = [&](const Hook&, MatView<float> rows) { out = flat(rows); }});
    return out;
  };
  TokenBatch one;
  one.append(std::vector<std::int32_t>{3, 4, 5, 6});
  TokenBatch other_end;
  other_end.append(std::vector<std::int32_t>{3, 4, 5, 7});
  TokenBatch two = one;
  two.append(std::vector<std::int32_t>{9, 8, 7});
  const std::vector<float> alone = last_layer(one);
  const std::vector<float> changed = last_layer(other_end);
  const std::vector<float> both = last_layer(two);
  const std::size_t row = 16;
  // The first token's activations know of the last token.
  EXPECT_GT(relative_error({alone.data(), row}, {changed.data(), row}), 1e-3);
  EXPECT_LE(relative_error({both.data(), 4 * row}, alone), kTolerance);
}

TEST(Encoders, TakeNoLongerSequencesThanTheyHavePositions) {
  // 26 rows, of which RoBERTa's first two stand for nothing and for padding.
  const Model model = Model::load(encoder_folder("roberta-plain"));
  EXPECT_EQ(model.config().max_positions, 24);
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>(24, 9));
  ForwardOptions options;
  options.logits = ForwardOptions::Logits::kAll;
  EXPECT_EQ(model.forward(batch, options).dim(0), 24);
  batch.clear();
  batch.append(std::vector<std::int32_t>(25, 9));
  const auto [kind, text] = error_of([&] { model.forward(batch, options); });
  EXPECT_EQ(kind, ErrorKind::kData);
  EXPECT_NE(text.find("the model takes 24"), std::string::npos) << text;
}

TEST(Encoders, DoNotGenerate) {
  const Model model = Model::load(encoder_folder("distilbert-plain"));
  const std::vector<std::int32_t> prompt = {1, 2, 3};
  const auto [kind, text] = error_of([&] { generate(model, prompt, {}); });
  EXPECT_EQ(kind, ErrorKind::kUsage);
  EXPECT_NE(text.find("does not generate"), std::string::npos) << text;
}

TEST(Encoders, RefuseWhatTheyCannotSay) {
  const auto refused = [](const char* model, const Json& changes, const char* part) {
    Json json = read_json_file(encoder_folder(model) / "config.json");
    for (const auto& [key, value] : changes.items()) json[key] = value;
    const auto [kind, text] = error_of([&] { parse_model_config(json_text(json), "config.json"); });
    EXPECT_EQ(kind, ErrorKind::kData) << part;
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  refused("bert-plain", {{"is_decoder", true}}, "'is_decoder' is true");
  refused("roberta-plain", {{"is_decoder", true}}, "'is_decoder' is true");
  refused("bert-plain", {{"add_cross_attention", true}}, "'add_cross_attention' is true");
  refused("bert-plain", {{"position_embedding_type", "relative_key"}}, "'relative_key'");
  refused("bert-plain", {{"num_attention_heads", 3}}, "wanted a multiple");
  refused("bert-plain", {{"type_vocab_size", 0}}, "'type_vocab_size' is 0");
  refused("roberta-plain", {{"pad_token_id", 25}}, "'pad_token_id' is 25");
  refused("roberta-plain", {{"pad_token_id", -1}}, "'pad_token_id' is -1");
  refused("roberta-plain", {{"pad_token_id", 4611686018427387904}}, "'pad_token_id'");
  refused("distilbert-plain", {{"activation", "gleu"}}, "did you mean 'gelu'");
  refused("distilbert-plain", {{"max_position_embeddings", 0}}, "'max_position_embeddings' is 0");
  // Absent, as in configurations of today.
  Json json = read_json_file(encoder_folder("bert-plain") / "config.json");
  json["position_embedding_type"] = "absolute";
  EXPECT_FALSE(parse_model_config(json_text(json), "config.json").causal);
}

}  // namespace
}  // namespace drrik
