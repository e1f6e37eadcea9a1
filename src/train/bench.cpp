#include "drrik/train/bench.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/rng.h"
#include "drrik/base/system.h"
#include "drrik/ops/convert.h"
#include "drrik/ops/gemm.h"
#include "train/stepper.h"

namespace drrik {
namespace {

constexpr std::uint64_t kSeed = 42;

// Weights of which a batch of normal rows has about `l0` active latents a row: every latent is
// normal over rows, so one bias does it.
ReluSae sparse_sae(const TrainBenchOptions& options) {
  ReluSaeConfig config;
  config.activation_dim = options.d;
  config.hidden_dim = options.hidden;
  Rng rng(kSeed);
  ReluSae sae = ReluSae::random(config, rng);
  // Quantile of the normal distribution by bisection of erfc.
  const double share = std::min(0.5, options.l0 / static_cast<double>(options.hidden));
  double low = 0.0;
  double high = 10.0;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(middle / std::sqrt(2.0)) > share ? low : high) = middle;
  }
  for (std::int64_t j = 0; j < options.hidden; ++j) {
    const double norm = std::sqrt(sum_squares(sae.encoder().row(j)));
    sae.encoder_bias()[static_cast<std::size_t>(j)] = static_cast<float>(-low * norm);
  }
  return sae;
}

}  // namespace

std::vector<TrainBenchResult> run_train_bench(const TrainBenchOptions& options) {
  if (options.batch < 1 || options.seconds <= 0 || options.l0 <= 0) {
    throw_usage("train bench: batch ", options.batch, ", seconds ", options.seconds, ", l0 ",
                options.l0, "; all must be positive");
  }
  ReluSae sae = sparse_sae(options);
  // With a learning rate of 0 every step does its whole work and L0 stays where it is.
  const auto stepper = make_relu_stepper(sae, {{.learning_rate = 0.0}, StepPath::kAuto});
  stepper->set_density(options.l0 / static_cast<double>(options.hidden));
  Rng rng(kSeed, 1);
  Tensor rows = Tensor::uninitialized(DType::kF32, {options.batch, options.d});
  for (float& v : rows.mutable_data<float>()) v = rng.normal();
  Tensor batch = rows.clone();
  std::vector<std::int64_t> last_active(static_cast<std::size_t>(options.hidden), -1);

  const std::array<GemmShape, 1> shape = {{{options.batch, options.d, options.hidden, 1}}};
  const double d = static_cast<double>(options.d);
  const double h = static_cast<double>(options.hidden);
  const double b = static_cast<double>(options.batch);
  double rate = 0.0;
  double best = 1e300;
  double l0 = 0.0;
  PhaseSeconds phases;
  std::int64_t number = 0;
  // Limit and work take turns, so that a slow moment of the machine falls on both.
  constexpr int kRounds = 3;
  for (int round = 0; round < kRounds; ++round) {
    rate = std::max(rate, measure_gemm_rate(shape, Compute::kF32, options.seconds / 4 / kRounds));
    const double end = monotonic_seconds() + options.seconds * 0.75 / kRounds;
    int taken = 0;
    do {
      copy(rows.mat<float>(), batch.mutable_mat<float>());
      const PhaseSeconds before = stepper->phases();
      check_interrupt("measuring");
      const double start = monotonic_seconds();
      const StepOutcome outcome = stepper->step(batch.mutable_mat<float>(), number++, last_active);
      const double seconds = monotonic_seconds() - start;
      l0 = outcome.loss.l0;
      ++taken;
      if (seconds >= best) continue;
      best = seconds;
      const PhaseSeconds& after = stepper->phases();
      phases = {after.pack - before.pack,     after.product - before.product,
                after.select - before.select, after.order - before.order,
                after.decode - before.decode, after.sweep - before.sweep};
    } while (monotonic_seconds() < end || taken < 3);
  }
  const std::string name =
      str("train relu ", options.d, " -> ", options.hidden, ", batch ", options.batch);
  std::vector<TrainBenchResult> results;
  results.push_back({name, b / best, "rows/s", rate / (10.0 * d * h), "dense roofline"});
  if (phases.product > 0) {  // not timed apart where the step went the dense way
    results.push_back({name + ": encoder product", 2.0 * b * d * h / phases.product / 1e9,
                       "GFLOP/s", rate / 1e9, "product alone"});
  }
  results.push_back({name + ": mean L0", l0, "latents", 0.0, ""});
  results.push_back({name + ": step", best * 1e3, "ms", 0.0, ""});
  const std::array<std::pair<const char*, double>, 6> parts = {{{"pack", phases.pack},
                                                                {"product", phases.product},
                                                                {"select", phases.select},
                                                                {"order by row", phases.order},
                                                                {"decode", phases.decode},
                                                                {"sweep", phases.sweep}}};
  for (const auto& [part, seconds] : parts) {
    results.push_back({name + ": " + part, seconds * 1e3, "ms", 0.0, ""});
  }
  return results;
}

}  // namespace drrik
