#include "drrik/viz/feature_stats.h"

#include <algorithm>
#include <cmath>

#include "activations/nonfinite.h"
#include "drrik/base/checked.h"
#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/progress.h"
#include "drrik/base/threads.h"
#include "drrik/tensor/tensor.h"
#include "viz/growing_bins.h"

namespace drrik {
namespace {

constexpr std::int64_t kMinBins = 16;
constexpr std::int64_t kMaxBins = 512;
constexpr std::int64_t kBlockEntries = std::int64_t{1} << 23;  // 8 bytes each in SparseRows

// Stronger first; the earlier row of equal ones. As a heap order its front is the weakest.
bool stronger(const FeatureExample& a, const FeatureExample& b) {
  return a.value != b.value ? a.value > b.value : a.row < b.row;
}

using detail::add_saturating;
using detail::fitting_exponent;

}  // namespace

class FeatureStatsCollector {
 public:
  FeatureStatsCollector(std::int64_t d_sae, const FeatureStatsOptions& options) {
    const auto h = static_cast<std::size_t>(d_sae);
    stats_.top_k_ = options.top_k;
    stats_.bins_ = kMaxBins;
    while (stats_.bins_ > kMinBins && stats_.bins_ * 4 * d_sae > options.histogram_bytes) {
      stats_.bins_ /= 2;
    }
    const auto examples = checked_mul(d_sae, options.top_k);
    if (!examples || *examples > (std::int64_t{1} << 32)) {
      throw_usage("feature statistics: top_k ", options.top_k, " for ", d_sae,
                  " features needs too much memory");
    }
    stats_.active_.assign(h, 0);
    stats_.sum_.assign(h, 0.0);
    stats_.max_.assign(h, 0.0F);
    stats_.heaps_.resize(static_cast<std::size_t>(*examples));
    stats_.exponent_.assign(h, 0);
    stats_.fine_.assign(h * static_cast<std::size_t>(stats_.bins_), 0);
  }

  // `first` is the number of the block's first row.
  void add(const SparseRows& block, std::int64_t first) {
    const std::int64_t n = static_cast<std::int64_t>(block.row_start.size()) - 1;
    // Each thread owns a range of features and walks the rows in order: no partial sums to merge,
    // and the result is that of one thread.
    parallel_for(stats_.d_sae(), 64, [&](std::int64_t begin, std::int64_t end) {
      const bool all = begin == 0 && end == stats_.d_sae();
      for (std::int64_t r = 0; r < n; ++r) {
        const auto at = [&](std::int64_t i) {
          return block.row_start[static_cast<std::size_t>(i)];
        };
        const auto row_begin = block.latent.begin() + at(r);
        const auto row_end = block.latent.begin() + at(r + 1);
        auto it = all ? row_begin
                      : std::lower_bound(row_begin, row_end, static_cast<std::int32_t>(begin));
        for (; it != row_end && *it < end; ++it) {
          const auto i = static_cast<std::size_t>(it - block.latent.begin());
          add_one(*it, block.value[i], first + r);
        }
      }
    });
    stats_.rows_ += n;
  }

  FeatureStats take() { return std::move(stats_); }

 private:
  void add_one(std::int64_t feature, float value, std::int64_t row) {
    if (!std::isfinite(value)) {
      throw_numeric("feature ", feature, " on row ", row, ": activation is not finite");
    }
    if (!(value > 0.0F)) return;
    const auto f = static_cast<std::size_t>(feature);
    const std::int64_t seen = stats_.active_[f]++;
    stats_.sum_[f] += static_cast<double>(value);
    stats_.max_[f] = std::max(stats_.max_[f], value);
    add_example(f, seen, {value, row});
    add_to_histogram(f, seen, value);
  }

  void add_example(std::size_t f, std::int64_t seen, FeatureExample example) {
    if (stats_.top_k_ == 0) return;
    FeatureExample* const heap = stats_.heaps_.data() + f * static_cast<std::size_t>(stats_.top_k_);
    if (seen < stats_.top_k_) {
      heap[seen] = example;
      std::push_heap(heap, heap + seen + 1, stronger);
    } else if (stronger(example, heap[0])) {
      std::pop_heap(heap, heap + stats_.top_k_, stronger);
      heap[stats_.top_k_ - 1] = example;
      std::push_heap(heap, heap + stats_.top_k_, stronger);
    }
  }

  // Widths are powers of two and grow by joining pairs of bins, which gives the counts that the
  // final width would have given from the start: the result does not depend on the order of rows.
  void add_to_histogram(std::size_t f, std::int64_t seen, float value) {
    const auto bins = static_cast<std::size_t>(stats_.bins_);
    std::uint32_t* const fine = stats_.fine_.data() + f * bins;
    int e = stats_.exponent_[f];
    if (seen == 0) {
      e = fitting_exponent(value, stats_.bins_);
    } else if (static_cast<double>(value) >= std::ldexp(static_cast<double>(bins), e)) {
      const int wanted = fitting_exponent(value, stats_.bins_);
      for (; e < wanted; ++e) detail::join_pairs(fine, stats_.bins_);
    }
    stats_.exponent_[f] = static_cast<std::int16_t>(e);
    add_saturating(fine[static_cast<std::size_t>(std::ldexp(static_cast<double>(value), -e))], 1);
  }

  FeatureStats stats_;
};

void FeatureStats::check(std::int64_t feature) const {
  if (feature < 0 || feature >= d_sae()) {
    throw_usage("feature ", feature, " does not exist; wanted 0 to ", d_sae() - 1);
  }
}

std::int64_t FeatureStats::active_rows(std::int64_t feature) const {
  check(feature);
  return active_[static_cast<std::size_t>(feature)];
}

double FeatureStats::density(std::int64_t feature) const {
  const auto active = static_cast<double>(active_rows(feature));
  return rows_ == 0 ? 0.0 : active / static_cast<double>(rows_);
}

float FeatureStats::max(std::int64_t feature) const {
  check(feature);
  return max_[static_cast<std::size_t>(feature)];
}

double FeatureStats::mean_active(std::int64_t feature) const {
  const std::int64_t active = active_rows(feature);
  return active == 0 ? 0.0 : sum_[static_cast<std::size_t>(feature)] / static_cast<double>(active);
}

double FeatureStats::mean(std::int64_t feature) const {
  check(feature);
  return rows_ == 0 ? 0.0 : sum_[static_cast<std::size_t>(feature)] / static_cast<double>(rows_);
}

std::vector<FeatureExample> FeatureStats::examples(std::int64_t feature) const {
  const std::int64_t count = std::min(active_rows(feature), top_k_);
  const FeatureExample* const heap = heaps_.data() + feature * top_k_;
  std::vector<FeatureExample> out(heap, heap + count);
  std::sort(out.begin(), out.end(), stronger);
  return out;
}

ActivationHistogram FeatureStats::histogram(std::int64_t feature, std::int64_t bins) const {
  if (bins < 1) throw_usage("histogram: got ", bins, " bins, wanted at least 1");
  ActivationHistogram out;
  if (active_rows(feature) == 0) return out;
  const auto f = static_cast<std::size_t>(feature);
  const std::uint32_t* const fine = fine_.data() + f * static_cast<std::size_t>(bins_);
  const double fine_width = std::ldexp(1.0, exponent_[f]);
  const auto used = static_cast<std::int64_t>(static_cast<double>(max_[f]) / fine_width) + 1;
  const std::int64_t group = (used + bins - 1) / bins;
  out.width = fine_width * static_cast<double>(group);
  out.counts.assign(static_cast<std::size_t>((used + group - 1) / group), 0);
  for (std::int64_t i = 0; i < used; ++i) {
    out.counts[static_cast<std::size_t>(i / group)] += fine[i];
  }
  return out;
}

std::vector<double> FeatureStats::densities() const {
  std::vector<double> out(active_.size());
  for (std::size_t f = 0; f < out.size(); ++f) out[f] = density(static_cast<std::int64_t>(f));
  return out;
}

std::int64_t FeatureStats::dead_features() const {
  return std::count(active_.begin(), active_.end(), 0);
}

double FeatureStats::l0() const {
  double total = 0.0;
  for (const std::int64_t active : active_) total += static_cast<double>(active);
  return rows_ == 0 ? 0.0 : total / static_cast<double>(rows_);
}

std::vector<std::int64_t> FeatureStats::top_features(std::int64_t n, Key key) const {
  const auto score = [&](std::int64_t f) {
    switch (key) {
      case Key::kDensity:
        return density(f);
      case Key::kMaxActivation:
        return static_cast<double>(max(f));
      case Key::kMeanActivation:
        break;
    }
    return mean_active(f);
  };
  std::vector<std::int64_t> order;
  for (std::int64_t f = 0; f < d_sae(); ++f) {
    if (active_rows(f) > 0) order.push_back(f);
  }
  const std::int64_t count =
      std::min(std::max<std::int64_t>(n, 0), static_cast<std::int64_t>(order.size()));
  std::partial_sort(order.begin(), order.begin() + count, order.end(),
                    [&](std::int64_t a, std::int64_t b) {
                      const double x = score(a);
                      const double y = score(b);
                      return x != y ? x > y : a < b;
                    });
  order.resize(static_cast<std::size_t>(count));
  return order;
}

FeatureStats::Key parse_feature_key(const std::string& name) {
  if (name == "density") return FeatureStats::Key::kDensity;
  if (name == "max_activation") return FeatureStats::Key::kMaxActivation;
  if (name == "mean_activation") return FeatureStats::Key::kMeanActivation;
  const std::vector<std::string> names = {"density", "max_activation", "mean_activation"};
  throw_usage("metric '", name, "' is unknown; wanted one of ", join(names),
              did_you_mean(name, names));
}

std::string feature_key_name(FeatureStats::Key key) {
  switch (key) {
    case FeatureStats::Key::kDensity:
      return "density";
    case FeatureStats::Key::kMaxActivation:
      return "max_activation";
    case FeatureStats::Key::kMeanActivation:
      break;
  }
  return "mean_activation";
}

FeatureStats collect_feature_stats(const Sae& sae, const RowSource& rows,
                                   const FeatureStatsOptions& options) {
  if (options.top_k < 0 || options.block_rows < 0 || options.histogram_bytes < 0) {
    throw_usage("feature statistics: options must not be negative");
  }
  if (rows.rows() > 0 && rows.dim() != sae.d_in()) {
    throw_data("activations are ", rows.dim(), " wide, the autoencoder takes ", sae.d_in(),
               "; from another layer or model?");
  }
  FeatureStatsCollector collector(sae.d_sae(), options);
  const std::int64_t n = rows.rows();
  const std::int64_t block =
      options.block_rows > 0
          ? options.block_rows
          : std::clamp<std::int64_t>(kBlockEntries / std::max<std::int64_t>(sae.d_sae(), 1), 16,
                                     4096);
  const std::int64_t width = std::min(block, n);
  Tensor buffer(DType::kF32, {width, rows.dim()});
  SparseRows features;
  Progress progress("Reading features", n, "rows");
  for (std::int64_t begin = 0; begin < n; begin += block) {
    check_interrupt("reading features");
    const std::int64_t count = std::min(block, n - begin);
    const MatView<float> x = buffer.mutable_mat<float>().rows_range(0, count);
    rows.read(begin, x);
    detail::refuse_nonfinite(x, begin);
    sae.encode(x, features);
    collector.add(features, begin);
    progress.advance(count);
  }
  return collector.take();
}

}  // namespace drrik
