// A batch divided among ranks: the shares, one behind the other, are the batch.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "drrik/activations/row_stream.h"
#include "drrik/base/error.h"

namespace drrik {
namespace {

constexpr std::int64_t kRows = 23;
constexpr std::int64_t kBatch = 8;  // the last one of a pass has 7

// Leaves out what a store overrides.
class Plain final : public RowStream {
 public:
  explicit Plain(std::unique_ptr<RowStream> inner) : inner_(std::move(inner)) {}
  const std::vector<RowSite>& sites() const override { return inner_->sites(); }
  std::int64_t next(std::span<const MatView<float>> out) override { return inner_->next(out); }
  void rewind() override { inner_->rewind(); }
  std::int64_t rows() const override { return inner_->rows(); }
  RowStreamState state() const override { return inner_->state(); }
  void restore(const RowStreamState& state) override { inner_->restore(state); }
  std::vector<std::pair<std::string, std::string>> facts() const override {
    return inner_->facts();
  }

 private:
  std::unique_ptr<RowStream> inner_;
};

class RowShares : public ::testing::TestWithParam<bool> {
 protected:
  RowShares() {
    Tensor rows = Tensor::zeros<float>({kRows, 5});
    float v = 0.0F;
    for (float& x : rows.mutable_data<float>()) x = v++;
    source_ = make_row_source(std::move(rows));
  }

  std::unique_ptr<RowStream> stream() const {
    auto store = make_store_stream(*source_, {{"a", "", 0, 2}, {"b", "", 1, 3}});
    if (GetParam()) return store;
    return std::make_unique<Plain>(std::move(store));
  }

  std::unique_ptr<RowSource> source_;
};

TEST_P(RowShares, LieBehindEachOtherInTheBatch) {
  for (const int ranks : {1, 2, 3, 11}) {
    const auto whole = stream();
    std::vector<std::unique_ptr<RowStream>> parts;
    for (int r = 0; r < ranks; ++r) parts.push_back(stream());
    for (int batch = 0; batch < 7; ++batch) {  // two passes and their ends
      Tensor a = Tensor::zeros<float>({kBatch, 2});
      Tensor b = Tensor::zeros<float>({kBatch, 3});
      const std::vector<MatView<float>> all = {a.mutable_mat<float>(), b.mutable_mat<float>()};
      const std::int64_t n = whole->next(all);
      std::int64_t row = 0;
      for (int r = 0; r < ranks; ++r) {
        const std::int64_t room = (kBatch + ranks - 1) / ranks;
        Tensor x = Tensor::zeros<float>({room, 2});
        Tensor y = Tensor::zeros<float>({room, 3});
        const std::vector<MatView<float>> out = {x.mutable_mat<float>(), y.mutable_mat<float>()};
        ASSERT_EQ(parts[static_cast<std::size_t>(r)]->next_share(out, kBatch, r, ranks), n);
        const RowShare share = row_share(n, r, ranks);
        ASSERT_EQ(share.begin, row);
        for (std::int64_t i = 0; i < share.count(); ++i, ++row) {
          EXPECT_TRUE(std::ranges::equal(out[0].row(i), all[0].row(row)));
          EXPECT_TRUE(std::ranges::equal(out[1].row(i), all[1].row(row)));
        }
      }
      EXPECT_EQ(row, n);
      if (n > 0) continue;
      whole->rewind();
      for (const auto& part : parts) part->rewind();
    }
  }
}

TEST_P(RowShares, NeedTheirRoom) {
  Tensor x = Tensor::zeros<float>({3, 2});
  Tensor y = Tensor::zeros<float>({3, 3});
  const std::vector<MatView<float>> out = {x.mutable_mat<float>(), y.mutable_mat<float>()};
  EXPECT_THROW(stream()->next_share(out, kBatch, 0, 2), Error);
}

INSTANTIATE_TEST_SUITE_P(Streams, RowShares, ::testing::Bool(), [](const auto& param_info) {
  return std::string(param_info.param ? "store" : "other");
});

}  // namespace
}  // namespace drrik
