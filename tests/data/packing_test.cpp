#include "drrik/data/packing.h"

#include <gtest/gtest.h>

#include "drrik/base/error.h"
#include "drrik/base/rng.h"

namespace drrik {
namespace {

using Ids = std::vector<std::int32_t>;

TEST(Packing, CutsContextsAcrossDocuments) {
  PackingOptions options;
  options.context_size = 4;
  options.separator = 0;
  Packer packer(options);
  packer.add(Ids{1, 2}, 10);
  EXPECT_FALSE(packer.next().has_value());
  packer.add(Ids{}, 11);
  packer.add(Ids{3, 4, 5, 6, 7}, 12);
  auto first = packer.next();
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->ids, (Ids{1, 2, 0, 3}));
  ASSERT_EQ(first->segments.size(), 2U);
  EXPECT_EQ(first->segments[1].begin, 3);
  EXPECT_EQ(first->segments[1].length, 1);
  EXPECT_EQ(first->segments[1].document, 12);
  auto second = packer.next();
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(second->ids, (Ids{4, 5, 6, 7}));
  EXPECT_EQ(second->segments[0].document_begin, 1);
  packer.finish();
  EXPECT_FALSE(packer.next().has_value());
  EXPECT_EQ(packer.dropped_tokens(), 1);
}

TEST(Packing, KeepsTheTailOnRequest) {
  PackingOptions options;
  options.context_size = 3;
  options.prefix = 9;
  options.tail = PackingOptions::Tail::kKeep;
  Packer packer(options);
  packer.add(Ids{1, 2, 3}, 0);
  EXPECT_EQ(packer.next()->ids, (Ids{9, 1, 2}));
  EXPECT_FALSE(packer.next().has_value());
  packer.finish();
  EXPECT_EQ(packer.next()->ids, (Ids{3}));
  EXPECT_FALSE(packer.next().has_value());
  EXPECT_EQ(packer.dropped_tokens(), 0);
}

TEST(Packing, RefusesEmptyContexts) { EXPECT_THROW(Packer packer{PackingOptions{}}, Error); }

TEST(Packing, AgreesWithConcatenation) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    PackingOptions options;
    options.context_size = static_cast<std::int64_t>(1 + rng.below(17));
    if (rng.below(2) == 0) options.prefix = -1;
    if (rng.below(2) == 0) options.separator = -2;
    options.tail = PackingOptions::Tail::kKeep;
    Packer packer(options);
    Ids all;
    Ids got;
    const auto drain = [&] {
      while (const auto context = packer.next()) {
        std::int64_t covered = 0;
        for (const auto& segment : context->segments) {
          EXPECT_EQ(segment.begin, covered);
          EXPECT_GT(segment.length, 0);
          covered += segment.length;
        }
        EXPECT_EQ(covered, static_cast<std::int64_t>(context->ids.size()));
        got.insert(got.end(), context->ids.begin(), context->ids.end());
      }
    };
    for (std::int32_t document = 0; document < 300; ++document) {
      Ids ids(rng.below(12));
      for (auto& id : ids) id = static_cast<std::int32_t>(rng.below(100));
      packer.add(ids, document);
      if (!ids.empty()) {
        if (options.prefix) all.push_back(-1);
        all.insert(all.end(), ids.begin(), ids.end());
        if (options.separator) all.push_back(-2);
      }
      if (rng.below(3) == 0) drain();
    }
    packer.finish();
    drain();
    EXPECT_EQ(got, all);
  }
}

}  // namespace
}  // namespace drrik
