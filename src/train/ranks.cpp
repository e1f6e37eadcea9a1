#include "train/ranks.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <vector>

#include "drrik/base/threads.h"
#include "drrik/ops/convert.h"
#include "train/step_parts.h"

namespace drrik {

using step::at;

double variance_of(MatView<const float> y, std::int64_t rows, Communicator& ranks) {
  constexpr std::int64_t kBlock = 64;  // rows; fixed, so that threads do not matter
  const std::int64_t blocks = (y.rows() + kBlock - 1) / kBlock;
  const std::int64_t d = y.cols();
  std::vector<double> sums(at(blocks * d), 0.0);
  std::vector<double> squares(at(blocks), 0.0);
  parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      double* sum = sums.data() + b * d;
      for (std::int64_t r = b * kBlock; r < std::min(y.rows(), (b + 1) * kBlock); ++r) {
        const float* row = y.row_ptr(r);
        for (std::int64_t c = 0; c < d; ++c) sum[c] += static_cast<double>(row[c]);
        squares[at(b)] += sum_squares(y.row(r));
      }
    }
  });
  const auto n = static_cast<double>(rows);
  std::vector<double> whole(at(d + 1), 0.0);  // of each column, then of the squares
  for (const double s : squares) whole.back() += s;
  for (std::int64_t c = 0; c < d; ++c) {
    for (std::int64_t b = 0; b < blocks; ++b) whole[at(c)] += sums[at(b * d + c)];
  }
  ranks.sum(std::span(whole));
  double mean_square = 0.0;
  for (std::int64_t c = 0; c < d; ++c) mean_square += whole[at(c)] / n * (whole[at(c)] / n);
  return whole.back() / n - mean_square;
}

SaeCut find_cut(std::span<const float> values, std::int64_t wanted, Communicator& ranks) {
  std::vector<std::uint32_t> keys(values.size());  // in the order of the values
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(values[i] + 0.0F);  // −0 is 0
    keys[i] = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  }
  std::uint32_t prefix = 0;
  std::int64_t left = wanted;  // of those that share the prefix
  std::int64_t mine = 0;       // this rank's that share it
  for (int shift = 24; shift >= 0; shift -= 8) {
    std::vector<std::int64_t> counts(256, 0);
    for (const std::uint32_t key : keys) {
      if (shift < 24 && key >> (shift + 8) != prefix) continue;
      ++counts[(key >> shift) & 0xFFU];
    }
    const std::vector<std::int64_t> own = counts;
    ranks.sum(std::span(counts));
    if (shift == 24) {
      std::int64_t all = 0;
      for (const std::int64_t n : counts) all += n;
      if (all <= wanted) {
        return {-std::numeric_limits<float>::infinity(), std::numeric_limits<std::int64_t>::max()};
      }
    }
    std::uint32_t byte = 255;
    for (; counts[byte] < left; --byte) left -= counts[byte];
    prefix = prefix << 8 | byte;
    mine = own[byte];
  }
  const std::vector<std::int64_t> one(at(ranks.size()), 1);
  std::vector<std::int64_t> equal(one.size());
  ranks.all_gather(std::span<const std::int64_t>(&mine, 1), one, std::span(equal));
  for (int r = 0; r < ranks.rank(); ++r) left -= equal[at(r)];
  const std::uint32_t bits = (prefix & 0x80000000U) != 0 ? prefix & 0x7FFFFFFFU : ~prefix;
  return {std::bit_cast<float>(bits), std::clamp<std::int64_t>(left, 0, mine)};
}

}  // namespace drrik
