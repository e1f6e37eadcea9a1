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

struct Same {
  HWY_INLINE VF operator()(DF, VF x) const { return x; }
};
struct Times {
  VF by;
  HWY_INLINE VF operator()(DF, VF x) const { return hn::Mul(x, by); }
};

// One block of queries. Scores lie transposed, [key][query]: a vector holds one key's scores of
// consecutive queries, so that keys and values are used where they lie, and the softmax needs no
// sums across a vector.
struct Block {
  std::int64_t rows = 0;        // Real queries; the rest of the block is padding.
  std::int64_t position = 0;    // Key index at which the first query stands.
  std::int64_t width = 0;       // Of an output row.
  float* queries = nullptr;     // [dim][kQueryBlock], scaled.
  float* scores = nullptr;      // [kKeyBlock][kQueryBlock]
  float* out = nullptr;         // [kQueryBlock][width]
  float* values = nullptr;      // [kKeyBlock][width], the values of a block side by side.
  float* largest = nullptr;     // [kQueryBlock]: the largest score so far,
  float* sum = nullptr;         //   Σ exp(score - largest),
  float* factor = nullptr;      //   and what the last block multiplied both by.
  std::int32_t* low = nullptr;  // [kQueryBlock]: a query sees keys [low, high).
  std::int32_t* high = nullptr;
};

HWY_INLINE void start_block(const AttentionTask& t, std::int64_t top, Block& b) {
  b.rows = std::min(kQueryBlock, t.rows - top);
  b.position = t.position + top;
  for (std::int64_t r = 0; r < kQueryBlock; ++r) {
    const bool real = r < b.rows;
    b.low[r] = real ? static_cast<std::int32_t>(t.first_key(b.position + r)) : 0;
    b.high[r] = real ? static_cast<std::int32_t>(t.end_key(b.position + r)) : 0;
    b.largest[r] = kMinusInfinity;
    b.sum[r] = 0.0F;
    const float* q = t.q + (top + r) * t.q_stride;
    for (std::int64_t i = 0; i < t.dim; ++i) {
      b.queries[i * kQueryBlock + r] = real ? q[i] * t.scale : 0.0F;
    }
  }
  std::fill_n(b.out, kQueryBlock * b.width, 0.0F);
}

// Scores of keys [key, key + count), -infinity where a query does not see a key.
HWY_INLINE void score_block(const AttentionTask& t, const Block& b, std::int64_t key,
                            std::int64_t count) {
  const DF d;
  const hn::RebindToSigned<DF> di;
  const std::int64_t lanes = float_lanes();
  for (std::int64_t j = 0; j < count; j += kTileRows) {
    const std::int64_t rows = std::min<std::int64_t>(kTileRows, count - j);
    // A causal query before these keys sees none of them: leave out its half of the block.
    const bool half = t.causal && key + j >= b.position + kQueryBlock / 2;
    const std::int64_t first = half ? kQueryBlock / 2 : 0;
    const Left keys{t.k + (key + j) * t.k_stride, t.k_stride, 1};
    tile_row(rows, keys, b.queries + first, kQueryBlock, b.scores + j * kQueryBlock + first,
             kQueryBlock, kQueryBlock - first, t.dim, false);
  }
  if (t.adjusts()) {
    const VF cap = hn::Set(d, t.soft_cap);
    const VF inverse = hn::Set(d, t.soft_cap > 0.0F ? 1.0F / t.soft_cap : 0.0F);
    for (std::int64_t j = 0; j < count; ++j) {
      const VF bias = hn::Set(d, t.key_bias != nullptr ? t.key_bias[key + j] : 0.0F);
      for (std::int64_t r = 0; r < kQueryBlock; r += lanes) {
        float* at = b.scores + j * kQueryBlock + r;
        VF s = hn::Load(d, at);
        if (t.soft_cap > 0.0F) s = hn::Mul(cap, tanh_f32(d, hn::Mul(s, inverse)));
        // key - query, both far below 2^24.
        const auto distance = hn::Sub(hn::Set(di, static_cast<std::int32_t>(key + j - b.position)),
                                      hn::Iota(di, static_cast<std::int32_t>(r)));
        s = hn::Add(hn::MulAdd(hn::Set(d, t.slope), hn::ConvertTo(d, distance), s), bias);
        hn::Store(s, d, at);
      }
    }
  }
  const bool all_seen = b.rows == kQueryBlock && t.first_key(b.position + kQueryBlock - 1) <= key &&
                        t.end_key(b.position) >= key + count;
  if (all_seen) return;
  const VF nothing = hn::Set(d, kMinusInfinity);
  for (std::int64_t j = 0; j < count; ++j) {
    const auto index = hn::Set(di, static_cast<std::int32_t>(key + j));
    for (std::int64_t r = 0; r < kQueryBlock; r += lanes) {
      float* at = b.scores + j * kQueryBlock + r;
      const auto hidden = hn::Or(hn::Lt(index, hn::Load(di, b.low + r)),
                                 hn::Not(hn::Lt(index, hn::Load(di, b.high + r))));
      hn::Store(hn::IfThenElse(hn::RebindMask(d, hidden), nothing, hn::Load(d, at)), d, at);
    }
  }
}

// The online softmax (Milakov & Gimelshein, arXiv:1805.02867): scores become exp(score - largest),
// and what was summed before is scaled down where the largest score grew.
HWY_INLINE void softmax_block(const Block& b, std::int64_t count) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  const VF nothing = hn::Set(d, kMinusInfinity);
  bool rescale = false;
  for (std::int64_t r = 0; r < kQueryBlock; r += lanes) {
    float* column = b.scores + r;
    const VF before = hn::Load(d, b.largest + r);
    VF largest0 = before;
    VF largest1 = before;
    std::int64_t j = 0;
    for (; j + 2 <= count; j += 2) {
      largest0 = hn::Max(largest0, hn::Load(d, column + j * kQueryBlock));
      largest1 = hn::Max(largest1, hn::Load(d, column + (j + 1) * kQueryBlock));
    }
    if (j < count) largest0 = hn::Max(largest0, hn::Load(d, column + j * kQueryBlock));
    const VF largest = hn::Max(largest0, largest1);
    // While no key was seen, -infinity minus itself would be NaN.
    const VF shift = hn::IfThenElse(hn::Eq(largest, nothing), hn::Zero(d), largest);
    const VF factor = exp_nonpositive(d, hn::Sub(before, shift));
    VF sum0 = hn::Mul(hn::Load(d, b.sum + r), factor);
    VF sum1 = hn::Zero(d);
    for (j = 0; j + 2 <= count; j += 2) {
      float* at = column + j * kQueryBlock;
      const VF p0 = exp_nonpositive(d, hn::Sub(hn::Load(d, at), shift));
      const VF p1 = exp_nonpositive(d, hn::Sub(hn::Load(d, at + kQueryBlock), shift));
      sum0 = hn::Add(sum0, p0);
      sum1 = hn::Add(sum1, p1);
      hn::Store(p0, d, at);
      hn::Store(p1, d, at + kQueryBlock);
    }
    if (j < count) {
      float* at = column + j * kQueryBlock;
      const VF p = exp_nonpositive(d, hn::Sub(hn::Load(d, at), shift));
      sum0 = hn::Add(sum0, p);
      hn::Store(p, d, at);
    }
    hn::Store(largest, d, b.largest + r);
    hn::Store(hn::Add(sum0, sum1), d, b.sum + r);
    hn::Store(factor, d, b.factor + r);
    rescale = rescale || !hn::AllTrue(d, hn::Eq(factor, hn::Set(d, 1.0F)));
  }
  if (!rescale) return;
  for (std::int64_t r = 0; r < b.rows; ++r) {
    if (b.factor[r] == 1.0F) continue;
    const VF f = hn::Set(d, b.factor[r]);
    float* row = b.out + r * b.width;
    for (std::int64_t i = 0; i < b.width; i += lanes) {
      hn::Store(hn::Mul(hn::Load(d, row + i), f), d, row + i);
    }
  }
}

// out += P V.
HWY_INLINE void value_block(const AttentionTask& t, const Block& b, std::int64_t key,
                            std::int64_t count) {
  // Side by side they stay in the first-level cache while the query rows go by; rows of a fused
  // buffer, some KB apart, would share a few of its lines.
  for (std::int64_t j = 0; j < count; ++j) {
    float* to = b.values + j * b.width;
    map1(t.v + (key + j) * t.v_stride, to, t.value_dim, Same());
    for (std::int64_t i = t.value_dim; i < b.width; ++i) to[i] = 0.0F;
  }
  for (std::int64_t r = 0; r < b.rows; r += kTileRows) {
    const std::int64_t rows = std::min<std::int64_t>(kTileRows, b.rows - r);
    // The last of these queries sees the most keys.
    const std::int64_t seen = std::min(count, t.end_key(b.position + r + rows - 1) - key);
    if (seen <= 0) continue;
    tile_row(rows, {b.scores + r, 1, kQueryBlock}, b.values, b.width, b.out + r * b.width, b.width,
             b.width, seen, true);
  }
}

// Rows of one head lie some KB apart, where no processor foresees the next one, so the rows that a
// block of queries adds are asked for while the block before it is computed.
HWY_INLINE void prefetch_block(const AttentionTask& t, std::int64_t top) {
  const auto ask = [](const float* data, std::int64_t stride, std::int64_t rows, std::int64_t n) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = 0; i < n; i += 16) __builtin_prefetch(data + r * stride + i, 0, 2);
    }
  };
  const std::int64_t rows = std::min(kQueryBlock, t.rows - top);
  ask(t.q + top * t.q_stride, t.q_stride, rows, t.dim);
  const std::int64_t key = std::max<std::int64_t>(0, t.position + top);
  const std::int64_t keys = std::min(rows, t.keys - key);
  ask(t.k + key * t.k_stride, t.k_stride, keys, t.dim);
  ask(t.v + key * t.v_stride, t.v_stride, keys, t.value_dim);
}

// `next` is the task that follows on this thread, or null.
void BlockedTask(const AttentionTask& t, const AttentionTask* next, float* scratch) {
  const DF d;
  Block b;
  b.width = detail::padded_dim(t.value_dim);
  const auto take = [&scratch](std::int64_t n) {
    float* at = scratch;
    scratch += n;
    return at;
  };
  b.queries = take(detail::padded_dim(t.dim) * kQueryBlock);
  b.scores = take(kKeyBlock * kQueryBlock);
  b.out = take(kQueryBlock * b.width);
  b.values = take(kKeyBlock * b.width);
  b.largest = take(kQueryBlock);
  b.sum = take(kQueryBlock);
  b.factor = take(kQueryBlock);
  b.low = reinterpret_cast<std::int32_t*>(take(kQueryBlock));
  b.high = reinterpret_cast<std::int32_t*>(take(kQueryBlock));
  for (std::int64_t top = 0; top < t.rows; top += kQueryBlock) {
    start_block(t, top, b);
    if (top + kQueryBlock < t.rows) {
      prefetch_block(t, top + kQueryBlock);
    } else if (next != nullptr) {
      prefetch_block(*next, 0);
    }
    // Blocks of keys lie at fixed multiples, so that no cut into tasks changes a row's sums.
    const std::int64_t begin = t.first_key(b.position) / kKeyBlock * kKeyBlock;
    const std::int64_t end = t.end_key(b.position + b.rows - 1);
    for (std::int64_t key = begin; key < end; key += kKeyBlock) {
      const std::int64_t count = std::min(kKeyBlock, end - key);
      score_block(t, b, key, count);
      softmax_block(b, count);
      value_block(t, b, key, count);
    }
    for (std::int64_t r = 0; r < b.rows; ++r) {
      const float inverse = b.sum[r] == 0.0F ? 0.0F : 1.0F / b.sum[r];
      map1(b.out + r * b.width, t.out + (top + r) * t.out_stride, t.value_dim,
           Times{hn::Set(d, inverse)});
    }
  }
}

// Soft cap, ALiBi and bias on the scores of keys [key, key + n) for one query at `position`.
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
  if (t.key_bias != nullptr) {
    for (std::int64_t i = 0; i < n; ++i) scores[i] += t.key_bias[key + i];
  }
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
  return kQueryBlock * (dim + width + 8) + kKeyBlock * (kQueryBlock + width);
}

void run_task(const AttentionTask& t, const AttentionTask* next) {
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
    HWY_DYNAMIC_DISPATCH(BlockedTask)(t, next, memory);
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
  if (!options.key_bias.empty()) {
    std::int64_t longest = 0;
    for (std::size_t s = 0; s + 1 < k_offsets.size(); ++s) {
      longest = std::max(longest, k_offsets[s + 1] - k_offsets[s]);
    }
    if (options.key_bias.rows() != q.heads || options.key_bias.cols() < longest) {
      throw_data("attention: key bias ", shape_of(options.key_bias), " for ", q.heads,
                 " heads and ", longest, " keys");
    }
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
        t.key_bias = options.key_bias.empty() ? nullptr : options.key_bias.row_ptr(h);
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
                   const AttentionTask* task = &tasks[static_cast<std::size_t>(i)];
                   run_task(*task, i + 1 < end ? task + 1 : nullptr);
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
