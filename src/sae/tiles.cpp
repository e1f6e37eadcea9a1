#include "sae/tiles.h"

#include <vector>

#include "drrik/base/threads.h"
#include "drrik/ops/sae_kernels.h"

namespace drrik {

void append_active(MatView<const float> pre, std::span<const float> bias, SparseRows& out) {
  if (out.row_start.empty()) out.row_start.push_back(0);
  constexpr std::int64_t kBlock = 16;  // rows; parts are joined in order
  struct Part {
    std::vector<std::int64_t> counts;
    std::vector<std::int32_t> latent;
    std::vector<float> value;
  };
  std::vector<Part> parts(static_cast<std::size_t>((pre.rows() + kBlock - 1) / kBlock));
  const auto room = static_cast<std::size_t>(pre.cols()) + 16;
  parallel_for(
      static_cast<std::int64_t>(parts.size()), 1, [&](std::int64_t begin, std::int64_t end) {
        std::vector<std::int32_t> latent(room);
        std::vector<float> value(room);
        for (std::int64_t b = begin; b < end; ++b) {
          Part& part = parts[static_cast<std::size_t>(b)];
          const std::int64_t stop = std::min(pre.rows(), (b + 1) * kBlock);
          for (std::int64_t r = b * kBlock; r < stop; ++r) {
            const std::int64_t n = sae_collect_row(pre.row(r), bias, latent.data(), value.data());
            part.counts.push_back(n);
            part.latent.insert(part.latent.end(), latent.begin(), latent.begin() + n);
            part.value.insert(part.value.end(), value.begin(), value.begin() + n);
          }
        }
      });
  for (const Part& part : parts) {
    for (const std::int64_t n : part.counts) out.row_start.push_back(out.row_start.back() + n);
    out.latent.insert(out.latent.end(), part.latent.begin(), part.latent.end());
    out.value.insert(out.value.end(), part.value.begin(), part.value.end());
  }
}

void relu_rows(MatView<float> pre, std::span<const float> bias) {
  parallel_for(pre.rows(), std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(pre.cols(), 1)),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t r = begin; r < end; ++r) {
                   float* row = pre.row_ptr(r);
                   for (std::int64_t j = 0; j < pre.cols(); ++j) {
                     const float v = row[j] + bias[static_cast<std::size_t>(j)];
                     row[j] = v <= 0.0F ? 0.0F : v;
                   }
                 }
               });
}

}  // namespace drrik
