#include "drrik/eval/splice.h"

#include <cmath>

#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/progress.h"
#include "drrik/base/threads.h"
#include "drrik/ops/convert.h"
#include "drrik/ops/softmax.h"
#include "drrik/tensor/tensor.h"

namespace drrik {
namespace {

/// Log-probabilities of one sequence with an edit at the hook. `what` says of the logits which they
/// are, should they be no numbers.
Tensor log_probabilities(const Model& model, const TokenBatch& batch, const Hook& hook,
                         const HookFunction& edit, const char* what, std::ptrdiff_t text) {
  ForwardOptions options;
  options.logits = ForwardOptions::Logits::kAll;
  if (edit) {
    options.hooks = {hook};
    options.on_hook = edit;
  }
  Tensor logits = model.forward(batch, options);
  if (has_nonfinite(logits.data<float>())) {
    throw_numeric("evaluate: ", what, " of text ", text, " hold NaN or Inf");
  }
  log_softmax(logits.mat<float>(), logits.mutable_mat<float>());
  return logits;
}

/// Σ over positions but the last of −log p(next).
double cross_entropy_sum(const Tensor& log_p, const std::vector<std::int32_t>& ids) {
  const auto rows = log_p.mat<float>();
  double sum = 0.0;
  for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
    sum -= static_cast<double>(rows(static_cast<std::int64_t>(t), ids[t + 1]));
  }
  return sum;
}

double kl_sum(const Tensor& log_p, const Tensor& log_q, std::int64_t positions) {
  const auto p = log_p.mat<float>();
  const auto q = log_q.mat<float>();
  std::vector<double> by_row(static_cast<std::size_t>(positions));
  parallel_for(positions, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      double kl = 0.0;
      for (std::int64_t v = 0; v < p.cols(); ++v) {
        const auto lp = static_cast<double>(p(t, v));
        kl += std::exp(lp) * (lp - static_cast<double>(q(t, v)));
      }
      by_row[static_cast<std::size_t>(t)] = kl;
    }
  });
  double sum = 0.0;
  for (const double kl : by_row) sum += kl;
  return sum;
}

HookFunction reconstruct(const Sae& sae) {
  return [&sae](const Hook&, MatView<float> rows) { sae.reconstruct(rows, rows); };
}

HookFunction replace_with(const std::vector<float>& value) {
  return [&value](const Hook&, MatView<float> rows) {
    for (std::int64_t r = 0; r < rows.rows(); ++r) std::ranges::copy(value, rows.row_ptr(r));
  };
}

std::vector<float> mean_activation(const Model& model, const Hook& hook,
                                   const std::vector<const std::vector<std::int32_t>*>& texts) {
  std::vector<double> sum(static_cast<std::size_t>(model.hook_width(hook.point)));
  std::int64_t rows_seen = 0;
  for (const auto* ids : texts) {
    check_interrupt("evaluating");
    TokenBatch batch;
    batch.append(*ids);
    model.forward(batch, {.hooks = {hook}, .on_hook = [&](const Hook&, MatView<float> rows) {
                            for (std::int64_t r = 0; r < rows.rows(); ++r) {
                              const auto row = rows.row(r);
                              for (std::size_t c = 0; c < sum.size(); ++c) {
                                sum[c] += static_cast<double>(row[c]);
                              }
                            }
                            rows_seen += rows.rows();
                          }});
  }
  std::vector<float> mean(sum.size());
  for (std::size_t c = 0; c < sum.size(); ++c) {
    mean[c] = static_cast<float>(sum[c] / static_cast<double>(rows_seen));
  }
  return mean;
}

}  // namespace

SpliceReport evaluate_splice(const Model& model, const Sae& sae, const Hook& hook,
                             const std::vector<std::vector<std::int32_t>>& sequences) {
  if (!model.config().causal) {
    throw_usage("evaluate: ", model.config().family,
                " sees the whole text and predicts no next token, so that there is no loss to "
                "splice the autoencoder into; evaluate it on its activations alone");
  }
  model.check_hook(hook);
  if (model.hook_width(hook.point) != sae.d_in()) {
    throw_data("evaluate: hook ", hook_name(hook.point), " is ", model.hook_width(hook.point),
               " wide, the autoencoder takes ", sae.d_in());
  }
  std::vector<const std::vector<std::int32_t>*> texts;
  for (const auto& ids : sequences) {
    if (ids.size() >= 2) texts.push_back(&ids);
  }
  if (texts.empty()) throw_data("evaluate: no text has two tokens");

  const std::vector<float> mean = mean_activation(model, hook, texts);
  const std::vector<float> zero(mean.size());
  SpliceReport report;
  Progress progress("Evaluating", static_cast<std::int64_t>(texts.size()), "texts");
  for (const auto* ids : texts) {
    check_interrupt("evaluating");
    TokenBatch batch;
    batch.append(*ids);
    const auto positions = batch.rows() - 1;
    const auto run = [&](const HookFunction& edit, const char* what) {
      return log_probabilities(model, batch, hook, edit, what, ids - sequences.data());
    };
    const Tensor clean = run({}, "the model's own logits");
    report.ce_clean += cross_entropy_sum(clean, *ids);
    {
      const Tensor spliced = run(reconstruct(sae), "the logits with the reconstruction");
      report.ce_spliced += cross_entropy_sum(spliced, *ids);
      report.kl_spliced += kl_sum(clean, spliced, positions);
    }
    {
      const Tensor ablated = run(replace_with(zero), "the logits with the hook at zero");
      report.ce_zero += cross_entropy_sum(ablated, *ids);
      report.kl_zero += kl_sum(clean, ablated, positions);
    }
    report.ce_mean +=
        cross_entropy_sum(run(replace_with(mean), "the logits with the hook at its mean"), *ids);
    report.predictions += positions;
    ++report.sequences;
    progress.advance(1);
  }
  const auto n = static_cast<double>(report.predictions);
  for (double* sum : {&report.ce_clean, &report.ce_spliced, &report.ce_zero, &report.ce_mean,
                      &report.kl_spliced, &report.kl_zero}) {
    *sum /= n;
  }
  const auto recovered = [&](double ablated) {
    return (ablated - report.ce_spliced) / (ablated - report.ce_clean);
  };
  report.ce_recovered = recovered(report.ce_zero);
  report.ce_recovered_mean = recovered(report.ce_mean);
  return report;
}

}  // namespace drrik
