// Parts of a source, sources side by side, and streams over several sites.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "drrik/activations/row_source.h"
#include "drrik/activations/row_stream.h"
#include "drrik/base/error.h"

namespace drrik {
namespace {

// Row r, column c holds 100 r + c.
Tensor numbered(std::int64_t rows, std::int64_t cols, float offset = 0.0F) {
  Tensor out = Tensor::zeros<float>({rows, cols});
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      out.mutable_mat<float>()(r, c) = static_cast<float>(100 * r + c) + offset;
    }
  }
  return out;
}

TEST(RowView, ShowsItsRowsAndColumnsOnly) {
  const Tensor rows = numbered(20, 6);
  const auto source = make_row_source(rows.mat<float>());
  const auto view = make_row_view(*source, 5, 15, 2, 3);
  EXPECT_EQ(view->rows(), 10);
  EXPECT_EQ(view->dim(), 3);
  Tensor out = Tensor::zeros<float>({4, 3});
  view->read(6, out.mutable_mat<float>());
  EXPECT_EQ(out.mat<float>()(0, 0), 1102.0F);
  EXPECT_EQ(out.mat<float>()(3, 2), 1404.0F);
  const std::vector<std::int64_t> numbers = {9, 0, 3, 3};
  view->gather(numbers, out.mutable_mat<float>());
  EXPECT_EQ(out.mat<float>()(0, 1), 1403.0F);
  EXPECT_EQ(out.mat<float>()(1, 0), 502.0F);
  EXPECT_EQ(out.mat<float>()(3, 2), 804.0F);
  const auto whole_width = make_row_view(*source, 19, 20, 0, 6);
  Tensor last = Tensor::zeros<float>({1, 6});
  whole_width->read(0, last.mutable_mat<float>());
  EXPECT_EQ(last.mat<float>()(0, 5), 1905.0F);
}

TEST(RowView, RefusesWhatLiesOutside) {
  const Tensor rows = numbered(20, 6);
  const auto source = make_row_source(rows.mat<float>());
  EXPECT_THROW(make_row_view(*source, 5, 21, 0, 6), Error);
  EXPECT_THROW(make_row_view(*source, -1, 2, 0, 6), Error);
  EXPECT_THROW(make_row_view(*source, 0, 2, 4, 3), Error);
  EXPECT_THROW(make_row_view(*source, 0, 2, 0, 0), Error);
}

TEST(JoinedRows, StandSideBySide) {
  const Tensor a = numbered(9, 2);
  const Tensor b = numbered(9, 3, 0.5F);
  const auto left = make_row_source(a.mat<float>());
  const auto right = make_row_source(b.mat<float>());
  const auto joined = make_joined_rows({left.get(), right.get()});
  EXPECT_EQ(joined->dim(), 5);
  Tensor out = Tensor::zeros<float>({2, 5});
  joined->gather(std::vector<std::int64_t>{8, 1}, out.mutable_mat<float>());
  EXPECT_EQ(out.mat<float>()(0, 1), 801.0F);
  EXPECT_EQ(out.mat<float>()(0, 2), 800.5F);
  EXPECT_EQ(out.mat<float>()(1, 4), 102.5F);
  joined->read(3, out.mutable_mat<float>());
  EXPECT_EQ(out.mat<float>()(1, 0), 400.0F);
  EXPECT_EQ(out.mat<float>()(1, 4), 402.5F);
  const Tensor c = numbered(8, 1);
  const auto shorter = make_row_source(c.mat<float>());
  EXPECT_THROW(make_joined_rows({left.get(), shorter.get()}), Error);
}

TEST(StoreStream, GivesEveryRowOnceAPassWithItsSitesTogether) {
  const Tensor rows = numbered(50, 5);
  const auto source = make_row_source(rows.mat<float>());
  StoreStreamOptions options;
  options.begin = 10;
  options.end = 47;
  const auto stream = make_store_stream(*source, {{"a", "", 0, 2}, {"b", "", 1, 3}}, options);
  std::vector<std::vector<float>> passes;
  for (int pass = 0; pass < 2; ++pass) {
    std::vector<float> order;
    Tensor a = Tensor::zeros<float>({8, 2});
    Tensor b = Tensor::zeros<float>({8, 3});
    while (true) {
      const std::vector<MatView<float>> out = {a.mutable_mat<float>(), b.mutable_mat<float>()};
      const std::int64_t n = stream->next(out);
      if (n == 0) break;
      for (std::int64_t r = 0; r < n; ++r) {
        EXPECT_EQ(b.mat<float>()(r, 0), a.mat<float>()(r, 0) + 2.0F);
        order.push_back(a.mat<float>()(r, 0));
      }
    }
    passes.push_back(order);
    stream->rewind();
  }
  EXPECT_NE(passes[0], passes[1]);
  for (auto& pass : passes) {
    std::ranges::sort(pass);
    ASSERT_EQ(pass.size(), 37U);
    for (std::size_t i = 0; i < pass.size(); ++i) {
      EXPECT_EQ(pass[i], static_cast<float>(100 * (10 + i)));
    }
  }
}

TEST(StoreStream, GoesOnFromItsState) {
  const Tensor rows = numbered(50, 2);
  const auto source = make_row_source(rows.mat<float>());
  const auto stream = make_store_stream(*source, {{"a", "", 0, 2}});
  Tensor out = Tensor::zeros<float>({7, 2});
  const std::vector<MatView<float>> room = {out.mutable_mat<float>()};
  stream->next(room);
  const RowStreamState state = stream->state();
  stream->next(room);
  const Tensor wanted = out.clone();
  const auto other = make_store_stream(*source, {{"a", "", 0, 2}});
  other->restore(state);
  other->next(room);
  EXPECT_TRUE(std::ranges::equal(out.data<float>(), wanted.data<float>()));
  const auto shuffled_otherwise = make_store_stream(*source, {{"a", "", 0, 2}}, {.seed = 7});
  try {
    shuffled_otherwise->restore(state);
    ADD_FAILURE() << "nothing thrown";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("seed"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace drrik
