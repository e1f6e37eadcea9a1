#include "drrik/base/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "drrik/base/error.h"

namespace drrik {
namespace {

TEST(ParallelFor, VisitsEveryIndexOnce) {
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    for (const std::int64_t n : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(n));
      parallel_for(n, 1, [&](std::int64_t begin, std::int64_t end) {
        for (auto i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
      });
      for (const auto& count : seen) EXPECT_EQ(count.load(), 1);
    }
  }
}

TEST(ParallelFor, RethrowsOnTheCaller) {
  set_num_threads(2);
  EXPECT_THROW(parallel_for(100, 1,
                            [](std::int64_t begin, std::int64_t) {
                              if (begin > 0) throw_data("bad row");
                            }),
               Error);
}

TEST(ParallelFor, NestsWithoutMoreThreads) {
  set_num_threads(2);
  std::atomic<int> calls{0};
  parallel_for(2, 1, [&](std::int64_t, std::int64_t) {
    parallel_for(10, 1, [&](std::int64_t begin, std::int64_t end) {
      EXPECT_EQ(end - begin, 10);
      ++calls;
    });
  });
  EXPECT_EQ(calls.load(), 2);
}

TEST(Threads, RefusesLessThanOne) { EXPECT_THROW(set_num_threads(0), Error); }

}  // namespace
}  // namespace drrik
