#include "drrik/eval/geometry.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "drrik/base/interrupt.h"
#include "drrik/base/threads.h"
#include "drrik/ops/gemm.h"
#include "drrik/tensor/tensor.h"

namespace drrik {
namespace {

constexpr std::int64_t kTile = 1024;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0.0;
  for (std::size_t c = 0; c < a.size(); ++c) {
    sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
  }
  return sum;
}

// Unit directions of some latents; rows of zeros for those without one.
void fill_tile(const Sae& sae, std::span<const std::int32_t> latents, MatView<float> out) {
  parallel_for(
      static_cast<std::int64_t>(latents.size()), 32, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t i = first; i < last; ++i) {
          const std::vector<float> direction =
              sae.decoder_direction(latents[static_cast<std::size_t>(i)]);
          const double norm = std::sqrt(dot(direction, direction));
          const double scale = norm > 0.0 && std::isfinite(norm) ? 1.0 / norm : 0.0;
          for (std::size_t c = 0; c < direction.size(); ++c) {
            out(i, static_cast<std::int64_t>(c)) =
                scale == 0.0 ? 0.0F : static_cast<float>(static_cast<double>(direction[c]) * scale);
          }
        }
      });
}

// One latent after the other: norms and the cosine with the encoder.
void measure_directions(const Sae& sae, DecoderGeometry& out) {
  struct Direction {
    double norm = 0.0;
    double encoder_cosine = kNaN;
  };
  const std::int64_t h = sae.d_sae();
  std::vector<Direction> all(static_cast<std::size_t>(h));
  parallel_for(h, 32, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t j = first; j < last; ++j) {
      const std::vector<float> decoder = sae.decoder_direction(j);
      const std::vector<float> encoder = sae.encoder_direction(j);
      Direction& to = all[static_cast<std::size_t>(j)];
      to.norm = std::sqrt(dot(decoder, decoder));
      if (encoder.size() != decoder.size()) continue;
      const double norms = to.norm * std::sqrt(dot(encoder, encoder));
      if (norms > 0.0 && std::isfinite(norms)) to.encoder_cosine = dot(encoder, decoder) / norms;
    }
  });
  out.norm_min = std::numeric_limits<double>::infinity();
  double sum = 0.0;
  double cosines = 0.0;
  std::int64_t with_encoder = 0;
  out.encoder_cosine_min = kNaN;
  for (const Direction& direction : all) {
    if (!(direction.norm > 0.0) || !std::isfinite(direction.norm)) ++out.zero_directions;
    sum += direction.norm;
    out.norm_min = std::min(out.norm_min, direction.norm);
    out.norm_max = std::max(out.norm_max, direction.norm);
    if (std::isnan(direction.encoder_cosine)) continue;
    cosines += direction.encoder_cosine;
    ++with_encoder;
    out.encoder_cosine_min = std::fmin(out.encoder_cosine_min, direction.encoder_cosine);
  }
  out.norm_mean = sum / static_cast<double>(h);
  out.encoder_cosine_mean = with_encoder > 0 ? cosines / static_cast<double>(with_encoder) : kNaN;
}

}  // namespace

DecoderGeometry decoder_geometry(const Sae& sae, std::int64_t full_latents) {
  DecoderGeometry out;
  const std::int64_t h = sae.d_sae();
  measure_directions(sae, out);
  std::vector<std::int32_t> every(static_cast<std::size_t>(h));
  for (std::size_t j = 0; j < every.size(); ++j) every[j] = static_cast<std::int32_t>(j);
  if (h <= full_latents) {
    out.latents = every;
  } else {
    const double share = static_cast<double>(full_latents) / static_cast<double>(h);
    const std::int64_t wanted = std::max<std::int64_t>(
        1, static_cast<std::int64_t>(share * static_cast<double>(full_latents)));
    for (std::int64_t i = 0; i < wanted; ++i) {
      out.latents.push_back(static_cast<std::int32_t>(
          static_cast<double>(i) * static_cast<double>(h) / static_cast<double>(wanted)));
    }
  }
  const bool symmetric = h <= full_latents;
  const auto compared = static_cast<std::int64_t>(out.latents.size());
  out.latents_compared = compared;
  out.max_cosine.assign(static_cast<std::size_t>(compared), 0.0F);

  const std::int64_t tile = std::min(kTile, h);
  Tensor left = Tensor::uninitialized(DType::kF32, {tile, sae.d_out()});
  Tensor right = Tensor::uninitialized(DType::kF32, {tile, sae.d_out()});
  Tensor products = Tensor::uninitialized(DType::kF32, {tile, tile});
  std::vector<float> of_column(static_cast<std::size_t>(tile));
  for (std::int64_t i = 0; i < compared; i += tile) {
    const std::int64_t n = std::min(tile, compared - i);
    const auto a = left.mutable_mat<float>().rows_range(0, n);
    const auto rows =
        std::span(out.latents).subspan(static_cast<std::size_t>(i), static_cast<std::size_t>(n));
    fill_tile(sae, rows, a);
    // Where all are compared a pair of tiles serves both.
    for (std::int64_t j = symmetric ? i : 0; j < h; j += tile) {
      check_interrupt("comparing latents");
      const std::int64_t m = std::min(tile, h - j);
      const auto b = right.mutable_mat<float>().rows_range(0, m);
      fill_tile(sae,
                std::span(every).subspan(static_cast<std::size_t>(j), static_cast<std::size_t>(m)),
                b);
      const MatView<float> c(products.mutable_data<float>().data(), n, m);
      matmul(a, Trans::kNo, b, Trans::kYes, c);
      parallel_for(n, 16, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t r = first; r < last; ++r) {
          float* row = c.row_ptr(r);
          const std::int64_t self = rows[static_cast<std::size_t>(r)] - j;
          if (self >= 0 && self < m) row[self] = 0.0F;
          float most = 0.0F;
          for (std::int64_t s = 0; s < m; ++s) most = std::max(most, std::fabs(row[s]));
          float& so_far = out.max_cosine[static_cast<std::size_t>(i + r)];
          so_far = std::max(so_far, most);
        }
      });
      if (!symmetric || j == i) continue;
      std::ranges::fill(of_column, 0.0F);
      for (std::int64_t r = 0; r < n; ++r) {
        const float* row = c.row_ptr(r);
        for (std::int64_t s = 0; s < m; ++s) {
          float& most = of_column[static_cast<std::size_t>(s)];
          most = std::max(most, std::fabs(row[s]));
        }
      }
      for (std::int64_t s = 0; s < m; ++s) {
        float& so_far = out.max_cosine[static_cast<std::size_t>(j + s)];
        so_far = std::max(so_far, of_column[static_cast<std::size_t>(s)]);
      }
    }
  }
  double sum = 0.0;
  std::int64_t over = 0;
  for (float& value : out.max_cosine) {
    value = std::min(value, 1.0F);  // rounding may lift equal directions above it
    sum += static_cast<double>(value);
    over += value > 0.9F ? 1 : 0;
  }
  const bool any = h >= 2;
  out.max_cosine_mean = any ? sum / static_cast<double>(compared) : kNaN;
  out.max_cosine_over_90_percent =
      any ? static_cast<double>(over) / static_cast<double>(compared) : kNaN;
  return out;
}

}  // namespace drrik
