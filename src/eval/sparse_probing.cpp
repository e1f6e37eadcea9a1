#include "drrik/eval/sparse_probing.h"

#include <algorithm>
#include <array>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/base/progress.h"
#include "drrik/eval/logistic.h"
#include "eval/tasks.h"

namespace drrik {
namespace {

using detail::Task;

// Right or wrong on every test sample, of a probe on some columns (empty: all).
std::vector<std::uint8_t> correct_by_probe(const ProbeRows& all, const Task& task,
                                           std::span<const std::int64_t> columns) {
  const ProbeRows train(all, task.train.samples);
  const ProbeRows test(all, task.test.samples);
  if (columns.empty()) {
    return detail::correct(fit_logistic(train, task.train.labels), test, task.test.labels);
  }
  const std::vector<float> few_train = dense_columns(train, columns);
  const std::vector<float> few_test = dense_columns(test, columns);
  const auto k = static_cast<std::int64_t>(columns.size());
  const ProbeRows small_train(MatView<const float>(few_train.data(), train.rows(), k));
  const ProbeRows small_test(MatView<const float>(few_test.data(), test.rows(), k));
  return detail::correct(fit_logistic(small_train, task.train.labels), small_test,
                         task.test.labels);
}

}  // namespace

SparseProbingReport sparse_probing(const ProbeModel& probe, const std::vector<std::string>& texts,
                                   const std::vector<std::string>& labels,
                                   const SparseProbingOptions& options) {
  for (const std::int64_t k : options.k) {
    if (k < 1) throw_usage("sparse probing: k is ", k, ", wanted >= 1");
  }
  Rng rng(options.seed);
  const ClassSplit split = split_classes(labels, options.split, rng);
  const detail::TaskSet set = detail::make_tasks(probe, texts, split, rng);
  SparseProbingReport report;
  report.classes = split.names;
  report.classes_left_out = split.classes_left_out;
  report.train_texts = set.train_texts;
  report.test_texts = set.test_texts;
  report.remarks = set.remarks;

  const ProbeRows latents(set.pooled.latents, probe.sae.d_sae());
  const ProbeRows activations(set.pooled.activations.mat<float>());
  std::vector<std::int64_t> ks = options.k;
  ks.push_back(0);
  Progress progress("Probing", static_cast<std::int64_t>(ks.size() * set.tasks.size()), "probes");
  for (const std::int64_t k : ks) {
    SparseProbingReport::Accuracies row;
    row.k = k;
    detail::ClassAccuracy by_latents(set);
    detail::ClassAccuracy by_activations(set);
    for (std::size_t c = 0; c < set.tasks.size(); ++c) {
      const Task& task = set.tasks[c];
      const auto choose = [&](const ProbeRows& all) {
        if (k == 0) return std::vector<std::int64_t>{};
        return top_mean_differences(ProbeRows(all, task.train.samples), task.train.labels, k);
      };
      row.chosen.push_back(choose(latents));
      by_latents.add(c, correct_by_probe(latents, task, row.chosen.back()));
      by_activations.add(c, correct_by_probe(activations, task, choose(activations)));
      progress.advance(1);
    }
    row.latents = by_latents.mean();
    row.activations = by_activations.mean();
    row.latents_by_class = by_latents.by_class();
    row.activations_by_class = by_activations.by_class();
    report.accuracies.push_back(std::move(row));
  }
  return report;
}

}  // namespace drrik
