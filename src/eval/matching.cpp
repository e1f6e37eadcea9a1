#include "drrik/eval/matching.h"

#include <algorithm>
#include <cmath>

#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/threads.h"
#include "drrik/ops/convert.h"
#include "drrik/ops/gemm.h"

namespace drrik {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

Tensor unit_directions(const Sae& sae) {
  Tensor out = Tensor::zeros<float>({sae.d_sae(), sae.d_out()});
  const auto rows = out.mutable_mat<float>();
  for (std::int64_t j = 0; j < sae.d_sae(); ++j) {
    const std::vector<float> direction = sae.decoder_direction(j);
    const double norm = std::sqrt(sum_squares(direction));
    if (!(norm > 0)) continue;
    for (std::size_t c = 0; c < direction.size(); ++c) {
      rows.row(j)[c] = static_cast<float>(static_cast<double>(direction[c]) / norm);
    }
  }
  return out;
}

}  // namespace

FeatureMatch match_features(const Sae& a, const Sae& b) {
  if (a.d_out() != b.d_out()) {
    throw_data("matching features: directions of width ", a.d_out(), " and ", b.d_out());
  }
  const Tensor of_a = unit_directions(a);
  const Weight of_b = Weight::pack(unit_directions(b), Compute::kF32);
  FeatureMatch match;
  match.cosine.assign(at(a.d_sae()), 0.0F);
  match.partner.assign(at(a.d_sae()), 0);
  std::vector<float> best_of_b(at(b.d_sae()), -2.0F);
  std::vector<std::int32_t> partner_of_b(at(b.d_sae()), -1);
  constexpr std::int64_t kTile = 256;
  Tensor tile = Tensor::uninitialized(DType::kF32, {std::min(kTile, a.d_sae()), b.d_sae()});
  for (std::int64_t first = 0; first < a.d_sae(); first += kTile) {
    check_interrupt("matching features");
    const std::int64_t n = std::min(kTile, a.d_sae() - first);
    const auto cosines = tile.mutable_mat<float>().rows_range(0, n);
    linear(of_a.mat<float>().rows_range(first, n), of_b, {}, cosines);
    parallel_for(n, 4, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const auto row = cosines.row(i);
        const auto best = std::ranges::max_element(row);
        match.cosine[at(first + i)] = *best;
        match.partner[at(first + i)] = static_cast<std::int32_t>(best - row.begin());
      }
    });
    parallel_for(b.d_sae(), 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = 0; i < n; ++i) {
        const auto row = cosines.row(i);
        for (std::int64_t j = begin; j < end; ++j) {
          if (row[at(j)] <= best_of_b[at(j)]) continue;
          best_of_b[at(j)] = row[at(j)];
          partner_of_b[at(j)] = static_cast<std::int32_t>(first + i);
        }
      }
    });
  }
  for (std::int64_t i = 0; i < a.d_sae(); ++i) {
    const float cosine = match.cosine[at(i)];
    match.mean_max_cosine += static_cast<double>(cosine);
    match.matched += cosine >= 0.7F ? 1.0 : 0.0;
    match.mutual += partner_of_b[at(match.partner[at(i)])] == i ? 1.0 : 0.0;
  }
  const auto h = static_cast<double>(a.d_sae());
  match.mean_max_cosine /= h;
  match.matched /= h;
  match.mutual /= h;
  return match;
}

}  // namespace drrik
