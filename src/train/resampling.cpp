#include "train/resampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "drrik/base/error.h"
#include "drrik/ops/convert.h"

namespace drrik {
namespace {

constexpr std::int64_t kMostRows = 8192;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

}  // namespace

RowReservoir::RowReservoir(std::int64_t d, std::int64_t latents) {
  const std::int64_t capacity = std::min(latents, kMostRows);
  rows_ = Tensor::zeros<float>({capacity, d});
  keys_ = Tensor::zeros<double>({capacity});
}

void RowReservoir::offer(MatView<const float> rows, std::span<const double> losses, Rng& rng) {
  const auto keys = keys_.mutable_data<double>();
  const auto capacity = static_cast<std::int64_t>(keys.size());
  // The least key of a full reservoir is at the front of the heap's order; keys and rows swap
  // together, so a linear search over at most 8192 keys is made only when a row enters.
  for (std::int64_t r = 0; r < rows.rows(); ++r) {
    const double u = rng.uniform_double();
    const double weight = losses[at(r)] * losses[at(r)];
    if (!(weight > 0)) continue;
    const double key = std::log(std::max(u, 0x1p-53)) / weight;
    std::int64_t to = size_;
    if (size_ == capacity) {
      to = std::min_element(keys.begin(), keys.end()) - keys.begin();
      if (keys[at(to)] >= key) continue;
    } else {
      ++size_;
    }
    keys[at(to)] = key;
    std::ranges::copy(rows.row(r), rows_.mutable_mat<float>().row(to).begin());
  }
}

std::vector<std::int64_t> RowReservoir::order() const {
  std::vector<std::int64_t> order(at(size_));
  std::iota(order.begin(), order.end(), 0);
  const auto keys = keys_.data<double>();
  std::ranges::stable_sort(
      order, [&](std::int64_t a, std::int64_t b) { return keys[at(a)] > keys[at(b)]; });
  return order;
}

void resample_latents(SparseCoder& coder, std::span<const std::int64_t> latents,
                      const RowReservoir& rows) {
  if (latents.empty() || rows.size() == 0) return;
  if (coder.d_in() != coder.d_out()) {
    throw_usage("resampling: a transcoder's dead latents cannot take rows of its input");
  }
  std::vector<std::uint8_t> dead(at(coder.d_sae()), 0);
  for (const std::int64_t j : latents) dead[at(j)] = 1;
  double encoder_norm = 0.0;
  double decoder_norm = 0.0;
  std::int64_t alive = 0;
  for (std::int64_t j = 0; j < coder.d_sae(); ++j) {
    if (dead[at(j)] != 0) continue;
    encoder_norm += std::sqrt(sum_squares(coder.encoder().row(j)));
    decoder_norm += std::sqrt(sum_squares(coder.decoder().row(j)));
    ++alive;
  }
  encoder_norm = alive > 0 ? encoder_norm / static_cast<double>(alive) : 0.1;
  decoder_norm = alive > 0 ? decoder_norm / static_cast<double>(alive) : 1.0;
  const std::vector<std::int64_t> order = rows.order();
  std::size_t next = 0;
  for (const std::int64_t j : latents) {
    const auto row = rows.row(order[next++ % order.size()]);
    const double norm = std::max(std::sqrt(sum_squares(row)), 1e-8);
    const auto decoder = coder.decoder().row(j);
    const auto encoder = coder.encoder().row(j);
    for (std::size_t c = 0; c < row.size(); ++c) {
      const double direction = static_cast<double>(row[c]) / norm;
      decoder[c] = static_cast<float>(direction * decoder_norm);
      encoder[c] = static_cast<float>(direction * 0.2 * encoder_norm);
    }
    coder.b_enc()[at(j)] = 0.0F;
  }
}

}  // namespace drrik
