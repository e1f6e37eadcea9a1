#include "drrik/ops/sae_select.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "drrik/base/threads.h"
#include "ops/grain.h"
#include "ops/sae_blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/sae_select.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "ops/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {
namespace {

// Appends the lanes of `keep`, numbered from `first`; stores whole vectors.
template <typename M>
HWY_INLINE std::int64_t append(VF v, M keep, std::int64_t first, std::int32_t* index,
                               float* value) {
  const DF d;
  const hn::RebindToSigned<DF> di;
  hn::StoreU(hn::Compress(v, keep), d, value);
  const auto numbers = hn::Iota(di, static_cast<std::int32_t>(first));
  hn::StoreU(hn::Compress(numbers, hn::RebindMask(di, keep)), di, index);
  return static_cast<std::int64_t>(hn::CountTrue(d, keep));
}

// One latent over rows: entries with (pre + bias) · scale > floors[row].
std::int64_t LatentAboveFloors(const float* HWY_RESTRICT pre, std::int64_t n, float bias,
                               float scale, const float* HWY_RESTRICT floors,
                               std::int32_t* HWY_RESTRICT row, float* HWY_RESTRICT value) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  const VF b = hn::Set(d, bias);
  const VF s = hn::Set(d, scale);
  std::int64_t out = 0;
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const VF v = hn::Add(load(d, pre + i), b);
    const auto keep = hn::Gt(hn::Mul(v, s), load(d, floors + i));
    if (hn::AllFalse(d, keep)) continue;
    out += append(v, keep, i, row + out, value + out);
  }
  for (; i < n; ++i) {
    const float v = pre[i] + bias;
    if (v * scale > floors[i]) {
      value[out] = v;
      row[out++] = static_cast<std::int32_t>(i);
    }
  }
  return out;
}

// One latent over rows: entries with pre + bias > threshold.
std::int64_t LatentAboveThreshold(const float* HWY_RESTRICT pre, std::int64_t n, float bias,
                                  float threshold, std::int32_t* HWY_RESTRICT row,
                                  float* HWY_RESTRICT value) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  const VF b = hn::Set(d, bias);
  const VF t = hn::Set(d, threshold);
  std::int64_t out = 0;
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const VF v = hn::Add(load(d, pre + i), b);
    const auto keep = hn::Gt(v, t);
    if (hn::AllFalse(d, keep)) continue;
    out += append(v, keep, i, row + out, value + out);
  }
  for (; i < n; ++i) {
    const float v = pre[i] + bias;
    if (v > threshold) {
      value[out] = v;
      row[out++] = static_cast<std::int32_t>(i);
    }
  }
  return out;
}

// One row over latents [first, last): entries with pre + bias > threshold[latent].
std::int64_t RowAboveThresholds(const float* HWY_RESTRICT pre, const float* HWY_RESTRICT bias,
                                const float* HWY_RESTRICT threshold, std::int64_t first,
                                std::int64_t last, std::int32_t* HWY_RESTRICT latent,
                                float* HWY_RESTRICT value) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  std::int64_t out = 0;
  std::int64_t i = first;
  for (; i + lanes <= last; i += lanes) {
    const VF v = hn::Add(load(d, pre + i), load(d, bias + i));
    const auto keep = hn::Gt(v, load(d, threshold + i));
    if (hn::AllFalse(d, keep)) continue;
    out += append(v, keep, i, latent + out, value + out);
  }
  for (; i < last; ++i) {
    const float v = pre[i] + bias[i];
    if (v > threshold[i]) {
      value[out] = v;
      latent[out++] = static_cast<std::int32_t>(i);
    }
  }
  return out;
}

// The same with one floor for (pre + bias) · scale[latent]; scale may be null.
std::int64_t RowAboveFloor(const float* HWY_RESTRICT pre, const float* HWY_RESTRICT bias,
                           const float* HWY_RESTRICT scale, float floor, std::int64_t first,
                           std::int64_t last, std::int32_t* HWY_RESTRICT latent,
                           float* HWY_RESTRICT value) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  const VF t = hn::Set(d, floor);
  std::int64_t out = 0;
  std::int64_t i = first;
  for (; i + lanes <= last; i += lanes) {
    const VF v = hn::Add(load(d, pre + i), load(d, bias + i));
    const VF scaled = scale != nullptr ? hn::Mul(v, load(d, scale + i)) : v;
    const auto keep = hn::Gt(scaled, t);
    if (hn::AllFalse(d, keep)) continue;
    out += append(v, keep, i, latent + out, value + out);
  }
  for (; i < last; ++i) {
    const float v = pre[i] + bias[i];
    if ((scale != nullptr ? v * scale[i] : v) > floor) {
      value[out] = v;
      latent[out++] = static_cast<std::int32_t>(i);
    }
  }
  return out;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
static_assert(HWY_MAX_BYTES / sizeof(float) <= 64, "room behind the last entry");
namespace drrik {
namespace {

HWY_EXPORT(LatentAboveFloors);
HWY_EXPORT(LatentAboveThreshold);
HWY_EXPORT(RowAboveThresholds);
HWY_EXPORT(RowAboveFloor);

using detail::at;
using detail::grow;
constexpr std::int64_t kBlock = detail::kLatentBlock;

// Leaves the k best of n entries of one row, of equal ones the earlier; returns the k-th value.
float keep_best_of_row(std::int64_t k, std::span<const float> scale, std::int32_t* latent,
                       float* value, std::int64_t& n) {
  static thread_local std::vector<float> order;
  order.resize(at(n));
  const auto scaled = [&](std::int64_t e) {
    return scale.empty() ? value[e] : value[e] * scale[at(latent[e])];
  };
  for (std::int64_t e = 0; e < n; ++e) order[at(e)] = scaled(e);
  std::nth_element(order.begin(), order.begin() + (k - 1), order.end(), std::greater<>());
  const float last = order[at(k - 1)];
  std::int64_t ties = k;
  for (std::int64_t e = 0; e < n; ++e) ties -= scaled(e) > last ? 1 : 0;
  std::int64_t out = 0;
  for (std::int64_t e = 0; e < n; ++e) {
    const float s = scaled(e);
    if (!(s > last || (s == last && ties-- > 0))) continue;
    latent[out] = latent[e];
    value[out++] = value[e];
  }
  n = out;
  return last;
}

}  // namespace

std::int64_t detail::latent_above(const float* pre, std::int64_t n, float bias, float threshold,
                                  std::int32_t* row, float* value) {
  return HWY_DYNAMIC_DISPATCH(LatentAboveThreshold)(pre, n, bias, threshold, row, value);
}

std::int64_t detail::row_above(const float* pre, const float* bias, const float* scale, float floor,
                               std::int64_t first, std::int64_t last, std::int32_t* latent,
                               float* value) {
  return HWY_DYNAMIC_DISPATCH(RowAboveFloor)(pre, bias, scale, floor, first, last, latent, value);
}

std::int64_t sae_select_row(std::span<const float> pre, std::span<const float> bias,
                            const SaeSelection& selection, std::int32_t* latent, float* value) {
  const auto h = static_cast<std::int64_t>(pre.size());
  if (bias.size() != pre.size() || (!selection.scale.empty() && selection.scale.size() != at(h))) {
    throw_data("sae: a row of ", h, " latents, ", bias.size(), " biases, ", selection.scale.size(),
               " scales");
  }
  if (selection.kind == SaeSelection::Kind::kThreshold) {
    if (selection.threshold.size() != at(h)) {
      throw_data("sae: a row of ", h, " latents, ", selection.threshold.size(), " thresholds");
    }
    return HWY_DYNAMIC_DISPATCH(RowAboveThresholds)(
        pre.data(), bias.data(), selection.threshold.data(), 0, h, latent, value);
  }
  if (selection.kind == SaeSelection::Kind::kBatchTopK) {
    throw_usage("sae: the k best of a batch cannot be told from one row");
  }
  const float* scale = selection.scale.empty() ? nullptr : selection.scale.data();
  const std::int64_t k = selection.k;
  float floor = selection.floor;
  std::int64_t n = 0;
  // The floor rises with every stretch, so that few entries are ever kept.
  const std::int64_t stretch = std::max<std::int64_t>(1024, 4 * k);
  for (std::int64_t first = 0; first < h; first += stretch) {
    const std::int64_t last = std::min(h, first + stretch);
    n += detail::row_above(pre.data(), bias.data(), scale, floor, first, last, latent + n,
                           value + n);
    if (n > k) floor = keep_best_of_row(k, selection.scale, latent, value, n);
  }
  return n;
}

void SaeSelector::begin(const SaeSelection& selection, std::int64_t rows, std::int64_t latents,
                        ActiveEntries& entries) {
  if (selection.kind == SaeSelection::Kind::kThreshold &&
      selection.threshold.size() != at(latents)) {
    throw_data("sae: ", latents, " latents, ", selection.threshold.size(), " thresholds");
  }
  if (!selection.scale.empty() && selection.scale.size() != at(latents)) {
    throw_data("sae: ", latents, " latents, ", selection.scale.size(), " scales");
  }
  selection_ = &selection;
  entries_ = &entries;
  entries.begin(rows, latents);
  done_ = 0;
  next_raise_ = std::max<std::int64_t>(2 * selection.k, 64);
  grouped_ = false;
  floors_.assign(at(rows), selection.floor);
}

void SaeSelector::add(MatView<const float> pre_t, std::span<const float> bias, std::int64_t first) {
  ActiveEntries& entries = *entries_;
  if (static_cast<std::int64_t>(bias.size()) != pre_t.rows() || pre_t.cols() != entries.rows ||
      first != done_ || first + pre_t.rows() > entries.latents) {
    throw_data("sae: latents [", first, ", ", first + pre_t.rows(), ") over ", pre_t.cols(),
               " rows with ", bias.size(), " biases after ", done_, " latents of entries for [",
               entries.latents, ", ", entries.rows, "]");
  }
  const std::int64_t n = pre_t.cols();
  const bool by_threshold = selection_->kind == SaeSelection::Kind::kThreshold;
  // The first latents alone already tell a floor for the others, so few are kept before it rises.
  for (std::int64_t from = 0; from < pre_t.rows();) {
    const std::int64_t until = by_threshold ? pre_t.rows() : next_raise_ - first;
    const std::int64_t count = std::clamp<std::int64_t>(until - from, 1, pre_t.rows() - from);
    const auto part = pre_t.rows_range(from, count);
    detail::collect_latents(
        part, first + from, entries, entries.pre,
        [&](std::int64_t i, std::int32_t* row, float* value) {
          const std::int64_t j = first + from + i;
          const float b = bias[at(from + i)];
          if (by_threshold) {
            return detail::latent_above(part.row_ptr(i), n, b, selection_->threshold[at(j)], row,
                                        value);
          }
          const float scale = selection_->scale.empty() ? 1.0F : selection_->scale[at(j)];
          return HWY_DYNAMIC_DISPATCH(LatentAboveFloors)(part.row_ptr(i), n, b, scale,
                                                         floors_.data(), row, value);
        });
    from += count;
    done_ += count;
    grouped_ = false;
    if (!by_threshold && done_ < entries.latents && done_ >= next_raise_) {
      raise_floors();
      next_raise_ = 4 * done_;
    }
  }
}

// Leaves entries with keep(scaled value, row, index), where the index counts entries by latent.
template <typename Keep>
void SaeSelector::compact(const Keep& keep) {
  ActiveEntries& entries = *entries_;
  const std::int64_t blocks = (done_ + kBlock - 1) / kBlock;
  grow(kept_.row, entries.count);
  grow(kept_.value, entries.count);
  kept_start_.assign(at(done_ + 1), 0);
  const auto scaled = [&](std::int64_t j, std::int64_t e) {
    const float h = entries.pre[at(e)];
    return selection_->scale.empty() ? h : h * selection_->scale[at(j)];
  };
  const std::int64_t grain =
      std::max<std::int64_t>(1, blocks * kElementGrain / std::max<std::int64_t>(entries.count, 1));
  // Each block keeps its entries at the place where they were, then they close up.
  parallel_for(blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t stop = std::min(done_, (b + 1) * kBlock);
      std::int64_t out = entries.start[at(b * kBlock)];
      for (std::int64_t j = b * kBlock; j < stop; ++j) {
        const std::int64_t before = out;
        for (std::int64_t e = entries.start[at(j)]; e < entries.start[at(j + 1)]; ++e) {
          if (!keep(scaled(j, e), entries.row[at(e)], e)) continue;
          kept_.row[at(out)] = entries.row[at(e)];
          kept_.value[at(out++)] = entries.pre[at(e)];
        }
        kept_start_[at(j + 1)] = out - before;
      }
    }
  });
  for (std::int64_t j = 0; j < done_; ++j) kept_start_[at(j + 1)] += kept_start_[at(j)];
  parallel_for(blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t from = entries.start[at(b * kBlock)];
      const std::int64_t to = kept_start_[at(b * kBlock)];
      const std::int64_t n = kept_start_[at(std::min(done_, (b + 1) * kBlock))] - to;
      std::copy_n(kept_.row.data() + from, n, entries.row.data() + to);
      std::copy_n(kept_.value.data() + from, n, entries.pre.data() + to);
    }
  });
  std::copy(kept_start_.begin(), kept_start_.end(), entries.start.begin());
  grouped_ = false;
  entries.count = kept_start_[at(done_)];
}

// Orders what there is by row, unless it is.
void SaeSelector::group() {
  if (grouped_) return;
  grouped_ = true;
  ActiveEntries& entries = *entries_;
  std::fill(entries.start.begin() + done_ + 1, entries.start.end(), entries.count);
  sae_group_by_row(entries);
}

// A bound from below of the k-th largest value, from the latents so far.
void SaeSelector::raise_floors() {
  ActiveEntries& entries = *entries_;
  const std::int64_t k = selection_->k;
  if (selection_->kind == SaeSelection::Kind::kTopK) {
    group();
    parallel_for(entries.rows, 64, [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> values;
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t first = entries.row_start[at(r)];
        const std::int64_t n = entries.row_start[at(r + 1)] - first;
        if (n < k) continue;
        values.resize(at(n));
        for (std::int64_t e = 0; e < n; ++e) {
          const float h = entries.pre[at(entries.position[at(first + e)])];
          values[at(e)] = selection_->scale.empty()
                              ? h
                              : h * selection_->scale[at(entries.latent[at(first + e)])];
        }
        std::nth_element(values.begin(), values.begin() + (k - 1), values.end(), std::greater<>());
        floors_[at(r)] = std::max(floors_[at(r)], values[at(k - 1)]);
      }
    });
  } else {
    // A sample tells about where the bound lies; counting tells whether it is one.
    const std::int64_t wanted = this->wanted();
    if (entries.count <= wanted) return;
    const std::int64_t size = std::min<std::int64_t>(entries.count, 8192);
    const double share = static_cast<double>(wanted) / static_cast<double>(entries.count);
    const auto rank = static_cast<std::int64_t>(1.05 * share * static_cast<double>(size)) + 32;
    if (rank >= size) return;
    scratch_.resize(at(size));
    std::int64_t j = 0;
    const auto scaled = [&](std::int64_t e) {
      while (entries.start[at(j + 1)] <= e) ++j;
      const float h = entries.pre[at(e)];
      return selection_->scale.empty() ? h : h * selection_->scale[at(j)];
    };
    for (std::int64_t i = 0; i < size; ++i) {
      scratch_[at(i)] = scaled(entries.count * i / size);
    }
    std::nth_element(scratch_.begin(), scratch_.begin() + rank, scratch_.end(), std::greater<>());
    const float floor = scratch_[at(rank)];
    j = 0;
    std::int64_t above = 0;
    for (std::int64_t e = 0; e < entries.count; ++e) above += scaled(e) > floor ? 1 : 0;
    if (above < wanted) return;
    std::ranges::fill(floors_, floor);
  }
  // Equal ones stay: of them the earlier latents are taken in the end.
  compact([&](float scaled, std::int32_t row, std::int64_t) { return scaled >= floors_[at(row)]; });
}

// Entries of the whole batch, with kBatchTopK.
std::int64_t SaeSelector::wanted() const {
  return selection_->total > 0 ? selection_->total : selection_->k * entries_->rows;
}

void SaeSelector::keep_best(const SaeFindCut& cut) {
  ActiveEntries& entries = *entries_;
  const std::int64_t k = selection_->k;
  if (selection_->kind == SaeSelection::Kind::kTopK) {
    raise_floors();
    group();
    // Rows where entries equal to the last one are too many.
    std::vector<std::uint8_t> out(at(entries.count), 0);
    bool any = false;
    for (std::int64_t r = 0; r < entries.rows; ++r) {
      const std::int64_t first = entries.row_start[at(r)];
      const std::int64_t n = entries.row_start[at(r + 1)] - first;
      if (n <= k) continue;
      any = true;
      std::int64_t surplus = n - k;
      for (std::int64_t e = n; e-- > 0 && surplus > 0;) {
        const std::int64_t position = entries.position[at(first + e)];
        const float h = entries.pre[at(position)];
        const float s = selection_->scale.empty()
                            ? h
                            : h * selection_->scale[at(entries.latent[at(first + e)])];
        if (s > floors_[at(r)]) continue;
        out[at(position)] = 1;
        --surplus;
      }
    }
    if (!any) return;
    compact([&](float, std::int32_t, std::int64_t e) { return out[at(e)] == 0; });
  } else {
    const std::int64_t wanted = this->wanted();
    if (!cut && entries.count <= wanted) return;
    raise_floors();
    if (!cut && entries.count <= wanted) return;
    scratch_.resize(at(entries.count));
    for (std::int64_t j = 0; j < done_; ++j) {
      const float scale = selection_->scale.empty() ? 1.0F : selection_->scale[at(j)];
      for (std::int64_t e = entries.start[at(j)]; e < entries.start[at(j + 1)]; ++e) {
        scratch_[at(e)] = entries.pre[at(e)] * scale;
      }
    }
    float last = 0.0F;
    std::int64_t ties = wanted;
    if (cut) {
      const SaeCut found = cut(scratch_);
      last = found.last;
      ties = found.equal;
    } else {
      std::vector<float> order = scratch_;
      std::nth_element(order.begin(), order.begin() + (wanted - 1), order.end(), std::greater<>());
      last = order[at(wanted - 1)];
      for (const float v : scratch_) ties -= v > last ? 1 : 0;
    }
    // compact() may look from several threads, so the ties are told apart here.
    std::int64_t end = entries.count;
    for (std::int64_t e = 0; e < entries.count; ++e) {
      if (scratch_[at(e)] == last && ties-- == 0) {
        end = e;  // from here on equal ones are out
        break;
      }
    }
    compact([&](float scaled, std::int32_t, std::int64_t e) {
      return scaled > last || (scaled == last && e < end);
    });
  }
}

void SaeSelector::finish(bool by_row, const SaeFindCut& cut) {
  ActiveEntries& entries = *entries_;
  if (done_ != entries.latents) {
    throw_data("sae: ", done_, " of ", entries.latents, " latents were added");
  }
  if (selection_->kind != SaeSelection::Kind::kThreshold) keep_best(cut);
  if (by_row) group();
  grow(entries.value, entries.count);
  grow(entries.grad, entries.count);
}

}  // namespace drrik
#endif  // HWY_ONCE
