#include "eval/tasks.h"

#include <algorithm>
#include <array>

#include "drrik/base/error.h"

namespace drrik::detail {

void to_rows(const PooledTexts& pooled, BinaryTask& task) {
  BinaryTask kept;
  for (std::size_t i = 0; i < task.samples.size(); ++i) {
    const std::int64_t row = pooled.row_of[static_cast<std::size_t>(task.samples[i])];
    if (row < 0) continue;
    kept.samples.push_back(row);
    kept.labels.push_back(task.labels[i]);
  }
  task = std::move(kept);
}

void remark_on_size(std::int64_t test_texts, std::vector<std::string>& remarks) {
  constexpr std::int64_t kEnough = 200;  // a share of one half is then known to within 0.07
  if (test_texts < kEnough) {
    remarks.push_back(str("only ", test_texts,
                          " test texts: differences smaller than the intervals mean nothing"));
  }
}

TaskSet make_tasks(const ProbeModel& probe, const std::vector<std::string>& texts,
                   const ClassSplit& split, Rng& rng) {
  TaskSet set;
  std::vector<std::int64_t> wanted;
  for (const auto& share : {split.train, split.test}) {
    for (const auto& of_class : share)
      wanted.insert(wanted.end(), of_class.begin(), of_class.end());
  }
  for (const auto& of_class : split.train) {
    set.train_texts += static_cast<std::int64_t>(of_class.size());
  }
  for (const auto& of_class : split.test) {
    set.test_texts += static_cast<std::int64_t>(of_class.size());
  }
  set.pooled = pool_texts(probe, texts, wanted);
  for (std::size_t c = 0; c < split.names.size(); ++c) {
    Task task{one_versus_rest(split.train, c, rng), one_versus_rest(split.test, c, rng)};
    to_rows(set.pooled, task.train);
    to_rows(set.pooled, task.test);
    if (task.train.samples.empty() || task.test.samples.empty()) {
      throw_data("label '", split.names[c], "': none of its texts has a token that counts");
    }
    set.tasks.push_back(std::move(task));
  }
  remark_on_size(set.test_texts, set.remarks);
  return set;
}

std::vector<std::uint8_t> correct(const LogisticModel& model, const ProbeRows& rows,
                                  std::span<const std::uint8_t> labels) {
  std::vector<std::uint8_t> out;
  for (std::int64_t i = 0; i < rows.rows(); ++i) {
    const bool said = model.margin(rows, i) > 0;
    out.push_back(said == (labels[static_cast<std::size_t>(i)] != 0) ? 1 : 0);
  }
  return out;
}

ClassMean::ClassMean(const TaskSet& set)
    : set_(&set),
      above_(static_cast<std::size_t>(set.pooled.activations.dim(0))),
      below_(above_.size()) {}

void ClassMean::add(std::size_t c, std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  const std::vector<std::int64_t>& samples = set_->tasks[c].test.samples;
  for (std::size_t i = 0; i < values.size(); ++i) {
    above_[static_cast<std::size_t>(samples[i])] += values[i] / n;
    below_[static_cast<std::size_t>(samples[i])] += 1.0 / n;
  }
}

Interval ClassMean::mean() const {
  ClusterSums sums(2);
  for (std::size_t row = 0; row < above_.size(); ++row) {
    if (below_[row] == 0.0) continue;
    sums.add(std::array<double, 2>{above_[row], below_[row]});
    sums.close();
  }
  return sums.ratio(0, 1);
}

void ClassAccuracy::add(std::size_t c, const std::vector<std::uint8_t>& correct) {
  const std::vector<double> values(correct.begin(), correct.end());
  mean_.add(c, values);
  by_class_.push_back(proportion(std::ranges::count(correct, std::uint8_t{1}),
                                 static_cast<std::int64_t>(correct.size())));
}

}  // namespace drrik::detail
