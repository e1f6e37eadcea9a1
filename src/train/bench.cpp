#include "drrik/train/bench.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/rng.h"
#include "drrik/base/system.h"
#include "drrik/ops/convert.h"
#include "drrik/ops/gemm.h"
#include "drrik/train/recommended.h"
#include "train/coder_stepper.h"
#include "train/stepper.h"

namespace drrik {
namespace {

constexpr std::uint64_t kSeed = 42;

// How many standard deviations a normal latent must exceed to be active in `l0` of `hidden` cases.
double quantile(double l0, std::int64_t hidden) {
  const double share = std::min(0.5, l0 / static_cast<double>(hidden));
  double low = 0.0;
  double high = 10.0;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(middle / std::sqrt(2.0)) > share ? low : high) = middle;
  }
  return low;
}

// Weights of which a batch of normal rows has about `l0` active latents a row: every latent is
// normal over rows, so one bias does it.
ReluSae sparse_sae(const TrainBenchOptions& options) {
  ReluSaeConfig config;
  config.activation_dim = options.d;
  config.hidden_dim = options.hidden;
  Rng rng(kSeed);
  ReluSae sae = ReluSae::random(config, rng);
  const double low = quantile(options.l0, options.hidden);
  for (std::int64_t j = 0; j < options.hidden; ++j) {
    const double norm = std::sqrt(sum_squares(sae.encoder().row(j)));
    sae.encoder_bias()[static_cast<std::size_t>(j)] = static_cast<float>(-low * norm);
  }
  return sae;
}

// One step of either engine.
class BenchStep {
 public:
  explicit BenchStep(const TrainBenchOptions& options)
      : last_active_(static_cast<std::size_t>(options.hidden), -1) {
    if (options.architecture == "relu") {
      sae_ = std::make_unique<ReluSae>(sparse_sae(options));
      // With a learning rate of 0 every step does its whole work and L0 stays where it is.
      relu_ = make_relu_stepper(*sae_, {{.learning_rate = 0.0}, StepPath::kAuto});
      relu_->set_density(options.l0 / static_cast<double>(options.hidden));
      return;
    }
    CoderJob job = recommended_job(options.architecture, options.d, options.hidden, 0);
    job.config.k = static_cast<std::int64_t>(options.l0);
    if (options.architecture == "matryoshka") {
      for (const std::int64_t part : {16, 8, 4, 2, 1}) {
        job.config.groups.push_back(options.hidden / part);
      }
    }
    job.training.adam.learning_rate = 0.0;
    job.training.compute = options.compute;
    job.training.dead_steps = std::int64_t{1} << 40;
    Rng rng(kSeed);
    coder_ = std::make_unique<SparseCoder>(SparseCoder::random(job.config, job.init, rng));
    const double low = quantile(options.l0, options.hidden);
    for (std::int64_t j = 0; j < options.hidden; ++j) {
      const double norm = std::sqrt(sum_squares(std::as_const(*coder_).encoder().row(j)));
      const auto i = static_cast<std::size_t>(j);
      if (options.architecture == "standard" || options.architecture == "gated") {
        coder_->b_enc()[i] = static_cast<float>(-low * norm);
      } else if (options.architecture == "jumprelu") {
        coder_->latent_parameter("threshold")[i] = static_cast<float>(low * norm);
      }
    }
    // The kernel's half window would hold far more entries than are active with random weights.
    job.training.sparsity.bandwidth = 0.01;
    stepper_ = std::make_unique<CoderStepper>(*coder_, job.training);
    const auto dead =
        static_cast<std::int64_t>(options.dead_share * static_cast<double>(options.hidden));
    for (std::int64_t i = 0; i < dead; ++i) {
      dead_.push_back(static_cast<std::size_t>(i * options.hidden / dead));
    }
  }

  // Returns the batch's L0.
  double take(MatView<float> x, std::int64_t number) {
    if (relu_ != nullptr) return relu_->step(x, number, last_active_).loss.l0;
    for (const std::size_t j : dead_) last_active_[j] = -(std::int64_t{1} << 41);
    return stepper_->step(x, {}, number, {}, last_active_).l0;
  }
  const PhaseSeconds& phases() const {
    return relu_ != nullptr ? relu_->phases() : stepper_->phases();
  }

 private:
  std::unique_ptr<ReluSae> sae_;
  std::unique_ptr<Stepper> relu_;
  std::unique_ptr<SparseCoder> coder_;
  std::unique_ptr<CoderStepper> stepper_;
  std::vector<std::int64_t> last_active_;
  std::vector<std::size_t> dead_;
};

}  // namespace

std::vector<TrainBenchResult> run_train_bench(const TrainBenchOptions& options) {
  if (options.batch < 1 || options.seconds <= 0 || options.l0 <= 0) {
    throw_usage("train bench: batch ", options.batch, ", seconds ", options.seconds, ", l0 ",
                options.l0, "; all must be positive");
  }
  if (options.architecture == "relu" && options.compute != Compute::kF32) {
    throw_usage("train bench: relu trains in float32; other architectures know bfloat16");
  }
  BenchStep stepper(options);
  Rng rng(kSeed, 1);
  Tensor rows = Tensor::uninitialized(DType::kF32, {options.batch, options.d});
  for (float& v : rows.mutable_data<float>()) v = rng.normal();
  Tensor batch = rows.clone();

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
    rate = std::max(rate, measure_gemm_rate(shape, options.compute, options.seconds / 4 / kRounds));
    const double end = monotonic_seconds() + options.seconds * 0.75 / kRounds;
    int taken = 0;
    do {
      copy(rows.mat<float>(), batch.mutable_mat<float>());
      const PhaseSeconds before = stepper.phases();
      check_interrupt("measuring");
      const double start = monotonic_seconds();
      l0 = stepper.take(batch.mutable_mat<float>(), number++);
      const double seconds = monotonic_seconds() - start;
      ++taken;
      if (seconds >= best) continue;
      best = seconds;
      const PhaseSeconds& after = stepper.phases();
      phases = {after.pack - before.pack,         after.product - before.product,
                after.select - before.select,     after.order - before.order,
                after.decode - before.decode,     after.aux - before.aux,
                after.backward - before.backward, after.sweep - before.sweep};
    } while (monotonic_seconds() < end || taken < 3);
  }
  const std::string name =
      str("train ", options.architecture, " ", options.d, " -> ", options.hidden, ", batch ",
          options.batch, options.compute == Compute::kBF16 ? ", bfloat16" : "",
          options.dead_share > 0 ? str(", ", 100 * options.dead_share, " % dead") : "");
  std::vector<TrainBenchResult> results;
  results.push_back({name, b / best, "rows/s", rate / (10.0 * d * h), "dense roofline"});
  if (phases.product > 0) {  // not timed apart where the step went the dense way
    results.push_back({name + ": encoder product", 2.0 * b * d * h / phases.product / 1e9,
                       "GFLOP/s", rate / 1e9, "product alone"});
  }
  results.push_back({name + ": mean L0", l0, "latents", 0.0, ""});
  results.push_back({name + ": step", best * 1e3, "ms", 0.0, ""});
  const std::array<std::pair<const char*, double>, 8> parts = {{{"pack", phases.pack},
                                                                {"product", phases.product},
                                                                {"select", phases.select},
                                                                {"order by row", phases.order},
                                                                {"decode", phases.decode},
                                                                {"aux", phases.aux},
                                                                {"backward", phases.backward},
                                                                {"sweep", phases.sweep}}};
  for (const auto& [part, seconds] : parts) {
    results.push_back({name + ": " + part, seconds * 1e3, "ms", 0.0, ""});
  }
  return results;
}

}  // namespace drrik
