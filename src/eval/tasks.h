#pragma once
// What sparse probing and targeted probe perturbation share: one-versus-rest tasks over pooled
// texts, and accuracies over them with intervals over texts.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "drrik/eval/labelled.h"
#include "drrik/eval/logistic.h"
#include "drrik/sae/confidence.h"

namespace drrik::detail {

/// Samples are rows of the pooled texts.
struct Task {
  BinaryTask train;
  BinaryTask test;
};

struct TaskSet {
  PooledTexts pooled;
  std::vector<Task> tasks;  ///< By class.
  std::int64_t train_texts = 0;
  std::int64_t test_texts = 0;
  std::vector<std::string> remarks;
};

/// Pools the texts of a split and makes every class's task.
TaskSet make_tasks(const ProbeModel& probe, const std::vector<std::string>& texts,
                   const ClassSplit& split, Rng& rng);

/// Turns texts into rows of `pooled`; those without one are left out.
void to_rows(const PooledTexts& pooled, BinaryTask& task);

/// What makes numbers from so many test texts doubtful; nothing when it does not.
void remark_on_size(std::int64_t test_texts, std::vector<std::string>& remarks);

/// 1 where margin > 0 says what the label says.
std::vector<std::uint8_t> correct(const LogisticModel& model, const ProbeRows& rows,
                                  std::span<const std::uint8_t> labels);

/// A mean over classes of something per test sample, with an interval over texts: a text counts in
/// several classes' tests.
class ClassMean {
 public:
  explicit ClassMean(const TaskSet& set);
  /// One value for each test sample of class c.
  void add(std::size_t c, std::span<const double> values);
  Interval mean() const;

 private:
  const TaskSet* set_;
  std::vector<double> above_;  ///< [rows of pooled], Σ value / n_c.
  std::vector<double> below_;  ///< [rows of pooled], Σ 1 / n_c.
};

/// Accuracies by class and their mean.
class ClassAccuracy {
 public:
  explicit ClassAccuracy(const TaskSet& set) : mean_(set) {}
  void add(std::size_t c, const std::vector<std::uint8_t>& correct);
  Interval mean() const { return mean_.mean(); }
  const std::vector<Interval>& by_class() const { return by_class_; }

 private:
  ClassMean mean_;
  std::vector<Interval> by_class_;
};

}  // namespace drrik::detail
