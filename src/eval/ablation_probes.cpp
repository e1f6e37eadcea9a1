#include "drrik/eval/ablation_probes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>

#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/eval/logistic.h"
#include "eval/ablation_scores.h"

namespace drrik {
namespace {

using detail::Task;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// A probe on mean activations, with its product with every decoder direction.
struct Probe {
  LogisticModel model;
  std::vector<double> latent_weights;  ///< [d_sae], w·d_j
};

std::vector<Probe> train_probes(const ProbeRows& activations, const Sae& sae,
                                const std::vector<const BinaryTask*>& tasks) {
  std::vector<Probe> probes(tasks.size());
  std::vector<std::vector<double>> weights;
  for (std::size_t p = 0; p < tasks.size(); ++p) {
    probes[p].model = fit_logistic(ProbeRows(activations, tasks[p]->samples), tasks[p]->labels);
    weights.push_back(probes[p].model.weights);
  }
  std::vector<std::vector<double>> products = LatentDirections(sae).products(weights);
  for (std::size_t p = 0; p < tasks.size(); ++p) probes[p].latent_weights = std::move(products[p]);
  return probes;
}

enum class Effect {
  kSpeaksFor,  ///< More active on the class, and in favour of it: only those count.
  kMagnitude
};

// Latents by how much they matter to a probe, most first; those that do not are left out.
std::vector<std::int32_t> by_effect(const ProbeRows& latents, const BinaryTask& train,
                                    const Probe& probe, Effect kind) {
  std::vector<double> effects = mean_differences(ProbeRows(latents, train.samples), train.labels);
  std::vector<std::int32_t> order;
  for (std::size_t j = 0; j < effects.size(); ++j) {
    if (kind == Effect::kSpeaksFor) effects[j] = std::max(effects[j], 0.0);
    effects[j] *= probe.latent_weights[j];
    if (kind == Effect::kMagnitude) effects[j] = std::fabs(effects[j]);
    if (effects[j] > 0.0) order.push_back(static_cast<std::int32_t>(j));
  }
  std::ranges::stable_sort(order, [&](std::int32_t a, std::int32_t b) {
    return effects[static_cast<std::size_t>(a)] > effects[static_cast<std::size_t>(b)];
  });
  return order;
}

// Decoding is linear and pooling a mean: with the error kept, setting latents S to 0 takes
// Σ_{j in S} f̄_j d_j from a text's mean activation, and Σ f̄_j (w·d_j) from a probe's margin.
class Ablation {
 public:
  Ablation(const PooledTexts& pooled, std::int64_t d_sae)
      : latents_(pooled.latents, d_sae),
        activations_(pooled.activations.mat<float>()),
        off_(at(d_sae)) {}

  const ProbeRows& latents() const { return latents_; }
  const ProbeRows& activations() const { return activations_; }

  void set(std::span<const std::int32_t> latents) {
    std::ranges::fill(off_, std::uint8_t{0});
    for (const std::int32_t latent : latents) off_[at(latent)] = 1;
  }

  std::vector<std::uint8_t> correct(const Probe& probe, const BinaryTask& test) const {
    std::vector<std::uint8_t> out;
    for (std::size_t i = 0; i < test.samples.size(); ++i) {
      double margin = probe.model.margin(activations_, test.samples[i]);
      latents_.each(test.samples[i], [&](std::int64_t j, float value) {
        if (off_[at(j)] != 0) margin -= static_cast<double>(value) * probe.latent_weights[at(j)];
      });
      out.push_back((margin > 0) == (test.labels[i] != 0) ? 1 : 0);
    }
    return out;
  }

 private:
  ProbeRows latents_;
  ProbeRows activations_;
  std::vector<std::uint8_t> off_;
};

std::span<const std::int32_t> first(const std::vector<std::int32_t>& latents, std::int64_t n) {
  return std::span(latents).first(std::min(latents.size(), at(n)));
}

void check_counts(const AblationOptions& options) {
  for (const std::int64_t n : options.n) {
    if (n < 1) throw_usage("ablation: n is ", n, ", wanted >= 1");
  }
}

Interval accuracy(const std::vector<std::uint8_t>& correct) {
  return proportion(std::ranges::count(correct, std::uint8_t{1}),
                    static_cast<std::int64_t>(correct.size()));
}

// The two most frequent values, or those that are given.
void settle_values(Attribute& attribute, const std::vector<std::string>& labels) {
  if (!attribute.positive.empty() && !attribute.negative.empty()) return;
  std::map<std::string, std::int64_t> counts;
  for (const std::string& label : labels) ++counts[label];
  std::vector<std::string> names;
  for (const auto& [name, count] : counts) names.push_back(name);
  std::ranges::stable_sort(
      names, [&](const std::string& a, const std::string& b) { return counts[a] > counts[b]; });
  if (names.size() < 2) {
    throw_data("column '", attribute.name, "' has one value only ('", names.empty() ? "" : names[0],
               "'); wanted two");
  }
  attribute.positive = names[0];
  attribute.negative = names[1];
}

// Texts of each pair of values.
struct Quadrants {
  std::vector<std::int64_t> both;      ///< Target and spurious positive.
  std::vector<std::int64_t> target;    ///< Target positive, spurious negative.
  std::vector<std::int64_t> spurious;  ///< The reverse.
  std::vector<std::int64_t> neither;
};

std::vector<std::int64_t> joined(std::span<const std::int64_t> a, std::span<const std::int64_t> b) {
  std::vector<std::int64_t> out(a.begin(), a.end());
  out.insert(out.end(), b.begin(), b.end());
  return out;
}

BinaryTask labelled(const std::vector<std::int64_t>& positives,
                    const std::vector<std::int64_t>& negatives) {
  BinaryTask task{joined(positives, negatives), std::vector<std::uint8_t>(positives.size(), 1)};
  task.labels.resize(task.samples.size(), 0);
  return task;
}

// From `per` texts of each quadrant.
detail::ScrSets scr_sets(const Quadrants& q, std::int64_t per) {
  const auto some = [per](const std::vector<std::int64_t>& all) {
    return std::span(all).first(at(per));
  };
  detail::ScrSets sets;
  sets.target =
      labelled(joined(some(q.both), some(q.target)), joined(some(q.spurious), some(q.neither)));
  sets.spurious =
      labelled(joined(some(q.both), some(q.spurious)), joined(some(q.target), some(q.neither)));
  sets.biased.samples =
      joined(std::span(q.both).first(at(2 * per)), std::span(q.neither).first(at(2 * per)));
  sets.biased.labels.assign(at(2 * per), 1);
  sets.biased.labels.resize(at(4 * per), 0);
  return sets;
}

// (after − before) / (clean − before) over the same texts.
Interval recovery(const std::vector<std::uint8_t>& after, const std::vector<std::uint8_t>& before,
                  const std::vector<std::uint8_t>& clean) {
  ClusterSums sums(2);
  for (std::size_t i = 0; i < after.size(); ++i) {
    const double was = before[i];
    sums.add(std::array<double, 2>{after[i] - was, clean[i] - was});
    sums.close();
  }
  // SAEBench's rule: nothing was to be won.
  constexpr double kNothing = 0.001;
  if (sums.sum(1) < kNothing * static_cast<double>(after.size())) return {0.0};
  return sums.ratio(0, 1);
}

}  // namespace

namespace detail {

void score_tpp(const Sae& sae, const TaskSet& set, std::span<const std::int64_t> counts,
               TppReport& report) {
  const std::size_t classes = set.tasks.size();
  Ablation ablation(set.pooled, sae.d_sae());
  std::vector<const BinaryTask*> training;
  for (const Task& task : set.tasks) training.push_back(&task.train);
  const std::vector<Probe> probes = train_probes(ablation.activations(), sae, training);
  std::vector<std::vector<std::int32_t>> effects;
  std::vector<std::vector<std::uint8_t>> clean;
  for (std::size_t c = 0; c < classes; ++c) {
    effects.push_back(
        by_effect(ablation.latents(), set.tasks[c].train, probes[c], Effect::kSpeaksFor));
    clean.push_back(ablation.correct(probes[c], set.tasks[c].test));
    report.clean_accuracy.push_back(accuracy(clean.back()));
  }
  for (const std::int64_t n : counts) {
    check_interrupt("setting latents to zero");
    TppReport::Row row;
    row.n = n;
    row.fewest_latents = n;
    // By class that is measured: what each of its test samples loses, its own latents and others'.
    std::vector<std::vector<double>> own(classes);
    std::vector<std::vector<double>> others(classes);
    for (std::size_t c = 0; c < classes; ++c) {
      own[c].resize(clean[c].size());
      others[c].resize(clean[c].size());
    }
    for (std::size_t ablated = 0; ablated < classes; ++ablated) {
      const auto latents = first(effects[ablated], n);
      row.fewest_latents = std::min(row.fewest_latents, static_cast<std::int64_t>(latents.size()));
      ablation.set(latents);
      for (std::size_t c = 0; c < classes; ++c) {
        const std::vector<std::uint8_t> after = ablation.correct(probes[c], set.tasks[c].test);
        for (std::size_t i = 0; i < after.size(); ++i) {
          const double lost = static_cast<double>(clean[c][i]) - static_cast<double>(after[i]);
          if (c == ablated) {
            own[c][i] += lost;
          } else {
            others[c][i] += lost / static_cast<double>(classes - 1);
          }
        }
      }
    }
    ClassMean intended(set);
    ClassMean unintended(set);
    ClassMean score(set);
    for (std::size_t c = 0; c < classes; ++c) {
      std::vector<double> difference(own[c].size());
      for (std::size_t i = 0; i < difference.size(); ++i) difference[i] = own[c][i] - others[c][i];
      intended.add(c, own[c]);
      unintended.add(c, others[c]);
      score.add(c, difference);
    }
    row.intended = intended.mean();
    row.unintended = unintended.mean();
    row.score = score.mean();
    report.rows.push_back(row);
  }
}

void score_scr(const Sae& sae, const PooledTexts& pooled, const ScrSets& training,
               const ScrSets& testing, std::span<const std::int64_t> counts, ScrReport& report) {
  Ablation ablation(pooled, sae.d_sae());
  const std::vector<Probe> probes = train_probes(
      ablation.activations(), sae, {&training.target, &training.spurious, &training.biased});
  const Probe& of_target = probes[0];
  const Probe& of_spurious = probes[1];
  const Probe& biased = probes[2];
  const auto clean_target = ablation.correct(of_target, testing.target);
  const auto clean_spurious = ablation.correct(of_spurious, testing.spurious);
  const auto before_target = ablation.correct(biased, testing.target);
  const auto before_spurious = ablation.correct(biased, testing.spurious);
  report.target_accuracy = accuracy(clean_target);
  report.spurious_accuracy = accuracy(clean_spurious);
  report.biased_on_target = accuracy(before_target);
  report.biased_on_spurious = accuracy(before_spurious);
  report.scores_target = report.biased_on_target.value <= report.biased_on_spurious.value;

  const auto target_latents =
      by_effect(ablation.latents(), training.target, of_target, Effect::kMagnitude);
  const auto spurious_latents =
      by_effect(ablation.latents(), training.spurious, of_spurious, Effect::kMagnitude);
  for (const std::int64_t n : counts) {
    check_interrupt("setting latents to zero");
    ScrReport::Row row;
    row.n = n;
    ablation.set(first(spurious_latents, n));
    row.keep_target =
        recovery(ablation.correct(biased, testing.target), before_target, clean_target);
    ablation.set(first(target_latents, n));
    row.keep_spurious =
        recovery(ablation.correct(biased, testing.spurious), before_spurious, clean_spurious);
    row.score = report.scores_target ? row.keep_target : row.keep_spurious;
    row.latents = static_cast<std::int64_t>(
        first(report.scores_target ? spurious_latents : target_latents, n).size());
    report.rows.push_back(row);
  }
}

}  // namespace detail

TppReport targeted_probe_perturbation(const ProbeModel& probe,
                                      const std::vector<std::string>& texts,
                                      const std::vector<std::string>& labels,
                                      const AblationOptions& options) {
  check_counts(options);
  static_cast<void>(LatentDirections(probe.sae));  // refused before any work
  Rng rng(options.seed);
  const ClassSplit split = split_classes(labels, options.split, rng);
  const detail::TaskSet set = detail::make_tasks(probe, texts, split, rng);
  TppReport report;
  report.classes = split.names;
  report.classes_left_out = split.classes_left_out;
  report.train_texts = set.train_texts;
  report.test_texts = set.test_texts;
  report.remarks = set.remarks;

  detail::score_tpp(probe.sae, set, options.n, report);
  for (std::size_t c = 0; c < report.classes.size(); ++c) {
    constexpr double kReadable = 0.6;
    if (report.clean_accuracy[c].value >= kReadable) continue;
    report.remarks.push_back(str("the probe for '", report.classes[c], "' is right on ",
                                 report.clean_accuracy[c].value,
                                 " of its texts only: there is little to lose"));
  }
  return report;
}

ScrReport spurious_correlation_removal(const ProbeModel& probe,
                                       const std::vector<std::string>& texts,
                                       const std::vector<std::string>& target_labels,
                                       const std::vector<std::string>& spurious_labels,
                                       Attribute target, Attribute spurious,
                                       const AblationOptions& options) {
  check_counts(options);
  static_cast<void>(LatentDirections(probe.sae));  // refused before any work
  settle_values(target, target_labels);
  settle_values(spurious, spurious_labels);
  Quadrants all;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const bool t = target_labels[i] == target.positive;
    const bool s = spurious_labels[i] == spurious.positive;
    if (!t && target_labels[i] != target.negative) continue;
    if (!s && spurious_labels[i] != spurious.negative) continue;
    auto& quadrant = t ? (s ? all.both : all.target) : (s ? all.spurious : all.neither);
    quadrant.push_back(static_cast<std::int64_t>(i));
  }
  Rng rng(options.seed);
  Quadrants train;
  Quadrants test;
  const auto cut = [&](std::vector<std::int64_t>& from, std::vector<std::int64_t>& to_train,
                       std::vector<std::int64_t>& to_test) {
    rng.shuffle(std::span(from));
    const auto middle = from.begin() + static_cast<std::ptrdiff_t>(from.size() / 5);
    to_test.assign(from.begin(), middle);
    to_train.assign(middle, from.end());
  };
  cut(all.both, train.both, test.both);
  cut(all.target, train.target, test.target);
  cut(all.spurious, train.spurious, test.spurious);
  cut(all.neither, train.neither, test.neither);
  const auto per_quadrant = [](const Quadrants& q, std::int64_t most) {
    return std::min({static_cast<std::int64_t>(q.both.size() / 2),
                     static_cast<std::int64_t>(q.target.size()),
                     static_cast<std::int64_t>(q.spurious.size()),
                     static_cast<std::int64_t>(q.neither.size() / 2), most / 4});
  };
  ScrReport report;
  report.target = target;
  report.spurious = spurious;
  report.train_per_quadrant = per_quadrant(train, options.split.train_size);
  report.test_per_quadrant = per_quadrant(test, options.split.test_size);
  constexpr std::int64_t kFewest = 4;
  if (std::min(report.train_per_quadrant, report.test_per_quadrant) < kFewest) {
    throw_data("SCR needs at least ", 5 * kFewest, " texts of ", target.positive, " with ",
               spurious.negative, " and of ", target.negative, " with ", spurious.positive,
               ", and twice as many of the other pairs; there are ", all.target.size(), " and ",
               all.spurious.size(), ", and ", all.both.size(), " of ", target.positive, " with ",
               spurious.positive, ", ", all.neither.size(), " of ", target.negative, " with ",
               spurious.negative);
  }
  detail::ScrSets training = scr_sets(train, report.train_per_quadrant);
  detail::ScrSets testing = scr_sets(test, report.test_per_quadrant);
  std::vector<std::int64_t> wanted;
  for (const detail::ScrSets* sets : {&training, &testing}) {
    for (const BinaryTask* task : {&sets->target, &sets->spurious, &sets->biased}) {
      wanted.insert(wanted.end(), task->samples.begin(), task->samples.end());
    }
  }
  std::ranges::sort(wanted);
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  const PooledTexts pooled = pool_texts(probe, texts, wanted);
  for (detail::ScrSets* sets : {&training, &testing}) {
    for (BinaryTask* task : {&sets->target, &sets->spurious, &sets->biased}) {
      detail::to_rows(pooled, *task);
    }
  }

  detail::score_scr(probe.sae, pooled, training, testing, options.n, report);
  detail::remark_on_size(static_cast<std::int64_t>(testing.target.samples.size()), report.remarks);
  const double room = report.scores_target
                          ? report.target_accuracy.value - report.biased_on_target.value
                          : report.spurious_accuracy.value - report.biased_on_spurious.value;
  constexpr double kRoom = 0.05;
  if (room < kRoom) {
    report.remarks.push_back(
        str("the biased probe loses only ", room,
            " of accuracy to the spurious attribute: the scores divide by it"));
  }
  return report;
}

}  // namespace drrik
