#include "train/dead_revival.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "train/ranks.h"
#include "train/step_parts.h"

namespace drrik {

using step::at;
using step::shaped;

std::int64_t DeadRevival::wanted() const {
  return options_.k > 0 ? options_.k : std::max<std::int64_t>(1, coder_.d_in() / 2);
}

void DeadRevival::begin(std::vector<std::int64_t> dead, std::span<const float> scale,
                        std::int64_t rows) {
  dead_ = std::move(dead);
  offered_ = 0;
  if (dead_.empty()) return;
  const auto n = static_cast<std::int64_t>(dead_.size());
  selection_.kind = SaeSelection::Kind::kTopK;
  selection_.k = std::min(wanted(), n);
  selection_.floor = options_.rectify ? 0.0F : -std::numeric_limits<float>::infinity();
  selection_.scale.clear();
  if (!scale.empty()) {
    for (const std::int64_t j : dead_) selection_.scale.push_back(scale[at(j)]);
  }
  selector_.begin(selection_, rows, n, entries_);
}

void DeadRevival::offer(MatView<const float> pre_t, std::int64_t first) {
  const std::size_t begin = offered_;
  while (offered_ < dead_.size() && dead_[offered_] < first + pre_t.rows()) ++offered_;
  const auto n = static_cast<std::int64_t>(offered_ - begin);
  if (n == 0) return;
  const auto pre = shaped(pre_, n, pre_t.cols());
  std::vector<float> bias;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t j = dead_[begin + at(i)];
    std::copy_n(pre_t.row_ptr(j - first), pre_t.cols(), pre.row_ptr(i));
    bias.push_back(coder_.b_enc()[at(j)]);
  }
  selector_.add(pre, bias, static_cast<std::int64_t>(begin));
}

double DeadRevival::run(MatView<const float> xc, MatView<const float> e, std::int64_t total_rows,
                        Communicator& ranks) {
  if (dead_.empty()) return 0.0;
  selector_.finish();
  const std::int64_t rows = xc.rows();
  const std::int64_t d_out = e.cols();
  const auto n = static_cast<std::int64_t>(dead_.size());
  const double inverse_rows = 1.0 / static_cast<double>(total_rows);
  double coefficient = options_.coefficient;
  if (options_.scale == AuxLoss::Scale::kResidualVariance) {
    const double variance = variance_of(e, total_rows, ranks);
    coefficient = variance > 0 ? coefficient / variance : 0.0;
  } else {
    coefficient *= std::min(1.0, static_cast<double>(n) / static_cast<double>(wanted()));
  }
  const auto decoder = shaped(decoder_, n, d_out);
  for (std::int64_t i = 0; i < n; ++i) {
    std::ranges::copy(coder_.decoder().row(dead_[at(i)]), decoder.row_ptr(i));
  }
  std::copy_n(entries_.pre.begin(), entries_.count, entries_.value.begin());
  const auto residual = shaped(residual_, rows, d_out);
  const auto encoder_grad = shaped(encoder_grad_, n, coder_.d_in());
  const auto decoder_grad = shaped(decoder_grad_, n, d_out);
  bias_grad_.assign(at(n), 0.0F);
  std::vector<double> error(at(rows), 0.0);
  const auto scale = static_cast<float>(2.0 * coefficient * inverse_rows);
  if (static_cast<double>(selection_.k) < step::kSparseBelow * static_cast<double>(n)) {
    std::vector<double> sums(at(rows), 0.0);
    sae_decode_active(entries_, decoder, e, scale, 0.0F, residual, error, sums);
    sae_gradients_active(entries_, xc, residual, encoder_grad, decoder_grad, bias_grad_);
  } else {
    const auto z = shaped(dense_, n, rows);
    step::scatter(entries_, 0, entries_.value, z);
    matmul(z, Trans::kYes, decoder, Trans::kNo, residual);
    sae_residual(residual, e, scale, error);
    matmul(z, Trans::kNo, residual, Trans::kNo, decoder_grad);
    matmul(decoder, Trans::kNo, residual, Trans::kYes, z);
    step::gather(entries_, 0, z, entries_.grad);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t p = entries_.start[at(i)]; p < entries_.start[at(i + 1)]; ++p) {
        bias_grad_[at(i)] += entries_.grad[at(p)];
      }
    }
    step::scatter(entries_, 0, entries_.grad, z);
    matmul(z, Trans::kNo, xc, Trans::kNo, encoder_grad);
  }
  return coefficient * step::sum_of(error) * inverse_rows;
}

void DeadRevival::add_to(SaeSweepBatch& batch) const {
  if (dead_.empty()) return;
  batch.extra_latents = dead_;
  batch.extra_encoder_grad = encoder_grad_.mat<float>();
  batch.extra_decoder_grad = decoder_grad_.mat<float>();
  batch.extra_bias_grad = bias_grad_;
}

}  // namespace drrik
