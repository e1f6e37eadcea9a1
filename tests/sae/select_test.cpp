// The selection of active entries against sorting everything.

#include "drrik/ops/sae_select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <tuple>
#include <vector>

#include "drrik/base/rng.h"
#include "drrik/base/threads.h"
#include "sae/made.h"

namespace drrik {
namespace {

using testing::normal_rows;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

struct Entry {
  std::int64_t latent = 0, row = 0;
  float h = 0.0F;
  bool operator==(const Entry&) const = default;
};

struct Problem {
  Tensor pre_t;  // [h, B]
  std::vector<float> bias;
  SaeSelection selection;
};

// `coarse` makes many values equal.
Problem problem(SaeSelection::Kind kind, std::int64_t h, std::int64_t rows, std::int64_t k,
                bool scaled, bool coarse) {
  Problem p;
  p.pre_t = normal_rows(h, rows, 3);
  Rng rng(4);
  for (std::int64_t j = 0; j < h; ++j) p.bias.push_back(coarse ? 0.0F : 0.3F * rng.normal());
  if (coarse) {
    for (float& v : p.pre_t.mutable_data<float>()) v = static_cast<float>(static_cast<int>(v * 2));
  }
  p.selection.kind = kind;
  p.selection.k = k;
  if (scaled) {
    for (std::int64_t j = 0; j < h; ++j) p.selection.scale.push_back(0.5F + rng.uniform());
  }
  if (kind == SaeSelection::Kind::kThreshold) {
    for (std::int64_t j = 0; j < h; ++j) p.selection.threshold.push_back(rng.normal());
  }
  return p;
}

// All entries that the definition lets through, by latent, then row.
std::vector<Entry> sorted_out(const Problem& p) {
  const auto pre = p.pre_t.mat<float>();
  const SaeSelection& s = p.selection;
  const auto value = [&](std::int64_t j, std::int64_t r) { return pre(j, r) + p.bias[at(j)]; };
  const auto scaled = [&](const Entry& e) {
    return s.scale.empty() ? e.h : e.h * s.scale[at(e.latent)];
  };
  std::vector<Entry> all;
  for (std::int64_t j = 0; j < pre.rows(); ++j) {
    for (std::int64_t r = 0; r < pre.cols(); ++r) {
      const Entry e{j, r, value(j, r)};
      const bool in =
          s.kind == SaeSelection::Kind::kThreshold ? e.h > s.threshold[at(j)] : scaled(e) > s.floor;
      if (in) all.push_back(e);
    }
  }
  if (s.kind == SaeSelection::Kind::kThreshold) return all;
  const auto better = [&](const Entry& a, const Entry& b) {
    return std::tuple(-scaled(a), a.latent, a.row) < std::tuple(-scaled(b), b.latent, b.row);
  };
  std::vector<Entry> kept;
  if (s.kind == SaeSelection::Kind::kBatchTopK) {
    std::sort(all.begin(), all.end(), better);
    all.resize(std::min(all.size(), at(s.k * pre.cols())));
    kept = all;
  } else {
    for (std::int64_t r = 0; r < pre.cols(); ++r) {
      std::vector<Entry> row;
      std::copy_if(all.begin(), all.end(), std::back_inserter(row),
                   [&](const Entry& e) { return e.row == r; });
      std::sort(row.begin(), row.end(), better);
      row.resize(std::min(row.size(), at(s.k)));
      kept.insert(kept.end(), row.begin(), row.end());
    }
  }
  std::sort(kept.begin(), kept.end(), [](const Entry& a, const Entry& b) {
    return std::tuple(a.latent, a.row) < std::tuple(b.latent, b.row);
  });
  return kept;
}

std::vector<Entry> selected(const Problem& p, std::int64_t chunk) {
  SaeSelector selector;
  ActiveEntries entries;
  const auto pre = p.pre_t.mat<float>();
  // Twice with the same buffers: nothing may be left of the batch before.
  for (int round = 0; round < 2; ++round) {
    selector.begin(p.selection, pre.cols(), pre.rows(), entries);
    for (std::int64_t first = 0; first < pre.rows(); first += chunk) {
      const std::int64_t n = std::min(chunk, pre.rows() - first);
      selector.add(pre.rows_range(first, n), std::span(p.bias).subspan(at(first), at(n)), first);
    }
    selector.finish();
  }
  std::vector<Entry> out;
  for (std::int64_t j = 0; j < entries.latents; ++j) {
    for (std::int64_t e = entries.start[at(j)]; e < entries.start[at(j + 1)]; ++e) {
      out.push_back({j, entries.row[at(e)], entries.pre[at(e)]});
    }
  }
  // The order by row names the same entries.
  for (std::int64_t r = 0; r < entries.rows; ++r) {
    for (std::int64_t e = entries.row_start[at(r)]; e < entries.row_start[at(r + 1)]; ++e) {
      const Entry& there = out[at(entries.position[at(e)])];
      EXPECT_EQ(there.row, r);
      EXPECT_EQ(there.latent, entries.latent[at(e)]);
    }
  }
  EXPECT_EQ(entries.count, static_cast<std::int64_t>(out.size()));
  return out;
}

using Case = std::tuple<SaeSelection::Kind, bool, bool>;
class Selection : public ::testing::TestWithParam<Case> {};

TEST_P(Selection, TakesWhatSortingTakes) {
  const auto [kind, scaled, coarse] = GetParam();
  const int threads = num_threads();
  for (const std::int64_t h : {5, 64, 777}) {
    for (const std::int64_t k : {1, 4, 5}) {
      const Problem p = problem(kind, h, 67, k, scaled, coarse);
      const std::vector<Entry> wanted = sorted_out(p);
      for (const std::int64_t chunk : {3, 64, 1000}) {
        for (const int team : {1, 3}) {
          set_num_threads(team);
          EXPECT_EQ(selected(p, chunk), wanted) << h << " latents, k " << k << ", chunk " << chunk;
        }
      }
    }
  }
  set_num_threads(threads);
}

TEST_P(Selection, OfOneRowAgreesWithTheBatch) {
  const auto [kind, scaled, coarse] = GetParam();
  if (kind == SaeSelection::Kind::kBatchTopK) return;
  for (const std::int64_t h : {5, 3000}) {
    const Problem p = problem(kind, h, 9, 5, scaled, coarse);
    const std::vector<Entry> wanted = sorted_out(p);
    std::vector<Entry> got;
    for (std::int64_t r = 0; r < 9; ++r) {
      std::vector<float> pre;
      for (std::int64_t j = 0; j < h; ++j) pre.push_back(p.pre_t.mat<float>()(j, r));
      std::vector<std::int32_t> latent(at(h) + 16);
      std::vector<float> value(at(h) + 16);
      const std::int64_t n = sae_select_row(pre, p.bias, p.selection, latent.data(), value.data());
      for (std::int64_t e = 0; e < n; ++e) got.push_back({latent[at(e)], r, value[at(e)]});
    }
    std::sort(got.begin(), got.end(), [](const Entry& a, const Entry& b) {
      return std::tuple(a.latent, a.row) < std::tuple(b.latent, b.row);
    });
    EXPECT_EQ(got, wanted) << h;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, Selection,
                         ::testing::Combine(::testing::Values(SaeSelection::Kind::kThreshold,
                                                              SaeSelection::Kind::kTopK,
                                                              SaeSelection::Kind::kBatchTopK),
                                            ::testing::Bool(), ::testing::Bool()));

TEST(Selection, WithoutAFloorTakesNegativeValues) {
  Problem p = problem(SaeSelection::Kind::kTopK, 40, 8, 39, false, false);
  p.selection.floor = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(selected(p, 16), sorted_out(p));
  EXPECT_EQ(selected(p, 16).size(), 39U * 8U);
}

TEST(Selection, SaysWhatDoesNotFit) {
  SaeSelector selector;
  ActiveEntries entries;
  SaeSelection selection;
  EXPECT_THROW(selector.begin(selection, 4, 8, entries), Error);
  selection.threshold.assign(8, 0.0F);
  selector.begin(selection, 4, 8, entries);
  EXPECT_THROW(selector.finish(), Error);
  EXPECT_THROW(
      sae_select_row(std::vector<float>(3), std::vector<float>(2), selection, nullptr, nullptr),
      Error);
}

}  // namespace
}  // namespace drrik
