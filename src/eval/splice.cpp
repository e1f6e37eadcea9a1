#include "drrik/eval/splice.h"

#include <algorithm>
#include <array>
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

using Ids = std::vector<std::int32_t>;

// Quantities of a text.
enum : std::size_t {
  kPredictions,
  kCeClean,
  kCeSpliced,
  kCeZero,
  kCeMean,
  kKlSpliced,
  kKlZero,
  kKlMean,
  kQuantities
};

/// Where edits are made and where predictions are scored.
struct Text {
  const Ids* ids = nullptr;
  std::vector<std::uint8_t> edited;  ///< [tokens]
  std::vector<std::int64_t> scored;  ///< Positions whose prediction of the next token counts.
};

/// One way of changing a text's activations.
struct Edit {
  std::vector<Hook> hooks;
  HookFunction function;
  const char* what;  ///< Of the logits, should they be no numbers.
};

/// Log-probabilities of one sequence with an edit.
Tensor log_probabilities(const Model& model, const Ids& ids, const Edit& edit,
                         std::ptrdiff_t text) {
  TokenBatch batch;
  batch.append(ids);
  ForwardOptions options;
  options.logits = ForwardOptions::Logits::kAll;
  options.hooks = edit.hooks;
  options.on_hook = edit.function;
  Tensor logits = model.forward(batch, options);
  if (has_nonfinite(logits.data<float>())) {
    throw_numeric("evaluate: ", edit.what, " of text ", text, " hold NaN or Inf");
  }
  log_softmax(logits.mat<float>(), logits.mutable_mat<float>());
  return logits;
}

/// Σ over scored positions of −log p(next).
double cross_entropy_sum(const Tensor& log_p, const Text& text) {
  const auto rows = log_p.mat<float>();
  double sum = 0.0;
  for (const std::int64_t t : text.scored) {
    sum -= static_cast<double>(rows(t, (*text.ids)[static_cast<std::size_t>(t) + 1]));
  }
  return sum;
}

double kl_sum(const Tensor& log_p, const Tensor& log_q, const Text& text) {
  const auto p = log_p.mat<float>();
  const auto q = log_q.mat<float>();
  std::vector<double> by_row(text.scored.size());
  parallel_for(static_cast<std::int64_t>(by_row.size()), 4,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   const std::int64_t t = text.scored[static_cast<std::size_t>(i)];
                   double kl = 0.0;
                   for (std::int64_t v = 0; v < p.cols(); ++v) {
                     const auto lp = static_cast<double>(p(t, v));
                     kl += std::exp(lp) * (lp - static_cast<double>(q(t, v)));
                   }
                   by_row[static_cast<std::size_t>(i)] = kl;
                 }
               });
  double sum = 0.0;
  for (const double kl : by_row) sum += kl;
  return sum;
}

/// Puts from(r) in the place of the edited rows.
template <typename F>
void replace_rows(MatView<float> rows, const Text& text, F&& from) {
  for (std::int64_t r = 0; r < rows.rows(); ++r) {
    if (text.edited[static_cast<std::size_t>(r)] != 0) std::ranges::copy(from(r), rows.row_ptr(r));
  }
}

class Splicer {
 public:
  Splicer(const Model& model, const Sae& sae, const Hook& hook, const SpliceOptions& options)
      : model_(model), sae_(sae), input_(hook), output_(options.output.value_or(hook)) {}

  Edit none() const { return {{}, {}, "the model's own logits"}; }

  /// The reconstruction is made where the activations are seen and stands where they are wanted.
  Edit spliced(const Text& text) {
    Edit edit{{input_}, {}, "the logits with the reconstruction"};
    if (output_ != input_) edit.hooks.push_back(output_);
    edit.function = [this, &text](const Hook& at, MatView<float> rows) {
      if (at == input_) {
        made_ = Tensor::uninitialized(DType::kF32, {rows.rows(), sae_.d_out()});
        sae_.reconstruct(rows, made_.mutable_mat<float>());
      }
      if (at == output_) {
        const auto made = made_.mat<float>();
        replace_rows(rows, text, [&](std::int64_t r) { return made.row(r); });
      }
    };
    return edit;
  }

  Edit replaced(const std::vector<float>& value, const Text& text, const char* what) const {
    return {{output_},
            [&value, &text](const Hook&, MatView<float> rows) {
              replace_rows(rows, text, [&](std::int64_t) { return std::span(value); });
            },
            what};
  }

  /// Of the edited rows of all texts, at the output hook.
  std::vector<float> mean_activation(const std::vector<Text>& texts) const {
    std::vector<double> sum(static_cast<std::size_t>(model_.hook_width(output_.point)));
    std::int64_t rows_seen = 0;
    for (const Text& text : texts) {
      check_interrupt("evaluating");
      TokenBatch batch;
      batch.append(*text.ids);
      const auto add = [&](const Hook&, MatView<float> rows) {
        for (std::int64_t r = 0; r < rows.rows(); ++r) {
          if (text.edited[static_cast<std::size_t>(r)] == 0) continue;
          const auto row = rows.row(r);
          for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += static_cast<double>(row[c]);
          ++rows_seen;
        }
      };
      model_.forward(batch, {.hooks = {output_}, .on_hook = add});
    }
    std::vector<float> mean(sum.size());
    for (std::size_t c = 0; c < sum.size(); ++c) {
      mean[c] = static_cast<float>(sum[c] / static_cast<double>(rows_seen));
    }
    return mean;
  }

 private:
  const Model& model_;
  const Sae& sae_;
  Hook input_;
  Hook output_;
  Tensor made_;
};

void check(const Model& model, const Sae& sae, const Hook& hook, const SpliceOptions& options) {
  if (!model.config().causal) {
    throw_usage("evaluate: ", model.config().family,
                " sees the whole text and predicts no next token, so that there is no loss to "
                "splice the autoencoder into; evaluate it on its activations alone");
  }
  const Hook& output = options.output.value_or(hook);
  model.check_hook(hook);
  model.check_hook(output);
  if (model.hook_width(hook.point) != sae.d_in()) {
    throw_data("evaluate: hook ", hook_name(hook.point), " is ", model.hook_width(hook.point),
               " wide, the autoencoder takes ", sae.d_in());
  }
  if (model.hook_width(output.point) != sae.d_out()) {
    throw_data("evaluate: hook ", hook_name(output.point), " is ", model.hook_width(output.point),
               " wide, the autoencoder gives ", sae.d_out(),
               options.output ? "" : "; a transcoder needs its output hook");
  }
  if (output.layer < hook.layer || (output.layer == hook.layer && output.point < hook.point)) {
    throw_usage("evaluate: the output hook ", hook_name(output.point), " of layer ", output.layer,
                " comes before the input, ", hook_name(hook.point), " of layer ", hook.layer);
  }
}

std::vector<Text> texts_of(const std::vector<Ids>& sequences, const SpliceOptions& options,
                           SpliceReport& report) {
  std::vector<Text> texts;
  std::int64_t special = 0;
  for (const Ids& ids : sequences) {
    Text text{&ids, std::vector<std::uint8_t>(ids.size(), 1), {}};
    std::int64_t left_alone = 0;
    for (std::size_t t = 0; t < ids.size(); ++t) {
      if (options.leave_alone && options.leave_alone(ids[t])) {
        text.edited[t] = 0;
        ++left_alone;
      } else if (t + 1 < ids.size()) {
        text.scored.push_back(static_cast<std::int64_t>(t));
      }
    }
    if (text.scored.empty()) continue;
    special += left_alone;
    texts.push_back(std::move(text));
  }
  if (texts.empty()) throw_data("evaluate: no text has two tokens");
  report.left_alone = special;
  report.token_policy =
      options.leave_alone
          ? str("the ", special,
                " positions of special tokens (BOS and the like) are left as they are, and what is "
                "predicted from them is not scored")
          : "every position is replaced and scored, special tokens (BOS and the like) too";
  return texts;
}

using Weights = std::array<double, kQuantities>;

Weights weights(std::size_t plus, std::size_t minus = kQuantities) {
  Weights out{};
  out[plus] = 1.0;
  if (minus < kQuantities) out[minus] = -1.0;
  return out;
}

void fill(const ClusterSums& sums, SpliceReport& report) {
  const auto mean = [&](std::size_t of) { return sums.ratio(of, kPredictions); };
  report.predictions = std::llround(sums.sum(kPredictions));
  report.ce_clean_interval = mean(kCeClean);
  report.ce_spliced_interval = mean(kCeSpliced);
  report.kl_spliced_interval = mean(kKlSpliced);
  report.ce_clean = report.ce_clean_interval.value;
  report.ce_spliced = report.ce_spliced_interval.value;
  report.ce_zero = mean(kCeZero).value;
  report.ce_mean = mean(kCeMean).value;
  report.kl_spliced = report.kl_spliced_interval.value;
  report.kl_zero = mean(kKlZero).value;
  report.kl_mean = mean(kKlMean).value;
  report.ce_recovered_interval =
      sums.ratio(weights(kCeZero, kCeSpliced), weights(kCeZero, kCeClean));
  report.ce_recovered_mean_interval =
      sums.ratio(weights(kCeMean, kCeSpliced), weights(kCeMean, kCeClean));
  report.kl_score_interval = sums.ratio(weights(kKlZero, kKlSpliced), weights(kKlZero));
  report.kl_score_mean_interval = sums.ratio(weights(kKlMean, kKlSpliced), weights(kKlMean));
  report.ce_recovered = report.ce_recovered_interval.value;
  report.ce_recovered_mean = report.ce_recovered_mean_interval.value;
  report.kl_score = report.kl_score_interval.value;
  report.kl_score_mean = report.kl_score_mean_interval.value;
}

}  // namespace

SpliceReport evaluate_splice(const Model& model, const Sae& sae, const Hook& hook,
                             const std::vector<std::vector<std::int32_t>>& sequences,
                             const SpliceOptions& options) {
  check(model, sae, hook, options);
  SpliceReport report;
  const std::vector<Text> texts = texts_of(sequences, options, report);
  Splicer splicer(model, sae, hook, options);
  const std::vector<float> mean = splicer.mean_activation(texts);
  const std::vector<float> zero(mean.size());
  ClusterSums sums(kQuantities);
  Progress progress("Evaluating", static_cast<std::int64_t>(texts.size()), "texts");
  for (const Text& text : texts) {
    check_interrupt("evaluating");
    const auto run = [&](const Edit& edit) {
      return log_probabilities(model, *text.ids, edit, text.ids - sequences.data());
    };
    std::array<double, kQuantities> of_text{};
    of_text[kPredictions] = static_cast<double>(text.scored.size());
    const Tensor clean = run(splicer.none());
    of_text[kCeClean] = cross_entropy_sum(clean, text);
    const auto score = [&](const Edit& edit, std::size_t ce, std::size_t kl) {
      const Tensor changed = run(edit);
      of_text[ce] = cross_entropy_sum(changed, text);
      of_text[kl] = kl_sum(clean, changed, text);
    };
    score(splicer.spliced(text), kCeSpliced, kKlSpliced);
    score(splicer.replaced(zero, text, "the logits with the hook at zero"), kCeZero, kKlZero);
    score(splicer.replaced(mean, text, "the logits with the hook at its mean"), kCeMean, kKlMean);
    sums.add(of_text);
    sums.close();
    ++report.sequences;
    progress.advance(1);
  }
  fill(sums, report);
  return report;
}

}  // namespace drrik
