#include "drrik/viz/feature_examples.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "drrik/base/checked.h"
#include "drrik/base/error.h"
#include "drrik/base/threads.h"
#include "viz/growing_bins.h"
#include "viz/pair_sample.h"

namespace drrik {
namespace {

constexpr std::int64_t kFine = 256;   // bins of the histogram
constexpr std::int64_t kCoarse = 16;  // bins that keep examples
constexpr std::int64_t kPerCoarse = kFine / kCoarse;
constexpr std::int64_t kGroup = 64;  // features that share a store of windows
constexpr std::int64_t kChunk = 64;  // windows allocated together
constexpr std::uint64_t kNoLimit = ~std::uint64_t{0};

constexpr std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// A token that is kept as an example; its window lies in the slot.
struct Kept {
  std::uint64_t key = 0;
  std::int64_t row = 0;  // number of the token in the whole pass
  std::int64_t sequence = 0;
  float value = 0.0F;
  std::int32_t slot = 0;
  std::int32_t position = 0;
  std::int32_t peak = 0;
  std::int32_t length = 0;
};

// Stronger first; the earlier one of equal ones. As a heap order its front is the weakest.
bool stronger(const Kept& a, const Kept& b) {
  return a.value != b.value ? a.value > b.value : a.row < b.row;
}
bool lower_key(const Kept& a, const Kept& b) {
  return a.key != b.key ? a.key < b.key : a.row < b.row;
}

struct Latent {
  std::int64_t active = 0;
  double sum = 0.0;
  float max = 0.0F;
  std::int16_t exponent = 0;  // fine bins are 2^exponent wide
  std::array<std::uint8_t, at(kCoarse)> filled = {};
  std::array<std::uint64_t, at(kCoarse)> limit = {};  // keys below it are kept
  std::array<std::uint32_t, at(kFine)> fine = {};
  std::vector<Kept> top;   // a heap
  std::vector<Kept> bins;  // [kCoarse, band_examples], once it fires
};

/// Windows of equal size in chunks that never move.
class Windows {
 public:
  void set_width(std::int64_t width) { width_ = width; }
  std::int32_t take() {
    if (!free_.empty()) {
      const std::int32_t slot = free_.back();
      free_.pop_back();
      return slot;
    }
    if (used_ == static_cast<std::int64_t>(tokens_.size()) * kChunk) {
      tokens_.emplace_back(at(kChunk * width_));
      values_.emplace_back(at(kChunk * width_));
    }
    return static_cast<std::int32_t>(used_++);
  }
  void give_back(std::int32_t slot) { free_.push_back(slot); }
  std::int32_t* tokens(std::int32_t slot) {
    return tokens_[at(slot / kChunk)].data() + slot % kChunk * width_;
  }
  float* values(std::int32_t slot) {
    return values_[at(slot / kChunk)].data() + slot % kChunk * width_;
  }
  const std::int32_t* tokens(std::int32_t slot) const {
    return tokens_[at(slot / kChunk)].data() + slot % kChunk * width_;
  }
  const float* values(std::int32_t slot) const {
    return values_[at(slot / kChunk)].data() + slot % kChunk * width_;
  }
  std::int64_t memory() const {
    return static_cast<std::int64_t>(tokens_.size()) * kChunk * width_ * 8 +
           static_cast<std::int64_t>(free_.capacity()) * 4;
  }

 private:
  std::int64_t width_ = 0;
  std::int64_t used_ = 0;
  std::vector<std::vector<std::int32_t>> tokens_;
  std::vector<std::vector<float>> values_;
  std::vector<std::int32_t> free_;
};

struct Group {
  std::vector<Latent> latents;
  Windows windows;
};

/// The batch under way, its entries in the order of features.
struct Batch {
  std::span<const std::int32_t> ids;
  std::span<const std::int64_t> boundaries;
  std::span<const std::int64_t> tokens;  // of each row, its token in ids
  std::vector<std::int32_t> sequence;    // of each row, its sequence in the batch
  std::vector<std::int64_t> start;       // [d_sae + 1]
  std::vector<std::int64_t> next;
  std::vector<std::int32_t> row;  // [entries]
  std::vector<float> value;       // [entries]
};

}  // namespace

void FeatureExamplesOptions::validate() const {
  const auto within = [](const char* name, std::int64_t value, std::int64_t low,
                         std::int64_t high) {
    if (value < low || value > high) {
      throw_usage("examples: ", name, " is ", value, ", wanted ", low, " to ", high);
    }
  };
  within("before", before, 0, 4096);
  within("after", after, 0, 4096);
  within("top", top, 0, 1000);
  within("bands", bands, 1, 8);
  within("band_examples", band_examples, 0, 64);
  within("pair_entries", pair_entries, 0, std::int64_t{1} << 40);
  within("pair_count", pair_count, 0, std::int64_t{1} << 50);
}

struct FeatureExamples::Impl {
  Impl(std::int64_t h, const FeatureExamplesOptions& wanted)
      : options(wanted), d_sae(h), pairs(h, wanted), groups(at((h + kGroup - 1) / kGroup)) {
    for (std::size_t g = 0; g < groups.size(); ++g) {
      groups[g].latents.resize(at(std::min(kGroup, d_sae - static_cast<std::int64_t>(g) * kGroup)));
      groups[g].windows.set_width(options.before + 1 + options.after);
    }
    batch.start.resize(at(d_sae + 1));
  }

  const Latent& latent(std::int64_t f) const {
    if (f < 0 || f >= d_sae) {
      throw_usage("feature ", f, " does not exist; wanted 0 to ", d_sae - 1);
    }
    return groups[at(f / kGroup)].latents[at(f % kGroup)];
  }

  void check(const SparseRows& features) const;
  void sort_by_feature(const SparseRows& features);
  void take(std::int64_t f, Latent& latent, Windows& windows);
  void count(Latent& latent, Windows& windows, float value) const;
  Kept window(std::int64_t f_begin, std::int64_t f_end, std::int64_t i, std::int32_t slot,
              Windows& windows) const;
  void offer_top(std::int64_t begin, std::int64_t end, std::int64_t i, Latent& latent,
                 Windows& windows) const;
  void offer_bin(std::int64_t begin, std::int64_t end, std::int64_t i, std::uint64_t key,
                 Latent& latent, Windows& windows) const;
  void join_bins(Latent& latent, Windows& windows) const;
  FeatureWindow expand(const Kept& kept, const Windows& windows) const;

  FeatureExamplesOptions options;
  std::int64_t d_sae;
  std::int64_t rows = 0;
  std::int64_t sequences = 0;
  detail::PairSample pairs;
  std::vector<Group> groups;
  Batch batch;
};

void FeatureExamples::Impl::check(const SparseRows& features) const {
  const std::size_t n = batch.tokens.size();
  const auto& bounds = batch.boundaries;
  const bool whole = batch.ids.empty()
                         ? bounds.size() <= 1
                         : bounds.size() >= 2 && bounds.front() == 0 &&
                               bounds.back() == static_cast<std::int64_t>(batch.ids.size()) &&
                               std::ranges::is_sorted(bounds);
  if (!whole || features.row_start.size() != n + 1 ||
      features.value.size() != features.latent.size() ||
      features.row_start.back() != static_cast<std::int64_t>(features.latent.size())) {
    throw_data("examples: ", batch.ids.size(), " tokens in ", bounds.size(), " boundaries and ", n,
               " rows of features do not belong together");
  }
  for (std::size_t r = 0; r < n; ++r) {
    const std::int64_t token = batch.tokens[r];
    if (token < 0 || token >= static_cast<std::int64_t>(batch.ids.size()) ||
        (r > 0 && token <= batch.tokens[r - 1])) {
      throw_data("examples: row ", r, " is of token ", token, " of ", batch.ids.size());
    }
    const std::int64_t begin = features.row_start[r];
    const std::int64_t end = features.row_start[r + 1];
    if (begin == end) continue;
    if (begin > end || features.latent[at(begin)] < 0 || features.latent[at(end - 1)] >= d_sae) {
      throw_data("examples: row ", r, " has features outside 0 to ", d_sae - 1);
    }
  }
}

// Each thread owns a range of features and walks the rows in order.
void FeatureExamples::Impl::sort_by_feature(const SparseRows& features) {
  const auto n = static_cast<std::int64_t>(batch.tokens.size());
  const auto walk = [&](auto&& f) {
    parallel_for(d_sae, 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = 0; r < n; ++r) {
        const auto first = features.latent.begin() + features.row_start[at(r)];
        const auto last = features.latent.begin() + features.row_start[at(r + 1)];
        auto it =
            begin == 0 ? first : std::lower_bound(first, last, static_cast<std::int32_t>(begin));
        for (; it != last && *it < end; ++it) f(r, *it, at(it - features.latent.begin()));
      }
    });
  };
  std::ranges::fill(batch.start, 0);
  walk([&](std::int64_t, std::int32_t f, std::size_t) { ++batch.start[at(f) + 1]; });
  for (std::int64_t f = 0; f < d_sae; ++f) batch.start[at(f + 1)] += batch.start[at(f)];
  batch.next.assign(batch.start.begin(), batch.start.end() - 1);
  batch.row.resize(features.latent.size());
  batch.value.resize(features.latent.size());
  walk([&](std::int64_t r, std::int32_t f, std::size_t i) {
    const std::size_t to = at(batch.next[at(f)]++);
    batch.row[to] = static_cast<std::int32_t>(r);
    batch.value[to] = features.value[i];
  });
}

void FeatureExamples::Impl::take(std::int64_t f, Latent& latent, Windows& windows) {
  const std::int64_t begin = batch.start[at(f)];
  const std::int64_t end = batch.start[at(f + 1)];
  const std::uint64_t stream =
      detail::mix(options.seed ^ detail::mix(static_cast<std::uint64_t>(f)));
  std::int64_t best = -1;  // of the sequence under way
  for (std::int64_t i = begin; i < end; ++i) {
    const float value = batch.value[at(i)];
    const std::int32_t r = batch.row[at(i)];
    if (!std::isfinite(value)) {
      const std::int32_t s = batch.sequence[at(r)];
      throw_numeric("feature ", f, " in sequence ", sequences + s, ", position ",
                    batch.tokens[at(r)] - batch.boundaries[at(s)], ": activation is not finite");
    }
    if (!(value > 0.0F)) continue;
    if (latent.active == 0) latent.limit.fill(kNoLimit);
    count(latent, windows, value);
    offer_bin(begin, end, i, detail::mix(stream + static_cast<std::uint64_t>(rows + r)), latent,
              windows);
    if (best >= 0 && batch.sequence[at(batch.row[at(best)])] != batch.sequence[at(r)]) {
      offer_top(begin, end, best, latent, windows);
      best = -1;
    }
    if (best < 0 || value > batch.value[at(best)]) best = i;
  }
  if (best >= 0) offer_top(begin, end, best, latent, windows);
}

void FeatureExamples::Impl::count(Latent& latent, Windows& windows, float value) const {
  if (latent.active == 0) {
    latent.exponent = static_cast<std::int16_t>(detail::fitting_exponent(value, kFine));
  } else if (static_cast<double>(value) >=
             std::ldexp(static_cast<double>(kFine), latent.exponent)) {
    const int wanted = detail::fitting_exponent(value, kFine);
    for (; latent.exponent < wanted; ++latent.exponent) {
      detail::join_pairs(latent.fine.data(), kFine);
      join_bins(latent, windows);
    }
  }
  ++latent.active;
  latent.sum += static_cast<double>(value);
  latent.max = std::max(latent.max, value);
  detail::add_saturating(latent.fine[at(static_cast<std::int64_t>(
                             std::ldexp(static_cast<double>(value), -latent.exponent)))],
                         1);
}

// Bins 2b and 2b + 1 become bin b, which keeps the lowest keys of both.
void FeatureExamples::Impl::join_bins(Latent& latent, Windows& windows) const {
  const std::int64_t room = options.band_examples;
  std::vector<Kept> both;
  for (std::int64_t b = 0; b < kCoarse && !latent.bins.empty(); ++b) {
    both.clear();
    for (std::int64_t from = 2 * b; from < std::min(2 * b + 2, kCoarse); ++from) {
      const auto first = latent.bins.begin() + from * room;
      both.insert(both.end(), first, first + latent.filled[at(from)]);
    }
    std::ranges::sort(both, lower_key);
    for (; static_cast<std::int64_t>(both.size()) > room; both.pop_back()) {
      windows.give_back(both.back().slot);
    }
    std::ranges::copy(both, latent.bins.begin() + b * room);
    latent.filled[at(b)] = static_cast<std::uint8_t>(both.size());
    latent.limit[at(b)] =
        static_cast<std::int64_t>(both.size()) == room ? both.back().key : kNoLimit;
  }
}

/// Entry i of the feature's entries [begin, end) with what stands around it.
Kept FeatureExamples::Impl::window(std::int64_t begin, std::int64_t end, std::int64_t i,
                                   std::int32_t slot, Windows& windows) const {
  const std::int64_t r = batch.row[at(i)];
  const std::int32_t s = batch.sequence[at(r)];
  const std::int64_t token = batch.tokens[at(r)];
  const std::int64_t first = std::max(batch.boundaries[at(s)], token - options.before);
  const std::int64_t last = std::min(batch.boundaries[at(s) + 1], token + options.after + 1);
  std::copy_n(batch.ids.begin() + first, last - first, windows.tokens(slot));
  float* const values = windows.values(slot);
  std::fill_n(values, last - first, 0.0F);
  const auto token_of = [&](std::int64_t j) { return batch.tokens[at(batch.row[at(j)])]; };
  for (std::int64_t j = i; j >= begin && token_of(j) >= first; --j) {
    values[token_of(j) - first] = batch.value[at(j)];
  }
  for (std::int64_t j = i + 1; j < end && token_of(j) < last; ++j) {
    values[token_of(j) - first] = batch.value[at(j)];
  }
  Kept kept;
  kept.row = rows + r;
  kept.sequence = sequences + s;
  kept.value = batch.value[at(i)];
  kept.slot = slot;
  kept.position = static_cast<std::int32_t>(token - batch.boundaries[at(s)]);
  kept.peak = static_cast<std::int32_t>(token - first);
  kept.length = static_cast<std::int32_t>(last - first);
  return kept;
}

void FeatureExamples::Impl::offer_top(std::int64_t begin, std::int64_t end, std::int64_t i,
                                      Latent& latent, Windows& windows) const {
  if (options.top == 0) return;
  std::vector<Kept>& heap = latent.top;
  if (static_cast<std::int64_t>(heap.size()) < options.top) {
    if (heap.empty()) heap.reserve(at(options.top));
    heap.push_back(window(begin, end, i, windows.take(), windows));
  } else {
    Kept candidate;
    candidate.value = batch.value[at(i)];
    candidate.row = rows + batch.row[at(i)];
    if (!stronger(candidate, heap.front())) return;
    std::ranges::pop_heap(heap, stronger);
    heap.back() = window(begin, end, i, heap.back().slot, windows);
  }
  std::ranges::push_heap(heap, stronger);
}

void FeatureExamples::Impl::offer_bin(std::int64_t begin, std::int64_t end, std::int64_t i,
                                      std::uint64_t key, Latent& latent, Windows& windows) const {
  const std::int64_t room = options.band_examples;
  const std::int64_t bin = static_cast<std::int64_t>(std::ldexp(
                               static_cast<double>(batch.value[at(i)]), -latent.exponent)) /
                           kPerCoarse;
  // Two tokens share a key once in 2^64; the earlier one then stays.
  if (room == 0 || key >= latent.limit[at(bin)]) return;
  if (latent.bins.empty()) latent.bins.resize(at(kCoarse * room));
  const auto first = latent.bins.begin() + bin * room;
  std::uint8_t& filled = latent.filled[at(bin)];
  auto place = first + filled;
  if (filled < room) {
    *place = window(begin, end, i, windows.take(), windows);
    ++filled;
  } else {
    place = std::max_element(first, first + room, lower_key);
    *place = window(begin, end, i, place->slot, windows);
  }
  place->key = key;
  if (filled == room) {
    latent.limit[at(bin)] = std::max_element(first, first + room, lower_key)->key;
  }
}

FeatureWindow FeatureExamples::Impl::expand(const Kept& kept, const Windows& windows) const {
  FeatureWindow out;
  out.value = kept.value;
  out.sequence = kept.sequence;
  out.position = kept.position;
  out.peak = kept.peak;
  out.tokens.assign(windows.tokens(kept.slot), windows.tokens(kept.slot) + kept.length);
  out.values.assign(windows.values(kept.slot), windows.values(kept.slot) + kept.length);
  return out;
}

FeatureExamples::FeatureExamples(std::int64_t d_sae, const FeatureExamplesOptions& options) {
  options.validate();
  if (d_sae < 0 || memory_bound(d_sae, options) > (std::int64_t{1} << 46)) {
    throw_usage("examples: ", d_sae, " features with windows of ",
                options.before + 1 + options.after, " tokens need too much memory");
  }
  impl_ = std::make_unique<Impl>(d_sae, options);
}
FeatureExamples::~FeatureExamples() = default;
FeatureExamples::FeatureExamples(FeatureExamples&&) noexcept = default;
FeatureExamples& FeatureExamples::operator=(FeatureExamples&&) noexcept = default;

void FeatureExamples::add(std::span<const std::int32_t> ids,
                          std::span<const std::int64_t> boundaries,
                          std::span<const std::int64_t> rows, const SparseRows& features) {
  Impl& self = *impl_;
  self.batch.ids = ids;
  self.batch.boundaries = boundaries;
  self.batch.tokens = rows;
  self.check(features);
  self.batch.sequence.resize(rows.size());
  std::size_t sequence = 0;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    while (boundaries[sequence + 1] <= rows[r]) ++sequence;
    self.batch.sequence[r] = static_cast<std::int32_t>(sequence);
  }
  self.sort_by_feature(features);
  parallel_for(
      static_cast<std::int64_t>(self.groups.size()), 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t g = begin; g < end; ++g) {
          Group& group = self.groups[at(g)];
          for (std::size_t i = 0; i < group.latents.size(); ++i) {
            self.take(g * kGroup + static_cast<std::int64_t>(i), group.latents[i], group.windows);
          }
        }
      });
  std::vector<std::int32_t> positive;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    positive.clear();
    for (std::int64_t i = features.row_start[r]; i < features.row_start[r + 1]; ++i) {
      if (features.value[at(i)] > 0.0F) positive.push_back(features.latent[at(i)]);
    }
    self.pairs.add(self.rows + static_cast<std::int64_t>(r), positive);
  }
  self.rows += static_cast<std::int64_t>(rows.size());
  self.sequences += std::max<std::int64_t>(static_cast<std::int64_t>(boundaries.size()) - 1, 0);
}

const FeatureExamplesOptions& FeatureExamples::options() const { return impl_->options; }
std::int64_t FeatureExamples::d_sae() const { return impl_->d_sae; }
std::int64_t FeatureExamples::rows() const { return impl_->rows; }
std::int64_t FeatureExamples::sequences() const { return impl_->sequences; }

std::int64_t FeatureExamples::memory() const {
  std::int64_t bytes = impl_->pairs.memory();
  for (const Group& group : impl_->groups) {
    bytes += group.windows.memory();
    for (const Latent& latent : group.latents) {
      bytes += static_cast<std::int64_t>(
          sizeof(Latent) + (latent.top.capacity() + latent.bins.capacity()) * sizeof(Kept));
    }
  }
  return bytes;
}

std::int64_t FeatureExamples::memory_bound(std::int64_t d_sae,
                                           const FeatureExamplesOptions& options) {
  const std::int64_t examples = options.top + kCoarse * options.band_examples;
  const std::int64_t window = (options.before + 1 + options.after) * 8;
  // A free list holds a number a window at most, and doubles.
  const std::int64_t per_latent = static_cast<std::int64_t>(sizeof(Latent)) +
                                  examples * (static_cast<std::int64_t>(sizeof(Kept)) + window + 8);
  const std::int64_t groups = (d_sae + kGroup - 1) / kGroup;
  return d_sae * per_latent + groups * kChunk * window + detail::PairSample::memory_bound(options);
}

std::int64_t FeatureExamples::active(std::int64_t feature) const {
  return impl_->latent(feature).active;
}

double FeatureExamples::density(std::int64_t feature) const {
  const auto count = static_cast<double>(active(feature));
  return impl_->rows == 0 ? 0.0 : count / static_cast<double>(impl_->rows);
}

float FeatureExamples::max(std::int64_t feature) const { return impl_->latent(feature).max; }

double FeatureExamples::mean(std::int64_t feature) const {
  const double sum = impl_->latent(feature).sum;
  return impl_->rows == 0 ? 0.0 : sum / static_cast<double>(impl_->rows);
}

double FeatureExamples::mean_active(std::int64_t feature) const {
  const Latent& latent = impl_->latent(feature);
  return latent.active == 0 ? 0.0 : latent.sum / static_cast<double>(latent.active);
}

ActivationHistogram FeatureExamples::histogram(std::int64_t feature, std::int64_t bins) const {
  if (bins < 1) throw_usage("histogram: got ", bins, " bins, wanted at least 1");
  const Latent& latent = impl_->latent(feature);
  ActivationHistogram out;
  if (latent.active == 0) return out;
  const double width = std::ldexp(1.0, latent.exponent);
  const auto used = static_cast<std::int64_t>(static_cast<double>(latent.max) / width) + 1;
  const std::int64_t group = (used + bins - 1) / bins;
  out.width = width * static_cast<double>(group);
  out.counts.assign(at((used + group - 1) / group), 0);
  for (std::int64_t i = 0; i < used; ++i) out.counts[at(i / group)] += latent.fine[at(i)];
  return out;
}

std::vector<FeatureWindow> FeatureExamples::top(std::int64_t feature) const {
  std::vector<Kept> kept = impl_->latent(feature).top;
  std::ranges::sort(kept, stronger);
  const Windows& windows = impl_->groups[at(feature / kGroup)].windows;
  std::vector<FeatureWindow> out;
  for (const Kept& one : kept) out.push_back(impl_->expand(one, windows));
  return out;
}

std::vector<FeatureBand> FeatureExamples::bands(std::int64_t feature) const {
  const Latent& latent = impl_->latent(feature);
  std::vector<FeatureBand> out;
  if (latent.active == 0) return out;
  const Windows& windows = impl_->groups[at(feature / kGroup)].windows;
  const std::int64_t room = impl_->options.band_examples;
  const double width = std::ldexp(1.0, latent.exponent) * static_cast<double>(kPerCoarse);
  const auto used = static_cast<std::int64_t>(static_cast<double>(latent.max) / width) + 1;
  const std::int64_t bands = std::min(impl_->options.bands, used);
  std::int64_t end = used;
  for (std::int64_t b = 0; b < bands; ++b) {
    const std::int64_t begin = end - used / bands - (b < used % bands ? 1 : 0);
    FeatureBand band;
    band.low = static_cast<double>(begin) * width;
    band.high = b == 0 ? static_cast<double>(latent.max) : static_cast<double>(end) * width;
    for (std::int64_t i = begin * kPerCoarse; i < end * kPerCoarse; ++i) {
      band.count += latent.fine[at(i)];
    }
    std::vector<Kept> kept;
    for (std::int64_t bin = begin; bin < end && room > 0; ++bin) {
      const auto first = latent.bins.begin() + bin * room;
      kept.insert(kept.end(), first, first + latent.filled[at(bin)]);
    }
    std::ranges::sort(kept, lower_key);
    if (static_cast<std::int64_t>(kept.size()) > room) kept.resize(at(room));
    std::ranges::sort(kept, stronger);
    for (const Kept& one : kept) band.examples.push_back(impl_->expand(one, windows));
    if (band.count > 0) out.push_back(std::move(band));
    end = begin;
  }
  return out;
}

std::int64_t FeatureExamples::dead() const {
  std::int64_t count = 0;
  for (std::int64_t f = 0; f < d_sae(); ++f) count += active(f) == 0 ? 1 : 0;
  return count;
}

double FeatureExamples::l0() const {
  double total = 0.0;
  for (std::int64_t f = 0; f < d_sae(); ++f) total += static_cast<double>(active(f));
  return impl_->rows == 0 ? 0.0 : total / static_cast<double>(impl_->rows);
}

std::int64_t FeatureExamples::pair_rows() const { return impl_->pairs.rows(); }

std::vector<std::vector<Coactivation>> FeatureExamples::coactive(std::int64_t k) const {
  return impl_->pairs.coactive(k);
}

}  // namespace drrik
