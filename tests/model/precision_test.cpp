// bfloat16 products against float32 ones.
//
// Derivation of the bound. bfloat16 rounds with unit roundoff u = 2^-9. A product y = x Wᵀ whose
// factors are both rounded errs in every term by two independent errors of at most u, which are
// spread evenly: √2 · u / √3 = 0.82 u of the norm of y where its terms do not cancel. A block puts
// six such products before what it adds to the residual stream (qkv, q·k, weights·v, out; up,
// down), and its norms and non-linearities multiply an error by a gain of at most g = 2 (SwiGLU is
// the steepest: a product of two factors that both err). Independent errors add in quadrature: 0.82
// · √6 · g = 4 u a block. The stream itself is not rounded, so after l blocks its relative error is
// at most 4 u √l. What a block or the head computes from it carries that error times the gain, and
// the block's own: √((g · 4 u √l)² + (4 u)²) = 4 u √(4 l + 1). This estimates a root mean square;
// half as much again is allowed for the scatter of single tensors around it.

#include "drrik/base/rng.h"
#include "drrik/model/random_model.h"
#include "model/compare.h"

namespace drrik {
namespace {

using test::data_folder;
using test::flat;
using test::relative_error;

constexpr double kUnitRoundoff = 1.0 / 512.0;

/// Of what is computed after `blocks` whole blocks.
double bf16_bound(std::int64_t blocks) {
  return 1.5 * 4.0 * kUnitRoundoff * std::sqrt(static_cast<double>(4 * blocks + 1));
}

void expect_close(const Model& exact, const Model& rounded, const TokenBatch& batch,
                  const std::string& name) {
  std::vector<std::vector<float>> want;
  ForwardOptions options;
  options.logits = ForwardOptions::Logits::kAll;
  options.hooks = test::all_hooks(exact);
  options.on_hook = [&](const Hook&, MatView<float> x) { want.push_back(flat(x)); };
  const Tensor logits = exact.forward(batch, options);
  std::size_t at = 0;
  double worst = 0.0;
  options.on_hook = [&](const Hook& hook, MatView<float> x) {
    const double error = relative_error(flat(x), want[at++]);
    const double bound = bf16_bound(hook.layer);
    EXPECT_LE(error, bound) << name << " " << hook.layer << "." << hook_name(hook.point);
    worst = std::max(worst, error / bound);
  };
  const Tensor rounded_logits = rounded.forward(batch, options);
  EXPECT_EQ(at, want.size());
  const double error = relative_error(rounded_logits.data<float>(), logits.data<float>());
  EXPECT_LE(error, bf16_bound(exact.config().n_layers)) << name;
  // Not float32 under another name: some products were rounded.
  EXPECT_GE(error, kUnitRoundoff / 16.0) << name;
  testing::Test::RecordProperty(name, str("worst share of the bound ", worst, ", logits ", error));
}

TEST(Bfloat16, StaysWithinItsBoundOnTinyModels) {
  for (const std::string& name : test::reference_models()) {
    ModelOptions options;
    options.compute = Compute::kBF16;
    expect_close(Model::load(data_folder(name)), Model::load(data_folder(name), options),
                 test::load_reference(name).batch, name);
  }
}

TEST(Bfloat16, StaysWithinItsBoundThroughManyLayers) {
  ModelConfig config = bench_llama_config();
  config.d_model = 96;
  config.n_layers = 12;
  config.n_heads = 6;
  config.n_kv_heads = 3;
  config.head_dim = 16;
  config.rope.dim = 16;
  config.d_mlp = 256;
  config.vocab_size = 200;
  TokenBatch batch;
  Rng rng(4);
  for (const std::int64_t length : {64, 40}) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(length));
    for (auto& id : ids) id = static_cast<std::int32_t>(rng.below(200));
    batch.append(ids);
  }
  ModelOptions options;
  options.compute = Compute::kBF16;
  expect_close(make_random_model(config, 9), make_random_model(config, 9, options), batch,
               "random");
}

// A hook makes activations pass through float32 memory; the rounding is the same.
TEST(Bfloat16, HooksDoNotChangeTheNumbers) {
  ModelOptions model_options;
  model_options.compute = Compute::kBF16;
  const Model model = Model::load(data_folder("llama-plain"), model_options);
  const TokenBatch batch = test::load_reference("llama-plain").batch;
  ForwardOptions options;
  options.logits = ForwardOptions::Logits::kAll;
  const auto plain = flat(model.forward(batch, options).mat<float>());
  options.hooks = {{HookPoint::kMlpIn, 0}, {HookPoint::kMlpPost, 0}, {HookPoint::kMlpPost, 1}};
  options.on_hook = [](const Hook&, MatView<float>) {};
  // The float32 sums may be ordered differently, after which a value may round the other way.
  EXPECT_LE(relative_error(flat(model.forward(batch, options).mat<float>()), plain), 1e-4);
}

}  // namespace
}  // namespace drrik
