// The table of docs/models.md: how far each family is from transformers, in the worst of its
// reference models. Prints its rows.

#include <cstdio>
#include <map>

#include "model/compare.h"

namespace drrik {
namespace {

using test::data_folder;
using test::relative_error;

struct Worst {
  int models = 0;
  double logits = 0.0;
  double hooks = 0.0;
  double after_long = 0.0;
  double bf16_logits = 0.0;
};

void take(double& worst, double error) { worst = std::max(worst, error); }

void measure(const std::string& name, const Model& model, const test::Reference& reference,
             Worst& worst) {
  ForwardOptions options;
  options.logits = ForwardOptions::Logits::kAll;
  options.hooks = test::all_hooks(model);
  options.on_hook = [&](const Hook& hook, MatView<float> got) {
    const Tensor want = reference.file.get(str(hook.layer, ".", hook_name(hook.point)));
    take(worst.hooks, relative_error(test::flat(got), want.data<float>()));
  };
  const Tensor want = reference.file.get("logits");
  const Tensor logits = model.forward(reference.batch, options);
  take(worst.logits, relative_error(logits.data<float>(), want.data<float>()));

  ModelOptions rounded_options;
  rounded_options.compute = Compute::kBF16;
  const Model rounded = Model::load(data_folder(name), rounded_options);
  ForwardOptions plain;
  plain.logits = ForwardOptions::Logits::kAll;
  const Tensor rounded_logits = rounded.forward(reference.batch, plain);
  take(worst.bf16_logits, relative_error(rounded_logits.data<float>(), want.data<float>()));

  if (!reference.file.find_entry("long_ids")) return;
  const Tensor ids = reference.file.get("long_ids");
  TokenBatch batch;
  batch.append(ids.data<std::int32_t>());
  plain.logits = ForwardOptions::Logits::kLast;
  const Tensor last = model.forward(batch, plain);
  const Tensor want_last = reference.file.get("long_last");
  take(worst.after_long, relative_error(last.data<float>(), want_last.data<float>()));
}

TEST(ErrorTable, EveryFamilyIsWithinTheBound) {
  std::map<std::string, Worst> families;
  for (const std::string& name : test::reference_models()) {
    const Model model = Model::load(data_folder(name));
    Worst& worst = families[model.config().family];
    ++worst.models;
    measure(name, model, test::load_reference(name), worst);
  }
  std::printf("| family | models | logits | hooks | after a long text | bfloat16 logits |\n");
  for (const auto& [family, w] : families) {
    EXPECT_GE(w.models, 3 - (family == "gemma3" ? 2 : 0)) << family;
    for (const double error : {w.logits, w.hooks, w.after_long}) EXPECT_LE(error, 1e-5) << family;
    std::printf("| %s | %d |", family.c_str(), w.models);
    for (const double error : {w.logits, w.hooks, w.after_long, w.bf16_logits}) {
      if (error > 0.0) {
        std::printf(" %.1e |", error);
      } else {
        std::printf(" - |");
      }
    }
    std::printf("\n");
  }
}

}  // namespace
}  // namespace drrik
