#include <algorithm>
#include <atomic>
#include <numeric>

#include "activations/ahead.h"
#include "activations/fixture.h"
#include "activations/shuffle_buffer.h"
#include "activations/sink_filter.h"

namespace drrik {
namespace {

using detail::Ahead;
using detail::ShuffleBuffer;
using detail::SinkFilter;

TEST(Ahead, GivesResultsInOrderThenTheException) {
  std::atomic<int> made = 0;
  Ahead<int> ahead(
      [&]() -> std::optional<int> {
        if (made == 5) throw_data("five is enough");
        return made++;
      },
      2, 1);
  for (int i = 0; i < 5; ++i) {
    const auto got = ahead.next();
    ASSERT_TRUE(got);
    EXPECT_EQ(*got, i);
    EXPECT_LE(made, i + 4);  // what was given, two that wait, one being made
  }
  EXPECT_ERROR(ahead.next(), kData, "five is enough");
  EXPECT_ERROR(ahead.next(), kData, "five is enough");
}

TEST(Ahead, EndsAndMayBeLeftEarly) {
  int left = 3;
  const auto count_down = [&]() -> std::optional<int> {
    if (left == 0) return std::nullopt;
    return left--;
  };
  {
    Ahead<int> ahead(count_down, 1, 1);
    for (int i = 3; i > 0; --i) EXPECT_EQ(ahead.next(), i);
    EXPECT_FALSE(ahead.next());
    EXPECT_FALSE(ahead.next());
  }
  left = 1'000'000;
  { const Ahead<int> ahead(count_down, 1, 1); }
  EXPECT_GT(left, 999'990);
}

// A list in which the drawn one is replaced or, at the end, by the last: the same by hand.
void draws_as_a_list_would(std::uint64_t seed) {
  constexpr std::int64_t kCapacity = 7;
  Rng order(seed);
  Rng same(seed);
  std::vector<std::int64_t> numbers(200);
  std::iota(numbers.begin(), numbers.end(), 0);
  const auto row_of = [&](std::int64_t i) {
    return reinterpret_cast<detail::RowBytes>(&numbers[static_cast<std::size_t>(i)]);
  };
  const auto number = [](detail::RowBytes row) {
    std::int64_t out = 0;
    std::copy_n(row, sizeof out, reinterpret_cast<std::byte*>(&out));
    return out;
  };
  ShuffleBuffer buffer(kCapacity, sizeof(std::int64_t));
  std::vector<std::int64_t> list;
  std::vector<detail::RowBytes> first;
  for (std::int64_t i = 0; i < kCapacity; ++i) {
    list.push_back(i);
    first.push_back(row_of(i));
  }
  buffer.fill(first);
  EXPECT_TRUE(buffer.full());
  std::int64_t next = kCapacity;
  std::vector<std::int64_t> seen;
  // Many draws at a time, so that places are drawn again before what came in was written there.
  for (const std::int64_t incoming : {40, 1, 0, 60, 3, 0}) {
    std::vector<detail::RowBytes> rows;
    for (std::int64_t i = 0; i < incoming; ++i) rows.push_back(row_of(next + i));
    // From the last ones on the buffer empties: two places, then the rest.
    const std::int64_t count = incoming == 3                ? 5
                               : incoming == 0 && next > 50 ? buffer.size()
                                                            : incoming;
    std::vector<detail::RowBytes> drawn(static_cast<std::size_t>(count));
    EXPECT_EQ(buffer.draw(order, rows, drawn), std::min(incoming, count));
    std::int64_t used = 0;
    for (const detail::RowBytes row : drawn) {
      const auto at = static_cast<std::size_t>(same.below(list.size()));
      EXPECT_EQ(number(row), list[at]);
      seen.push_back(list[at]);
      if (used < incoming) {
        list[at] = next + used++;
      } else {
        list[at] = list.back();
        list.pop_back();
      }
    }
    buffer.settle();
    next += incoming;
    ASSERT_EQ(buffer.size(), static_cast<std::int64_t>(list.size()));
    for (std::size_t i = 0; i < list.size(); ++i) {
      EXPECT_EQ(number(buffer.data() + i * sizeof(std::int64_t)), list[i]);
    }
    if (buffer.size() == 0) break;
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_TRUE(std::adjacent_find(seen.begin(), seen.end()) == seen.end());
}

// Enough of them that places left by others are drawn and left again, in every order.
TEST(ShuffleBuffer, DrawsAsAListWould) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(seed);
    draws_as_a_list_would(seed);
  }
}

TEST(ShuffleBuffer, RefusesSizesBeyondMemory) {
  EXPECT_ERROR(ShuffleBuffer(std::int64_t{1} << 62, 4), kData, "shuffle buffer");
}

TEST(SinkFilter, KeepsWhatIsNearTheMedian) {
  SinkFilter filter(10.0, 2);
  // Squares; the second site's median is 100 times the first's.
  const std::vector<float> norms = {1.0F,   100.0F, 1.1F, 110.0F, 98.0F, 100.0F,
                                    103.0F, 100.0F, 0.0F, 9e3F,   1.0F,  1.2e4F};
  // Medians 1 (of .. 1, 1, 1.1 ..) and 100: limits of 100 and 10,000, to 1.6 %.
  EXPECT_EQ(filter.keep(norms), (std::vector<std::int64_t>{0, 1, 2, 4}));
  // Medians are of all rows so far: of eight now, 1.1 and 110.
  EXPECT_TRUE(filter.keep(std::vector<float>{400.0F, 1e4F, 400.0F, 1e4F}).empty());
  SinkFilter other(10.0, 2);
  other.set_counts(filter.counts());
  const std::vector<float> later = {2e4F, 1e4F, 400.0F, 1e4F};  // medians 98 and 9,000
  EXPECT_EQ(filter.keep(later), (std::vector<std::int64_t>{1}));
  EXPECT_EQ(other.keep(later), (std::vector<std::int64_t>{1}));
  other.clear();
  EXPECT_EQ(other.keep(later), (std::vector<std::int64_t>{0, 1}));
  // More than half are zero: nothing says what is long.
  SinkFilter zeros(10.0, 1);
  EXPECT_EQ(zeros.keep(std::vector<float>{0.0F, 0.0F, 5.0F}).size(), 3U);
}

}  // namespace
}  // namespace drrik
