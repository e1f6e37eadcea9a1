#include "drrik/ops/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "drrik/base/threads.h"
#include "ops/attention_task.h"
#include "ops/grain.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/attention.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "ops/math-inl.h"
#include "ops/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {
namespace {

using detail::AttentionTask;
using detail::kKeyBlock;
using detail::kQueryBlock;

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Soft cap and ALiBi on the scores of keys [key, key + n) for a query at `position`.
HWY_INLINE void adjust_scores(const AttentionTask& t, std::int64_t position, std::int64_t key,
                              float* scores, std::int64_t n) {
  const DF d;
  if (t.soft_cap > 0.0F) {
    const VF cap = hn::Set(d, t.soft_cap);
    const VF inverse = hn::Set(d, 1.0F / t.soft_cap);
    for (std::int64_t i = 0; i < n; i += float_lanes()) {
      store(d, hn::Mul(cap, tanh_f32(d, hn::Mul(load(d, scores + i), inverse))), scores + i);
    }
  }
  if (t.slope != 0.0F) {
    for (std::int64_t i = 0; i < n; ++i) {
      scores[i] += t.slope * static_cast<float>(key + i - position);
    }
  }
}

// Keys [0, count) of one head as to[dim][kKeyBlock], zero beyond count.
HWY_INLINE void transpose_keys(const float* keys, std::int64_t stride, std::int64_t count,
                               std::int64_t dim, float* to) {
  for (std::int64_t j = 0; j < kKeyBlock; ++j) {
    if (j < count) {
      const float* row = keys + j * stride;
      for (std::int64_t i = 0; i < dim; ++i) to[i * kKeyBlock + j] = row[i];
    } else {
      for (std::int64_t i = 0; i < dim; ++i) to[i * kKeyBlock + j] = 0.0F;
    }
  }
}

// The state of a query row in the online softmax (Milakov & Gimelshein, arXiv:1805.02867): the
// largest score so far and Σ exp(score - largest).
struct RowState {
  float largest = kMinusInfinity;
  float sum = 0.0F;
};

// Turns one row of scores into exp(score - largest), updates the state and rescales the row's
// output when the largest score grew. Scores outside [low, high) count as not there.
HWY_INLINE void softmax_step(float* scores, std::int64_t low, std::int64_t high, RowState& state,
                             float* out, std::int64_t out_width) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  for (std::int64_t i = 0; i < std::min(low, kKeyBlock); ++i) scores[i] = kMinusInfinity;
  for (std::int64_t i = std::max<std::int64_t>(high, 0); i < kKeyBlock; ++i) {
    scores[i] = kMinusInfinity;
  }
  VF best = hn::Set(d, kMinusInfinity);
  for (std::int64_t i = 0; i < kKeyBlock; i += lanes) best = hn::Max(best, hn::Load(d, scores + i));
  const float block_largest = max_of(d, best);
  if (block_largest > state.largest) {
    if (state.sum > 0.0F) {
      const float factor = std::exp(state.largest - block_largest);
      state.sum *= factor;
      const VF f = hn::Set(d, factor);
      for (std::int64_t i = 0; i < out_width; i += lanes) {
        hn::Store(hn::Mul(hn::Load(d, out + i), f), d, out + i);
      }
    }
    state.largest = block_largest;
  }
  // No key seen so far: subtracting -infinity from itself would give NaN.
  const VF shift = hn::Set(d, state.largest == kMinusInfinity ? 0.0F : state.largest);
  VF total = hn::Zero(d);
  for (std::int64_t i = 0; i < kKeyBlock; i += lanes) {
    const VF p = exp_nonpositive(d, hn::Sub(hn::Load(d, scores + i), shift));
    total = hn::Add(total, p);
    hn::Store(p, d, scores + i);
  }
  state.sum += sum_of(d, total);
}

HWY_INLINE void write_rows(const AttentionTask& t, const RowState* states, const float* out,
                           std::int64_t width) {
  for (std::int64_t r = 0; r < t.rows; ++r) {
    const float scale = states[r].sum > 0.0F ? 1.0F / states[r].sum : 0.0F;
    float* to = t.out + r * t.out_stride;
    for (std::int64_t i = 0; i < t.value_dim; ++i) to[i] = out[r * width + i] * scale;
  }
}

// Blocks of keys outside, blocks of queries inside: a transposed key block serves all queries of
// the task. Padding rows and columns are zero, and are not written back.
void BlockedTask(const AttentionTask& t, float* scratch) {
  const std::int64_t rows = (t.rows + kQueryBlock - 1) / kQueryBlock * kQueryBlock;
  const std::int64_t width = detail::padded_dim(t.value_dim);
  float* q = scratch;
  float* out = q + rows * detail::padded_dim(t.dim);
  float* keys = out + rows * width;
  float* values = keys + detail::padded_dim(t.dim) * kKeyBlock;
  float* scores = values + kKeyBlock * width;
  auto* states = reinterpret_cast<RowState*>(scores + kQueryBlock * kKeyBlock);
  for (std::int64_t r = 0; r < rows; ++r) {
    states[r] = RowState();
    float* to = q + r * t.dim;
    for (std::int64_t i = 0; i < t.dim; ++i) {
      to[i] = r < t.rows ? t.q[r * t.q_stride + i] * t.scale : 0.0F;
    }
  }
  std::fill_n(out, rows * width, 0.0F);
  const bool copy_values = t.value_dim != width || t.v_stride % 16 != 0;

  const std::int64_t last_position = t.position + t.rows - 1;
  const std::int64_t key_begin = t.first_key(t.position) / kKeyBlock * kKeyBlock;
  const std::int64_t key_end = t.end_key(last_position);
  for (std::int64_t key = key_begin; key < key_end; key += kKeyBlock) {
    const std::int64_t count = std::min(kKeyBlock, t.keys - key);
    transpose_keys(t.k + key * t.k_stride, t.k_stride, count, t.dim, keys);
    const float* v = t.v + key * t.v_stride;
    std::int64_t v_stride = t.v_stride;
    if (copy_values || count < kKeyBlock) {
      // Rows beyond the end must be zero, as 0 · NaN of foreign memory would not be.
      std::fill_n(values, kKeyBlock * width, 0.0F);
      for (std::int64_t j = 0; j < count; ++j) {
        std::copy_n(v + j * t.v_stride, t.value_dim, values + j * width);
      }
      v = values;
      v_stride = width;
    }
    for (std::int64_t top = 0; top < rows; top += kQueryBlock) {
      const std::int64_t n = std::min(kQueryBlock, t.rows - top);
      const std::int64_t p0 = t.position + top;
      const std::int64_t p1 = p0 + n - 1;
      if (t.first_key(p0) >= key + count || t.end_key(p1) <= key) continue;
      // Rows in fours, the tile's height.
      const std::int64_t height = (n + 3) / 4 * 4;
      tile_product(q + top * t.dim, t.dim, keys, kKeyBlock, scores, kKeyBlock, height, kKeyBlock,
                   t.dim, false);
      for (std::int64_t r = 0; r < n; ++r) {
        const std::int64_t position = p0 + r;
        float* row = scores + r * kKeyBlock;
        if (t.adjusts()) adjust_scores(t, position, key, row, kKeyBlock);
        softmax_step(row, t.first_key(position) - key,
                     std::min(t.end_key(position), key + count) - key, states[top + r],
                     out + (top + r) * width, width);
      }
      std::fill_n(scores + n * kKeyBlock, (height - n) * kKeyBlock, 0.0F);
      tile_product(scores, kKeyBlock, v, v_stride, out + top * width, width, height, width,
                   kKeyBlock, true);
    }
  }
  write_rows(t, states, out, width);
}

// Few query rows against many keys (generation): each key and value is read once per row, nothing
// is transposed.
void FewRowsTask(const AttentionTask& t, float* scratch) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  const std::int64_t width = detail::padded_dim(t.value_dim);
  float* out = scratch;
  float* scores = out + width;
  float* query = scores + t.keys + kKeyBlock;
  for (std::int64_t r = 0; r < t.rows; ++r) {
    const std::int64_t position = t.position + r;
    const std::int64_t low = t.first_key(position);
    const std::int64_t high = t.end_key(position);
    float* to = t.out + r * t.out_stride;
    if (low >= high) {
      std::fill_n(to, t.value_dim, 0.0F);
      continue;
    }
    const std::int64_t n = high - low;
    for (std::int64_t i = 0; i < t.dim; ++i) query[i] = t.q[r * t.q_stride + i] * t.scale;
    for (std::int64_t j = 0; j < n; ++j) {
      scores[j] = dot_product(query, t.k + (low + j) * t.k_stride, t.dim);
    }
    if (t.adjusts()) adjust_scores(t, position, low, scores, n);
    float largest = kMinusInfinity;
    for (std::int64_t j = 0; j < n; ++j) largest = std::max(largest, scores[j]);
    const VF shift = hn::Set(d, largest);
    for (std::int64_t j = n; j < n + lanes; ++j) scores[j] = kMinusInfinity;
    VF total = hn::Zero(d);
    for (std::int64_t j = 0; j < n; j += lanes) {
      const VF p = exp_nonpositive(d, hn::Sub(hn::LoadU(d, scores + j), shift));
      total = hn::Add(total, p);
      hn::StoreU(p, d, scores + j);
    }
    std::fill_n(out, width, 0.0F);
    weighted_rows(scores, t.v + low * t.v_stride, t.v_stride, n, t.value_dim, out);
    const float inverse = 1.0F / sum_of(d, total);
    for (std::int64_t i = 0; i < t.value_dim; ++i) to[i] = out[i] * inverse;
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace drrik {
namespace {

using detail::AttentionTask;
using detail::kKeyBlock;
using detail::kQueryBlock;

HWY_EXPORT(BlockedTask);
HWY_EXPORT(FewRowsTask);

// Up to this many query rows the transposed blocks do not pay.
constexpr std::int64_t kFewQueries = 4;
constexpr std::int64_t kMostRows = 512;

std::int64_t scratch_floats(const AttentionTask& t) {
  const std::int64_t dim = detail::padded_dim(t.dim);
  const std::int64_t width = detail::padded_dim(t.value_dim);
  if (t.rows <= kFewQueries) return width + t.keys + kKeyBlock + dim + 64;
  const std::int64_t rows = (t.rows + kQueryBlock - 1) / kQueryBlock * kQueryBlock;
  return rows * (dim + width + 2) + kKeyBlock * (dim + width + kQueryBlock) + 64;
}

void run_task(const AttentionTask& t) {
  static thread_local AlignedBuffer scratch;
  const std::size_t bytes = static_cast<std::size_t>(scratch_floats(t)) * sizeof(float);
  if (scratch.size() < bytes) {
    scratch = AlignedBuffer();
    scratch = AlignedBuffer(bytes, AlignedBuffer::Init::kNone);
  }
  auto* memory = reinterpret_cast<float*>(scratch.data());
  if (t.rows <= kFewQueries) {
    HWY_DYNAMIC_DISPATCH(FewRowsTask)(t, memory);
  } else {
    HWY_DYNAMIC_DISPATCH(BlockedTask)(t, memory);
  }
}

void check_offsets(const char* what, std::span<const std::int64_t> offsets, std::int64_t rows) {
  std::int64_t before = 0;
  for (const std::int64_t offset : offsets) {
    if (offset < before || offset > rows) {
      throw_data("attention: ", what, " offset ", offset, " after ", before, " with ", rows,
                 " rows");
    }
    before = offset;
  }
}

void check(Heads<const float> q, Heads<const float> k, Heads<const float> v,
           std::span<const std::int64_t> q_offsets, std::span<const std::int64_t> k_offsets,
           const AttentionOptions& options, Heads<float> out) {
  if (q.heads < 1 || k.heads < 1 || q.heads % k.heads != 0 || v.heads != k.heads ||
      out.heads != q.heads) {
    throw_data("attention: ", q.heads, " query heads, ", k.heads, " key heads, ", v.heads,
               " value heads, ", out.heads, " output heads");
  }
  if (q.dim < 1 || q.dim != k.dim || v.dim < 1 || v.dim != out.dim || k.rows != v.rows ||
      q.rows != out.rows) {
    throw_data("attention: q [", q.rows, ", ", q.heads, ", ", q.dim, "], k [", k.rows, ", ",
               k.heads, ", ", k.dim, "], v [", v.rows, ", ", v.heads, ", ", v.dim, "], out [",
               out.rows, ", ", out.heads, ", ", out.dim, "]");
  }
  if (q_offsets.size() != k_offsets.size()) {
    throw_data("attention: ", q_offsets.size(), " query offsets and ", k_offsets.size(),
               " key offsets");
  }
  check_offsets("query", q_offsets, q.rows);
  check_offsets("key", k_offsets, k.rows);
  if (!options.alibi_slopes.empty() &&
      static_cast<std::int64_t>(options.alibi_slopes.size()) != q.heads) {
    throw_data("attention: ", options.alibi_slopes.size(), " slopes for ", q.heads, " heads");
  }
  if (options.window < 0) throw_usage("attention: window is ", options.window);
}

}  // namespace

void attention(Heads<const float> q, Heads<const float> k, Heads<const float> v,
               std::span<const std::int64_t> q_offsets, std::span<const std::int64_t> k_offsets,
               const AttentionOptions& options, Heads<float> out) {
  check(q, k, v, q_offsets, k_offsets, options, out);
  if (q_offsets.size() < 2) return;
  // Smaller tasks when there are few of them; a row's arithmetic does not depend on the cut.
  std::int64_t group = kMostRows;
  const auto count_tasks = [&] {
    std::int64_t count = 0;
    for (std::size_t s = 0; s + 1 < q_offsets.size(); ++s) {
      count += (q_offsets[s + 1] - q_offsets[s] + group - 1) / group;
    }
    return count * q.heads;
  };
  while (group > kQueryBlock && count_tasks() < 4 * num_threads()) group /= 2;

  std::vector<AttentionTask> tasks;
  tasks.reserve(static_cast<std::size_t>(count_tasks()));
  const std::int64_t share = q.heads / k.heads;
  for (std::size_t s = 0; s + 1 < q_offsets.size(); ++s) {
    const std::int64_t rows = q_offsets[s + 1] - q_offsets[s];
    const std::int64_t keys = k_offsets[s + 1] - k_offsets[s];
    for (std::int64_t h = 0; h < q.heads; ++h) {
      for (std::int64_t top = 0; top < rows; top += group) {
        AttentionTask t;
        t.rows = std::min(group, rows - top);
        t.keys = keys;
        t.position = keys - rows + top;
        t.dim = q.dim;
        t.value_dim = v.dim;
        t.q = q.at(q_offsets[s] + top, h);
        t.q_stride = q.row_stride;
        t.k = k.at(k_offsets[s], h / share);
        t.k_stride = k.row_stride;
        t.v = v.at(k_offsets[s], h / share);
        t.v_stride = v.row_stride;
        t.out = out.at(q_offsets[s] + top, h);
        t.out_stride = out.row_stride;
        t.scale =
            options.scale != 0.0F ? options.scale : 1.0F / std::sqrt(static_cast<float>(q.dim));
        t.soft_cap = options.soft_cap;
        t.slope =
            options.alibi_slopes.empty() ? 0.0F : options.alibi_slopes[static_cast<std::size_t>(h)];
        t.causal = options.causal;
        t.window = options.window;
        tasks.push_back(t);
      }
    }
  }
  // One task of this many multiply-adds is worth a thread.
  const std::int64_t work = std::max<std::int64_t>(
      1, tasks.empty() ? 1 : tasks.front().rows * tasks.front().keys * q.dim);
  parallel_for(static_cast<std::int64_t>(tasks.size()),
               std::max<std::int64_t>(1, 4 * kElementGrain / work),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   run_task(tasks[static_cast<std::size_t>(i)]);
                 }
               });
}

void attention(Heads<const float> q, Heads<const float> k, Heads<const float> v,
               std::span<const std::int64_t> offsets, const AttentionOptions& options,
               Heads<float> out) {
  attention(q, k, v, offsets, offsets, options, out);
}

void attention_cached(Heads<const float> q, Heads<const float> k, Heads<const float> v,
                      const AttentionOptions& options, Heads<float> out) {
  const std::array<std::int64_t, 2> q_offsets = {0, q.rows};
  const std::array<std::int64_t, 2> k_offsets = {0, k.rows};
  attention(q, k, v, q_offsets, k_offsets, options, out);
}

}  // namespace drrik
#endif  // HWY_ONCE
