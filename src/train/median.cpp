#include "train/median.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "activations/nonfinite.h"
#include "activations/row_order.h"
#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/threads.h"
#include "drrik/tensor/tensor.h"

namespace drrik {
namespace {

constexpr std::uint64_t kSampleEpoch = 0x6D656469616EU;  // an order that no epoch has
constexpr std::int64_t kDigitBits[] = {11, 11, 10};
constexpr std::size_t kBuckets = 2048;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// Unsigned integers in the order of the floats.
std::uint32_t ordered(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}
float unordered(std::uint32_t key) {
  return std::bit_cast<float>((key & 0x80000000U) != 0 ? key & 0x7FFFFFFFU : ~key);
}

// Calls f(block, row number of each of its rows) over the rows that count.
template <typename F>
void each_block(const RowSource& rows, std::int64_t n, std::int64_t count, std::uint64_t seed,
                F&& f) {
  const std::int64_t step = std::max<std::int64_t>(
      1, std::min(count, (std::int64_t{1} << 20) / std::max<std::int64_t>(rows.dim(), 1)));
  Tensor buffer = Tensor::uninitialized(DType::kF32, {step, rows.dim()});
  const RowOrder order(n, seed, kSampleEpoch);
  std::vector<std::int64_t> numbers;
  for (std::int64_t begin = 0; begin < count; begin += step) {
    check_interrupt("reading the training rows");
    const std::int64_t size = std::min(step, count - begin);
    const auto block = buffer.mutable_mat<float>().rows_range(0, size);
    numbers.resize(at(size));
    for (std::int64_t i = 0; i < size; ++i) {
      numbers[at(i)] = count == n ? begin + i : order(begin + i);
    }
    if (count == n) {
      rows.read(begin, block);
    } else {
      std::sort(numbers.begin(), numbers.end());  // the files are read forwards
      rows.gather(numbers, block);
    }
    f(MatView<const float>(block), numbers);
  }
}

}  // namespace

std::vector<float> column_medians(const RowSource& rows, std::int64_t n, std::int64_t max_rows,
                                  std::uint64_t seed) {
  const std::int64_t d = rows.dim();
  const std::int64_t count = std::min(n, max_rows);
  if (count < 1) throw_data("the median of no rows");
  std::vector<std::uint32_t> prefix(at(d), 0);
  std::vector<std::int64_t> rank(at(d), (count - 1) / 2);
  std::vector<std::uint32_t> counts(at(d) * kBuckets);
  int shift = 32;
  for (const std::int64_t bits : kDigitBits) {
    // Keys whose higher digits are those already found are counted by their next digit.
    const int above = shift;
    shift -= static_cast<int>(bits);
    const auto digit_mask = static_cast<std::uint32_t>((1U << bits) - 1U);
    std::fill(counts.begin(), counts.end(), 0U);
    each_block(rows, n, count, seed,
               [&](MatView<const float> block, const std::vector<std::int64_t>& numbers) {
                 parallel_for(d, 32, [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t r = 0; r < block.rows(); ++r) {
                     const float* row = block.row_ptr(r);
                     for (std::int64_t c = begin; c < end; ++c) {
                       if (!std::isfinite(row[c])) {
                         throw_data("activations: row ", numbers[at(r)], ", column ", c, " is ",
                                    detail::number_text(static_cast<double>(row[c])));
                       }
                       const std::uint32_t key = ordered(row[c]);
                       const std::uint32_t high = above == 32 ? 0U : key >> above;
                       if (high != prefix[at(c)]) continue;
                       ++counts[at(c) * kBuckets + ((key >> shift) & digit_mask)];
                     }
                   }
                 });
               });
    for (std::int64_t c = 0; c < d; ++c) {
      std::uint32_t digit = 0;
      while (rank[at(c)] >= static_cast<std::int64_t>(counts[at(c) * kBuckets + digit])) {
        rank[at(c)] -= static_cast<std::int64_t>(counts[at(c) * kBuckets + digit]);
        ++digit;
      }
      prefix[at(c)] = (prefix[at(c)] << bits) | digit;
    }
  }
  std::vector<float> medians(at(d));
  for (std::int64_t c = 0; c < d; ++c) medians[at(c)] = unordered(prefix[at(c)]);
  return medians;
}

}  // namespace drrik
