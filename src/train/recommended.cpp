#include "drrik/train/recommended.h"

#include <algorithm>
#include <cmath>

#include "drrik/base/error.h"

namespace drrik {

void recommend_jumprelu(SparsityOptions::JumpRelu loss, std::int64_t steps, CoderJob& job) {
  CoderTraining& t = job.training;
  t.sparsity.jumprelu = loss;
  if (loss == SparsityOptions::JumpRelu::kTanh) {
    // Anthropic, January 2025, as SAELens recommends it.
    t.sparsity.coefficient = 5.0;
    t.sparsity.by_decoder_norm = true;
    t.sparsity.tanh_scale = 4.0;
    t.sparsity.bandwidth = 2.0;
    t.sparsity.preact_coefficient = 3e-6;
    t.sparsity.gradient_to_input = true;
    job.init.threshold = 0.1;
    job.init.decoder_norm = 0.1;
    t.unit_decoder = false;
    job.schedule.sparsity_warmup_steps = steps;
    return;
  }
  // Rajamanoharan et al. 2024 give θ = ε = 0.001 and λ for rows of mean square norm 1; with norms
  // of √d thresholds and widths are √d times as large, and squared errors d times.
  const double root = std::sqrt(static_cast<double>(job.config.d_in));
  t.sparsity.bandwidth = 0.001 * root;
  job.init.threshold = 0.001 * root;
  job.init.decoder_norm = 1.0;
  t.unit_decoder = true;
  t.sparsity.gradient_to_input = loss == SparsityOptions::JumpRelu::kQuadratic;
  t.sparsity.preact_coefficient = 0.0;
  const double d = static_cast<double>(job.config.d_in);
  t.sparsity.coefficient = loss == SparsityOptions::JumpRelu::kL0 ? 0.0015 * d : d;
  t.adam.beta1 = 0.0;
  job.schedule.sparsity_warmup_steps = std::min<std::int64_t>(10000, steps / 5);
}

CoderJob recommended_job(const std::string& architecture, std::int64_t d_in, std::int64_t d_sae,
                         std::int64_t steps) {
  CoderJob job;
  job.config.architecture = architecture;
  job.config.d_in = d_in;
  job.config.d_sae = d_sae;
  CoderTraining& t = job.training;
  CoderSchedule& s = job.schedule;
  t.clip_norm = 1.0;
  t.dead_steps = steps > 0 ? std::clamp<std::int64_t>(steps / 10, 1, 1000) : 1000;
  s.warmup_steps = steps > 0 ? std::min<std::int64_t>(1000, steps / 20) : 1000;
  s.decay_steps = steps / 5;
  if (architecture == "standard") {
    // Anthropic, April 2024.
    t.sparsity.coefficient = 5.0;
    t.sparsity.by_decoder_norm = true;
    t.adam.learning_rate = 5e-5;
    s.sparsity_warmup_steps = steps / 20;
    s.warmup_steps = 0;
  } else if (architecture == "topk" || architecture == "batchtopk" ||
             architecture == "matryoshka") {
    // dictionary_learning's trainers; the learning rate is Gao et al.'s scaling.
    t.adam.learning_rate = 2e-4 / std::sqrt(static_cast<double>(d_sae) / 16384.0);
    t.unit_decoder = true;
    t.aux.coefficient = 1.0 / 32.0;
    job.init.decoder_norm = 1.0;
    job.initial_bias = InitialBias::kGeometricMedian;
    // A short run forgets its beginning sooner.
    t.threshold_start = steps > 0 ? std::min<std::int64_t>(1000, steps / 4) : 1000;
    t.threshold_decay = steps > 0 && steps < 10000 ? 0.99 : 0.999;
  } else if (architecture == "jumprelu") {
    t.adam.learning_rate = 2e-4;
    recommend_jumprelu(SparsityOptions::JumpRelu::kTanh, steps, job);
  } else if (architecture == "gated") {
    // Rajamanoharan et al. 2024 as in dictionary_learning, whose penalty 0.04 is for rows of mean
    // square norm 1: features are √d times as large here, squared errors d times.
    t.sparsity.coefficient = 0.04 * std::sqrt(static_cast<double>(d_in));
    t.adam.learning_rate = 5e-5;
    t.adam.beta1 = 0.0;
    t.unit_decoder = true;
    t.clip_norm = 0.0;
    job.init.decoder_norm = 1.0;
    s.sparsity_warmup_steps = steps / 20;
  } else {
    throw_usage("architecture '", architecture, "'; known: ", join(sparse_coder_architectures()));
  }
  return job;
}

}  // namespace drrik
