// Decoding, residual and feature gradient over active entries, row by row.

#include <algorithm>
#include <vector>

#include "drrik/base/threads.h"
#include "drrik/ops/sae_kernels.h"
#include "ops/grain.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/sae_decode.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "ops/sae_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {
namespace {

void WeightedRows(const float* base, std::int64_t stride, const std::int32_t* index,
                  const float* weight, std::int64_t entries, const float* init, std::int64_t n,
                  float* out) {
  weighted_rows(base, stride, index, weight, entries, init, n, out);
}

// g = scale · (g − x) in place; returns Σ (g − x)².
double Residual(float* g, const float* x, std::int64_t n, float scale) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  const VF k = hn::Set(d, scale);
  VF s0 = hn::Zero(d), s1 = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const VF r0 = hn::Sub(load(d, g + i), load(d, x + i));
    const VF r1 = hn::Sub(load(d, g + i + lanes), load(d, x + i + lanes));
    s0 = hn::MulAdd(r0, r0, s0);
    s1 = hn::MulAdd(r1, r1, s1);
    store(d, hn::Mul(k, r0), g + i);
    store(d, hn::Mul(k, r1), g + i + lanes);
  }
  auto sum = static_cast<double>(sum_of(d, hn::Add(s0, s1)));
  for (; i < n; ++i) {
    const float r = g[i] - x[i];
    sum += static_cast<double>(r) * static_cast<double>(r);
    g[i] = scale * r;
  }
  return sum;
}

// out[e] = g · base[index[e]] + add. Four rows share the loads of g.
void Dots(const float* HWY_RESTRICT base, std::int64_t stride,
          const std::int32_t* HWY_RESTRICT index, std::int64_t entries, const float* HWY_RESTRICT g,
          std::int64_t n, float add, float* HWY_RESTRICT out) {
  const DF d;
  const std::int64_t lanes = float_lanes();
  std::int64_t e = 0;
  for (; e + 4 <= entries; e += 4) {
    const float* p0 = base + index[e] * stride;
    const float* p1 = base + index[e + 1] * stride;
    const float* p2 = base + index[e + 2] * stride;
    const float* p3 = base + index[e + 3] * stride;
    VF a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    std::int64_t i = 0;
    for (; i + 2 * lanes <= n; i += 2 * lanes) {
      const VF u = load(d, g + i);
      const VF w = load(d, g + i + lanes);
      a0 = hn::MulAdd(u, load(d, p0 + i), a0);
      a1 = hn::MulAdd(u, load(d, p1 + i), a1);
      a2 = hn::MulAdd(u, load(d, p2 + i), a2);
      a3 = hn::MulAdd(u, load(d, p3 + i), a3);
      b0 = hn::MulAdd(w, load(d, p0 + i + lanes), b0);
      b1 = hn::MulAdd(w, load(d, p1 + i + lanes), b1);
      b2 = hn::MulAdd(w, load(d, p2 + i + lanes), b2);
      b3 = hn::MulAdd(w, load(d, p3 + i + lanes), b3);
    }
    float r0 = sum_of(d, hn::Add(a0, b0));
    float r1 = sum_of(d, hn::Add(a1, b1));
    float r2 = sum_of(d, hn::Add(a2, b2));
    float r3 = sum_of(d, hn::Add(a3, b3));
    for (; i < n; ++i) {
      r0 += g[i] * p0[i];
      r1 += g[i] * p1[i];
      r2 += g[i] * p2[i];
      r3 += g[i] * p3[i];
    }
    out[e] = r0 + add;
    out[e + 1] = r1 + add;
    out[e + 2] = r2 + add;
    out[e + 3] = r3 + add;
  }
  for (; e < entries; ++e) out[e] = dot_product(g, base + index[e] * stride, n) + add;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace drrik {
namespace {

HWY_EXPORT(WeightedRows);
HWY_EXPORT(Residual);
HWY_EXPORT(Dots);

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

void check_decoder(MatView<const float> decoder, std::span<const float> bias, std::int64_t d) {
  if (decoder.cols() != d || (!bias.empty() && static_cast<std::int64_t>(bias.size()) != d)) {
    throw_data("sae: decoder ", shape_of(decoder), ", bias of ", bias.size(), ", rows of ", d);
  }
}

}  // namespace

void sae_decode_active(ActiveEntries& entries, MatView<const float> decoder, MatView<const float> x,
                       float scale, float l1, MatView<float> residual_grad, std::span<double> error,
                       std::span<double> l1_sums) {
  check_decoder(decoder, {}, x.cols());
  check_same_shape("sae", x, residual_grad);
  if (x.rows() != entries.rows || decoder.rows() != entries.latents ||
      error.size() != at(x.rows()) || l1_sums.size() != at(x.rows())) {
    throw_data("sae: entries for [", entries.rows, ", ", entries.latents, "], rows ", shape_of(x),
               ", decoder ", shape_of(decoder));
  }
  const std::int64_t d = x.cols();
  const std::int64_t mean = entries.count / std::max<std::int64_t>(entries.rows, 1);
  parallel_for(x.rows(), row_grain(d * (mean + 1)), [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> values;
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t first = entries.row_start[at(r)];
      const std::int64_t n = entries.row_start[at(r + 1)] - first;
      if (values.size() < at(n)) values.resize(at(2 * n));
      double l1_sum = 0.0;
      for (std::int64_t e = 0; e < n; ++e) {
        const float value = entries.value[at(entries.position[at(first + e)])];
        values[at(e)] = value;
        l1_sum += static_cast<double>(value);
      }
      l1_sums[at(r)] = l1_sum;
      const std::int32_t* latent = entries.latent.data() + first;
      float* g = residual_grad.row_ptr(r);
      HWY_DYNAMIC_DISPATCH(WeightedRows)
      (decoder.data(), decoder.stride(), latent, values.data(), n, nullptr, d, g);
      error[at(r)] = HWY_DYNAMIC_DISPATCH(Residual)(g, x.row_ptr(r), d, scale);
      HWY_DYNAMIC_DISPATCH(Dots)
      (decoder.data(), decoder.stride(), latent, n, g, d, l1, values.data());
      for (std::int64_t e = 0; e < n; ++e) {
        entries.grad[at(entries.position[at(first + e)])] = values[at(e)];
      }
    }
  });
}

void sae_decode_groups(ActiveEntries& entries, MatView<const float> decoder, MatView<const float> x,
                       std::span<const std::int64_t> group_ends, std::span<const float> scales,
                       MatView<float> residual_grads, MatView<double> errors) {
  const auto groups = static_cast<std::int64_t>(group_ends.size());
  const std::int64_t rows = x.rows();
  const std::int64_t d = x.cols();
  check_decoder(decoder, {}, d);
  if (groups == 0 || scales.size() != group_ends.size() || group_ends.back() != decoder.rows() ||
      residual_grads.rows() != groups * rows || residual_grads.cols() != d ||
      errors.rows() != groups || errors.cols() != rows || rows != entries.rows ||
      decoder.rows() != entries.latents) {
    throw_data("sae: ", groups, " groups of latents, entries for [", entries.rows, ", ",
               entries.latents, "], rows ", shape_of(x), ", decoder ", shape_of(decoder),
               ", gradients ", shape_of(residual_grads));
  }
  const std::int64_t mean = entries.count / std::max<std::int64_t>(entries.rows, 1);
  parallel_for(rows, row_grain(d * (mean + groups)), [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> values;
    std::vector<float> sum(at(d));
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t first = entries.row_start[at(r)];
      const std::int64_t n = entries.row_start[at(r + 1)] - first;
      if (values.size() < at(n)) values.resize(at(2 * n));
      for (std::int64_t e = 0; e < n; ++e) {
        values[at(e)] = entries.value[at(entries.position[at(first + e)])];
      }
      const std::int32_t* latent = entries.latent.data() + first;
      std::ranges::fill(sum, 0.0F);
      std::int64_t e = 0;
      for (std::int64_t g = 0; g < groups; ++g) {
        std::int64_t stop = e;
        while (stop < n && latent[stop] < group_ends[at(g)]) ++stop;
        float* out = residual_grads.row_ptr(g * rows + r);
        HWY_DYNAMIC_DISPATCH(WeightedRows)
        (decoder.data(), decoder.stride(), latent + e, values.data() + e, stop - e, sum.data(), d,
         out);
        std::copy_n(out, d, sum.data());
        errors(g, r) = HWY_DYNAMIC_DISPATCH(Residual)(out, x.row_ptr(r), d, scales[at(g)]);
        e = stop;
      }
      // A latent takes part in its group's reconstruction and in all wider ones.
      e = n;
      for (std::int64_t g = groups; g-- > 0;) {
        float* out = residual_grads.row_ptr(g * rows + r);
        if (g + 1 < groups) {
          const float* wider = residual_grads.row_ptr((g + 1) * rows + r);
          for (std::int64_t c = 0; c < d; ++c) out[c] += wider[c];
        }
        std::int64_t start = e;
        while (start > 0 && (g == 0 || latent[start - 1] >= group_ends[at(g - 1)])) --start;
        HWY_DYNAMIC_DISPATCH(Dots)
        (decoder.data(), decoder.stride(), latent + start, e - start, out, d, 0.0F,
         values.data() + start);
        e = start;
      }
      for (std::int64_t i = 0; i < n; ++i) {
        entries.grad[at(entries.position[at(first + i)])] = values[at(i)];
      }
    }
  });
}

void sae_residual(MatView<float> y, MatView<const float> x, float scale, std::span<double> error) {
  check_same_shape("sae", MatView<const float>(y), x);
  parallel_for(y.rows(), row_grain(y.cols()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      error[at(r)] = HWY_DYNAMIC_DISPATCH(Residual)(y.row_ptr(r), x.row_ptr(r), y.cols(), scale);
    }
  });
}

void sae_decode_rows(std::span<const std::int64_t> row_start, std::span<const std::int32_t> latent,
                     std::span<const float> value, MatView<const float> decoder,
                     std::span<const float> bias, MatView<float> out) {
  check_decoder(decoder, bias, out.cols());
  if (static_cast<std::int64_t>(row_start.size()) != out.rows() + 1 ||
      latent.size() != value.size() || row_start.front() != 0 ||
      row_start.back() != static_cast<std::int64_t>(latent.size())) {
    throw_data("sae: compressed rows of ", row_start.size(), " starts, ", latent.size(),
               " latents, ", value.size(), " values do not fit ", out.rows(), " rows");
  }
  for (const std::int32_t j : latent) {
    if (j < 0 || j >= decoder.rows()) {
      throw_data("sae: latent ", j, " outside [0, ", decoder.rows(), ")");
    }
  }
  const std::int64_t mean = row_start.back() / std::max<std::int64_t>(out.rows(), 1);
  parallel_for(out.rows(), row_grain(out.cols() * (mean + 1)),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t r = begin; r < end; ++r) {
                   const std::int64_t first = row_start[at(r)];
                   HWY_DYNAMIC_DISPATCH(WeightedRows)
                   (decoder.data(), decoder.stride(), latent.data() + first, value.data() + first,
                    row_start[at(r + 1)] - first, bias.empty() ? nullptr : bias.data(), out.cols(),
                    out.row_ptr(r));
                 }
               });
}

}  // namespace drrik
#endif  // HWY_ONCE
