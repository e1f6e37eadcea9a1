// From pre-activations to active entries.

#include <algorithm>
#include <limits>

#include "drrik/base/threads.h"
#include "drrik/ops/sae_kernels.h"
#include "ops/grain.h"
#include "ops/sae_blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/sae_collect.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "ops/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {
namespace {

void ReluLatent(float* pre, std::int64_t n, float bias, std::int64_t* count, double* sum) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  const VF b = hn::Set(d, bias);
  VF total = hn::Zero(d);
  std::int64_t active = 0;
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    // NaN must stay NaN so that the loss shows it; Max may drop it.
    const VF raw = hn::Add(load(d, pre + i), b);
    const VF v = hn::IfThenElse(hn::IsNaN(raw), raw, hn::Max(raw, hn::Zero(d)));
    active += static_cast<std::int64_t>(hn::CountTrue(d, hn::Gt(v, hn::Zero(d))));
    total = hn::Add(total, v);
    store(d, v, pre + i);
  }
  auto tail = static_cast<double>(sum_of(d, total));
  for (; i < n; ++i) {
    const float raw = pre[i] + bias;
    const float v = raw <= 0.0F ? 0.0F : raw;
    active += v > 0.0F ? 1 : 0;
    tail += static_cast<double>(v);
    pre[i] = v;
  }
  *count = active;
  *sum = tail;
}

float MaskLatent(const float* f, float l1, float* grad, std::int64_t n) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  const VF add = hn::Set(d, l1);
  VF total = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const VF g =
        hn::IfThenElseZero(hn::Gt(load(d, f + i), hn::Zero(d)), hn::Add(load(d, grad + i), add));
    total = hn::Add(total, g);
    store(d, g, grad + i);
  }
  float sum = sum_of(d, total);
  for (; i < n; ++i) {
    grad[i] = f[i] > 0.0F ? grad[i] + l1 : 0.0F;
    sum += grad[i];
  }
  return sum;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace drrik {
namespace {

HWY_EXPORT(ReluLatent);
HWY_EXPORT(MaskLatent);

using detail::at;
using detail::grow;

void check_bias(MatView<const float> pre_t, std::span<const float> bias) {
  if (static_cast<std::int64_t>(bias.size()) != pre_t.rows()) {
    throw_data("sae: ", pre_t.rows(), " latents, ", bias.size(), " encoder biases");
  }
}

}  // namespace

void ActiveEntries::begin(std::int64_t row_count, std::int64_t latent_count) {
  constexpr std::int64_t kMax = std::numeric_limits<std::int32_t>::max();
  if (row_count > kMax || latent_count > kMax) {
    throw_usage("sae: a batch of ", row_count, " rows and ", latent_count,
                " latents; at most 2^31 - 1 of each");
  }
  rows = row_count;
  latents = latent_count;
  count = 0;
  start.assign(at(latent_count + 1), 0);
  row_start.assign(at(row_count + 1), 0);
}

void sae_collect_active(MatView<const float> pre_t, std::span<const float> bias, std::int64_t first,
                        ActiveEntries& entries) {
  check_bias(pre_t, bias);
  if (pre_t.cols() != entries.rows || first < 0 || first + pre_t.rows() > entries.latents) {
    throw_data("sae: latents [", first, ", ", first + pre_t.rows(), ") over ", pre_t.cols(),
               " rows, entries for [", entries.latents, ", ", entries.rows, "]");
  }
  detail::collect_latents(
      pre_t, first, entries, entries.value, [&](std::int64_t j, std::int32_t* row, float* value) {
        return detail::latent_above(pre_t.row_ptr(j), pre_t.cols(), bias[at(j)], 0.0F, row, value);
      });
}

std::int64_t sae_collect_row(std::span<const float> pre, std::span<const float> bias,
                             std::int32_t* latent, float* value) {
  if (pre.size() != bias.size()) {
    throw_data("sae: ", pre.size(), " pre-activations, ", bias.size(), " encoder biases");
  }
  return detail::row_above(pre.data(), bias.data(), nullptr, 0.0F, 0,
                           static_cast<std::int64_t>(pre.size()), latent, value);
}

void sae_relu_dense(MatView<float> pre_t, std::span<const float> bias,
                    std::span<std::int64_t> counts, std::span<double> sums) {
  check_bias(pre_t, bias);
  parallel_for(pre_t.rows(), row_grain(pre_t.cols()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      HWY_DYNAMIC_DISPATCH(ReluLatent)
      (pre_t.row_ptr(j), pre_t.cols(), bias[at(j)], &counts[at(j)], &sums[at(j)]);
    }
  });
}

void sae_mask_dense(MatView<const float> f_t, float l1, MatView<float> grad_t,
                    std::span<float> sums) {
  check_same_shape("sae", f_t, grad_t);
  parallel_for(f_t.rows(), row_grain(f_t.cols()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      sums[at(j)] =
          HWY_DYNAMIC_DISPATCH(MaskLatent)(f_t.row_ptr(j), l1, grad_t.row_ptr(j), f_t.cols());
    }
  });
}

void sae_group_by_row(ActiveEntries& entries) {
  // Blocks of latents count and then place their entries independently; the blocks are fixed, and
  // the order within a row (latents ascending) does not depend on them anyway.
  constexpr std::int64_t kBlocks = 8;
  const std::int64_t rows = entries.rows;
  grow(entries.latent, entries.count);
  grow(entries.position, entries.count);
  grow(entries.grad, entries.count);
  entries.block_counts.assign(at(kBlocks * rows), 0);
  const auto each_block = [&](auto&& f) {
    parallel_for(kBlocks, entries.count < 4096 ? kBlocks : 1,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t b = begin; b < end; ++b) {
                     f(entries.latents * b / kBlocks, entries.latents * (b + 1) / kBlocks,
                       entries.block_counts.data() + b * rows);
                   }
                 });
  };
  each_block([&](std::int64_t first, std::int64_t last, std::int64_t* counts) {
    for (std::int64_t e = entries.start[at(first)]; e < entries.start[at(last)]; ++e) {
      ++counts[entries.row[at(e)]];
    }
  });
  std::int64_t sum = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    entries.row_start[at(r)] = sum;
    for (std::int64_t b = 0; b < kBlocks; ++b) {
      std::int64_t& slot = entries.block_counts[at(b * rows + r)];
      const std::int64_t here = slot;
      slot = sum;
      sum += here;
    }
  }
  entries.row_start[at(rows)] = sum;
  each_block([&](std::int64_t first, std::int64_t last, std::int64_t* next) {
    for (std::int64_t j = first; j < last; ++j) {
      for (std::int64_t e = entries.start[at(j)]; e < entries.start[at(j + 1)]; ++e) {
        const std::int64_t to = next[entries.row[at(e)]]++;
        entries.latent[at(to)] = static_cast<std::int32_t>(j);
        entries.position[at(to)] = e;
      }
    }
  });
}

}  // namespace drrik
#endif  // HWY_ONCE
