#include "drrik/eval/logistic.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/threads.h"

namespace drrik {
namespace {

// Rows are summed by so many blocks whatever the number of threads.
constexpr std::int64_t kBlocks = 4;
// Entries below which waking the other threads costs more than they save.
constexpr std::int64_t kSmall = std::int64_t{1} << 18;

double sigmoid(double m) {
  if (m >= 0) return 1.0 / (1.0 + std::exp(-m));
  const double e = std::exp(m);
  return e / (1.0 + e);
}

double loss_at(double m, bool positive) {
  const double signed_m = positive ? -m : m;  // log(1 + exp(signed_m)), without overflow
  return signed_m > 0 ? signed_m + std::log1p(std::exp(-signed_m)) : std::log1p(std::exp(signed_m));
}

double inner(std::span<const double> a, std::span<const double> b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

double largest(std::span<const double> values) {
  double most = 0.0;
  for (const double value : values) most = std::max(most, std::fabs(value));
  return most;
}

void check(const ProbeRows& rows, std::span<const std::uint8_t> labels) {
  if (labels.empty() || static_cast<std::int64_t>(labels.size()) != rows.rows()) {
    throw_usage("logistic regression: ", rows.rows(), " rows and ", labels.size(),
                " labels; wanted as many of each, and some");
  }
}

// Σ_i a_i x_i with Σ_i a_i behind it (the intercept's column), [columns + 1].
template <typename Add>
std::vector<double> sum_over_rows(const ProbeRows& rows, std::span<const double> a, Add&& add) {
  const auto width = static_cast<std::size_t>(rows.columns()) + 1;
  const std::int64_t n = rows.rows();
  std::vector<std::vector<double>> parts(kBlocks, std::vector<double>(width));
  const std::int64_t grain = n * rows.columns() < kSmall ? kBlocks : 1;
  parallel_for(kBlocks, grain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t block = first; block < last; ++block) {
      auto& part = parts[static_cast<std::size_t>(block)];
      const std::span<double> columns(part.data(), width - 1);
      for (std::int64_t i = n * block / kBlocks; i < n * (block + 1) / kBlocks; ++i) {
        const double factor = a[static_cast<std::size_t>(i)];
        if (factor == 0.0) continue;
        add(i, factor, columns);
        part.back() += factor;
      }
    }
  });
  for (std::size_t block = 1; block < parts.size(); ++block) {
    for (std::size_t c = 0; c < width; ++c) parts[0][c] += parts[block][c];
  }
  return std::move(parts[0]);
}

std::vector<double> transposed_product(const ProbeRows& rows, std::span<const double> a) {
  return sum_over_rows(rows, a, [&](std::int64_t i, double factor, std::span<double> out) {
    rows.add(i, factor, out);
  });
}

// x_i·v + v_b of every row, for v [columns + 1].
std::vector<double> product(const ProbeRows& rows, std::span<const double> v) {
  std::vector<double> out(static_cast<std::size_t>(rows.rows()));
  const auto w = v.first(v.size() - 1);
  const std::int64_t grain = std::max<std::int64_t>(64, kSmall / (rows.columns() + 1));
  parallel_for(rows.rows(), grain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      out[static_cast<std::size_t>(i)] = rows.dot(i, w) + v.back();
    }
  });
  return out;
}

// The L2 problem at a point θ = (w, b).
class Problem {
 public:
  Problem(const ProbeRows& rows, std::span<const std::uint8_t> labels,
          const LogisticOptions& options)
      : rows_(rows), labels_(labels) {
    for (const std::uint8_t label : labels) {
      scale_.push_back(options.c *
                       (label != 0 ? options.positive_weight : options.negative_weight));
    }
    theta.resize(static_cast<std::size_t>(rows.columns()) + 1);
    margins_.resize(labels.size());
  }

  double total_scale() const { return std::accumulate(scale_.begin(), scale_.end(), 0.0); }

  double loss_along(std::span<const double> step, std::span<const double> step_margins,
                    double t) const {
    double loss = 0.0;
    for (std::size_t j = 0; j + 1 < theta.size(); ++j) {
      const double w = theta[j] + t * step[j];
      loss += 0.5 * w * w;
    }
    for (std::size_t i = 0; i < margins_.size(); ++i) {
      loss += scale_[i] * loss_at(margins_[i] + t * step_margins[i], labels_[i] != 0);
    }
    return loss;
  }

  std::vector<double> gradient() const {
    std::vector<double> residual(margins_.size());
    for (std::size_t i = 0; i < residual.size(); ++i) {
      residual[i] = scale_[i] * (sigmoid(margins_[i]) - (labels_[i] != 0 ? 1.0 : 0.0));
    }
    std::vector<double> out = transposed_product(rows_, residual);
    for (std::size_t j = 0; j + 1 < out.size(); ++j) out[j] += theta[j];
    return out;
  }

  /// Newton's step: H p = −g by conjugate gradients, preconditioned with H's diagonal.
  std::vector<double> newton_step(std::span<const double> g, double accuracy) const {
    std::vector<double> curvature(margins_.size());
    for (std::size_t i = 0; i < curvature.size(); ++i) {
      const double p = sigmoid(margins_[i]);
      curvature[i] = scale_[i] * p * (1.0 - p);
    }
    std::vector<double> diagonal = sum_over_rows(
        rows_, curvature,
        [&](std::int64_t i, double a, std::span<double> out) { rows_.add_squares(i, a, out); });
    for (std::size_t j = 0; j + 1 < diagonal.size(); ++j) diagonal[j] += 1.0;
    diagonal.back() = std::max(diagonal.back(), 1e-12);

    std::vector<double> step(g.size());
    std::vector<double> residual(g.size());
    std::vector<double> z(g.size());
    for (std::size_t j = 0; j < g.size(); ++j) {
      residual[j] = -g[j];
      z[j] = residual[j] / diagonal[j];
    }
    std::vector<double> direction = z;
    double rz = inner(residual, z);
    const double enough = accuracy * accuracy * rz;
    for (std::size_t n = 0; n < 2 * g.size() + 10 && rz > enough; ++n) {
      std::vector<double> along = product(rows_, direction);
      for (std::size_t i = 0; i < along.size(); ++i) along[i] *= curvature[i];
      std::vector<double> h = transposed_product(rows_, along);
      for (std::size_t j = 0; j + 1 < h.size(); ++j) h[j] += direction[j];
      const double bent = inner(direction, h);
      if (!(bent > 0.0)) break;
      const double alpha = rz / bent;
      for (std::size_t j = 0; j < g.size(); ++j) {
        step[j] += alpha * direction[j];
        residual[j] -= alpha * h[j];
        z[j] = residual[j] / diagonal[j];
      }
      const double next = inner(residual, z);
      for (std::size_t j = 0; j < g.size(); ++j) direction[j] = z[j] + next / rz * direction[j];
      rz = next;
    }
    return step;
  }

  /// Goes as far along the step as lowers the loss (Armijo); false when nothing does.
  bool advance(std::span<const double> step, double slope) {
    const std::vector<double> step_margins = product(rows_, step);
    const double before = loss_along(step, step_margins, 0.0);
    for (double t = 1.0; t > 1e-10; t *= 0.5) {
      if (loss_along(step, step_margins, t) > before + 1e-4 * t * slope) continue;
      for (std::size_t j = 0; j < theta.size(); ++j) theta[j] += t * step[j];
      for (std::size_t i = 0; i < margins_.size(); ++i) margins_[i] += t * step_margins[i];
      return true;
    }
    return false;
  }

  std::vector<double> theta;

 private:
  const ProbeRows& rows_;
  std::span<const std::uint8_t> labels_;
  std::vector<double> scale_;
  std::vector<double> margins_;
};

// The columns of compressed rows.
struct Columns {
  std::vector<std::size_t> start;  ///< [columns + 1]
  std::vector<std::uint32_t> row;
  std::vector<double> value;

  explicit Columns(const ProbeRows& rows) {
    start.resize(static_cast<std::size_t>(rows.columns()) + 1);
    for (std::int64_t i = 0; i < rows.rows(); ++i) {
      rows.each(i, [&](std::int64_t c, float x) {
        if (x != 0.0F) ++start[static_cast<std::size_t>(c) + 1];
      });
    }
    std::partial_sum(start.begin(), start.end(), start.begin());
    row.resize(start.back());
    value.resize(start.back());
    std::vector<std::size_t> next(start.begin(), start.end() - 1);
    for (std::int64_t i = 0; i < rows.rows(); ++i) {
      rows.each(i, [&](std::int64_t c, float x) {
        if (x == 0.0F) return;
        const std::size_t to = next[static_cast<std::size_t>(c)]++;
        row[to] = static_cast<std::uint32_t>(i);
        value[to] = static_cast<double>(x);
      });
    }
  }
};

// Coordinate descent on the L1 problem.
class Descent {
 public:
  Descent(const ProbeRows& rows, std::span<const std::uint8_t> labels,
          const SparseLogisticOptions& options)
      : columns_(rows), labels_(labels), options_(options) {
    const auto n = static_cast<double>(labels.size());
    weights.resize(static_cast<std::size_t>(rows.columns()));
    bounds_.resize(weights.size());
    margins_.resize(labels.size());
    for (const std::uint8_t label : labels) {
      scale_.push_back((label != 0 ? options.positive_weight : options.negative_weight) / n);
      bias_bound_ += 0.25 * scale_.back();
      residuals_.push_back(scale_.back() * (0.5 - (label != 0 ? 1.0 : 0.0)));
    }
    for (std::size_t j = 0; j < weights.size(); ++j) {
      for (std::size_t e = columns_.start[j]; e < columns_.start[j + 1]; ++e) {
        bounds_[j] += 0.25 * scale_[columns_.row[e]] * columns_.value[e] * columns_.value[e];
      }
    }
  }

  /// The largest change, as the root of how much it can have lowered the loss.
  double sweep(std::span<const std::size_t> columns) {
    double most = move_bias();
    for (const std::size_t j : columns) {
      if (bounds_[j] == 0.0) continue;
      double gradient = 0.0;
      for (std::size_t e = columns_.start[j]; e < columns_.start[j + 1]; ++e) {
        gradient += residuals_[columns_.row[e]] * columns_.value[e];
      }
      const double target = weights[j] - gradient / bounds_[j];
      const double shrink = options_.l1 / bounds_[j];
      const double to = target > shrink    ? target - shrink
                        : target < -shrink ? target + shrink
                                           : 0.0;
      const double delta = to - weights[j];
      if (delta == 0.0) continue;
      weights[j] = to;
      for (std::size_t e = columns_.start[j]; e < columns_.start[j + 1]; ++e) {
        move(columns_.row[e], delta * columns_.value[e]);
      }
      most = std::max(most, std::fabs(delta) * std::sqrt(bounds_[j]));
    }
    return most;
  }

  std::vector<double> weights;
  double bias = 0.0;

 private:
  void move(std::size_t i, double by) {
    margins_[i] += by;
    residuals_[i] = scale_[i] * (sigmoid(margins_[i]) - (labels_[i] != 0 ? 1.0 : 0.0));
  }

  double move_bias() {
    const double delta = -std::accumulate(residuals_.begin(), residuals_.end(), 0.0) / bias_bound_;
    bias += delta;
    for (std::size_t i = 0; i < margins_.size(); ++i) move(i, delta);
    return std::fabs(delta) * std::sqrt(bias_bound_);
  }

  Columns columns_;
  std::span<const std::uint8_t> labels_;
  SparseLogisticOptions options_;
  std::vector<double> scale_;
  std::vector<double> margins_;
  std::vector<double> residuals_;
  std::vector<double> bounds_;
  double bias_bound_ = 0.0;
};

}  // namespace

ProbeRows::ProbeRows(MatView<const float> dense) : dense_(dense), columns_(dense.cols()) {
  indices_.resize(static_cast<std::size_t>(dense.rows()));
  std::iota(indices_.begin(), indices_.end(), 0);
}

ProbeRows::ProbeRows(const SparseRows& sparse, std::int64_t columns)
    : sparse_(&sparse), columns_(columns) {
  indices_.resize(sparse.row_start.size() - 1);
  std::iota(indices_.begin(), indices_.end(), 0);
}

ProbeRows::ProbeRows(const ProbeRows& all, std::vector<std::int64_t> indices)
    : dense_(all.dense_), sparse_(all.sparse_), columns_(all.columns_) {
  for (std::int64_t& index : indices) index = all.indices_[static_cast<std::size_t>(index)];
  indices_ = std::move(indices);
}

double ProbeRows::dot(std::int64_t i, std::span<const double> w) const {
  double sum = 0.0;
  each(i, [&](std::int64_t c, float x) {
    sum += w[static_cast<std::size_t>(c)] * static_cast<double>(x);
  });
  return sum;
}

void ProbeRows::add(std::int64_t i, double a, std::span<double> out) const {
  each(i, [&](std::int64_t c, float x) {
    out[static_cast<std::size_t>(c)] += a * static_cast<double>(x);
  });
}

void ProbeRows::add_squares(std::int64_t i, double a, std::span<double> out) const {
  each(i, [&](std::int64_t c, float x) {
    out[static_cast<std::size_t>(c)] += a * static_cast<double>(x) * static_cast<double>(x);
  });
}

std::vector<float> dense_columns(const ProbeRows& rows, std::span<const std::int64_t> columns) {
  std::vector<std::int64_t> place(static_cast<std::size_t>(rows.columns()), -1);
  for (std::size_t k = 0; k < columns.size(); ++k) {
    place[static_cast<std::size_t>(columns[k])] = static_cast<std::int64_t>(k);
  }
  std::vector<float> out(static_cast<std::size_t>(rows.rows()) * columns.size());
  for (std::int64_t i = 0; i < rows.rows(); ++i) {
    const auto row = static_cast<std::size_t>(i) * columns.size();
    rows.each(i, [&](std::int64_t c, float x) {
      const std::int64_t k = place[static_cast<std::size_t>(c)];
      if (k >= 0) out[row + static_cast<std::size_t>(k)] = x;
    });
  }
  return out;
}

LogisticOptions LogisticOptions::balanced(std::span<const std::uint8_t> labels) {
  const auto positives = static_cast<double>(
      std::ranges::count_if(labels, [](std::uint8_t label) { return label != 0; }));
  const auto n = static_cast<double>(labels.size());
  LogisticOptions options;
  if (positives > 0 && positives < n) {
    options.positive_weight = n / (2 * positives);
    options.negative_weight = n / (2 * (n - positives));
  }
  return options;
}

LogisticModel fit_logistic(const ProbeRows& rows, std::span<const std::uint8_t> labels,
                           const LogisticOptions& options) {
  check(rows, labels);
  Problem problem(rows, labels, options);
  const double enough = options.tolerance * problem.total_scale();
  LogisticModel model;
  std::vector<double> g = problem.gradient();
  const double first = largest(g);
  for (; model.iterations < options.max_iterations; ++model.iterations) {
    check_interrupt("fitting a probe");
    const double now = largest(g);
    model.converged = now <= enough;
    if (model.converged) break;
    // Rough steps while far away, exact ones near the end (Eisenstat and Walker).
    const double accuracy = std::clamp(std::sqrt(now / first), 1e-8, 0.1);
    const std::vector<double> step = problem.newton_step(g, accuracy);
    if (!problem.advance(step, inner(g, step))) {
      model.converged = now <= std::sqrt(options.tolerance) * problem.total_scale();
      break;
    }
    g = problem.gradient();
  }
  model.bias = problem.theta.back();
  problem.theta.pop_back();
  model.weights = std::move(problem.theta);
  return model;
}

LogisticModel fit_sparse_logistic(const ProbeRows& rows, std::span<const std::uint8_t> labels,
                                  const SparseLogisticOptions& options) {
  check(rows, labels);
  Descent descent(rows, labels, options);
  std::vector<std::size_t> all(descent.weights.size());
  std::iota(all.begin(), all.end(), 0);
  LogisticModel model;
  while (model.iterations < options.max_sweeps) {
    check_interrupt("fitting a probe");
    ++model.iterations;
    model.converged = descent.sweep(all) <= options.tolerance;
    if (model.converged) break;
    // Columns at 0 mostly stay there: the others are settled before all are looked at again.
    std::vector<std::size_t> active;
    for (const std::size_t j : all) {
      if (descent.weights[j] != 0.0) active.push_back(j);
    }
    while (model.iterations < options.max_sweeps) {
      ++model.iterations;
      if (descent.sweep(active) <= options.tolerance) break;
    }
  }
  model.weights = std::move(descent.weights);
  model.bias = descent.bias;
  return model;
}

std::vector<double> mean_differences(const ProbeRows& rows, std::span<const std::uint8_t> labels) {
  check(rows, labels);
  const auto positives = static_cast<double>(
      std::ranges::count_if(labels, [](std::uint8_t label) { return label != 0; }));
  const double negatives = static_cast<double>(labels.size()) - positives;
  std::vector<double> out(static_cast<std::size_t>(rows.columns()));
  for (std::int64_t i = 0; i < rows.rows(); ++i) {
    const bool positive = labels[static_cast<std::size_t>(i)] != 0;
    rows.add(i, positive ? 1.0 / positives : -1.0 / negatives, out);
  }
  return out;
}

std::vector<std::int64_t> top_mean_differences(const ProbeRows& rows,
                                               std::span<const std::uint8_t> labels,
                                               std::int64_t k) {
  const std::vector<double> differences = mean_differences(rows, labels);
  std::vector<std::int64_t> order(differences.size());
  std::iota(order.begin(), order.end(), 0);
  const auto kept = std::min<std::int64_t>(k, rows.columns());
  const auto size_of = [&](std::int64_t c) {
    return std::fabs(differences[static_cast<std::size_t>(c)]);
  };
  std::partial_sort(order.begin(), order.begin() + kept, order.end(),
                    [&](std::int64_t a, std::int64_t b) {
                      return size_of(a) != size_of(b) ? size_of(a) > size_of(b) : a < b;
                    });
  order.resize(static_cast<std::size_t>(kept));
  return order;
}

}  // namespace drrik
