#include "drrik/train/normalization.h"

#include <cmath>

#include <gtest/gtest.h>

#include "drrik/base/error.h"
#include "drrik/base/rng.h"
#include "drrik/base/threads.h"
#include "drrik/sae/sparse_coder.h"

namespace drrik {
namespace {

/// Rows of two sites in order, the second half as wide.
class TwoSites final : public RowStream {
 public:
  TwoSites(std::int64_t rows, std::int64_t width, std::uint64_t seed)
      : sites_{{"mlp_in", "", 2, width}, {"mlp_out", "", 2, width / 2}}, rows_(rows) {
    Rng rng(seed);
    values_.resize(2);
    for (std::size_t s = 0; s < 2; ++s) {
      values_[s].resize(static_cast<std::size_t>(rows * sites_[s].width));
      for (float& v : values_[s]) v = (s == 0 ? 3.0F : 0.01F) * rng.normal() + 0.005F;
    }
  }
  const std::vector<RowSite>& sites() const override { return sites_; }
  std::int64_t next(std::span<const MatView<float>> out) override {
    const std::int64_t count = std::min(out[0].rows(), rows_ - at_);
    for (std::size_t s = 0; s < 2; ++s) {
      for (std::int64_t r = 0; r < count; ++r) {
        std::copy_n(row(s, at_ + r), sites_[s].width, out[s].row_ptr(r));
      }
    }
    at_ += count;
    return count;
  }
  void rewind() override { at_ = 0; }
  std::int64_t rows() const override { return rows_; }
  RowStreamState state() const override { return {std::to_string(at_), {}}; }
  void restore(const RowStreamState& state) override { at_ = std::stoll(state.json); }
  std::vector<std::pair<std::string, std::string>> facts() const override { return {}; }

  float* row(std::size_t site, std::int64_t r) {
    return values_[site].data() + r * sites_[site].width;
  }
  std::int64_t at() const { return at_; }
  double norm(std::size_t site, std::int64_t r) {
    double sum = 0.0;
    for (std::int64_t c = 0; c < sites_[site].width; ++c) {
      sum += static_cast<double>(row(site, r)[c]) * static_cast<double>(row(site, r)[c]);
    }
    return std::sqrt(sum);
  }

 private:
  std::vector<RowSite> sites_;
  std::int64_t rows_;
  std::vector<std::vector<float>> values_;
  std::int64_t at_ = 0;
};

// The definitions over rows 5 to 2,504: more than a batch, not from the start, not to the end.
TEST(InputScales, MeetTheirDefinitions) {
  TwoSites stream(4000, 12, 1);
  for (const auto after : {AfterEstimate::kGoBack, AfterEstimate::kGoOn}) {
    for (const auto kind :
         {InputNormalization::kExpectedAverageOnlyIn, InputNormalization::kUnitMeanSquare}) {
      stream.restore({"5", {}});
      const InputScales got = InputScales::estimate(stream, kind, 2500, after);
      EXPECT_EQ(stream.at(), after == AfterEstimate::kGoBack ? 5 : 2505);
      EXPECT_EQ(got.rows(), 2500);
      for (std::size_t s = 0; s < 2; ++s) {
        double norms = 0.0;
        double squares = 0.0;
        for (std::int64_t r = 5; r < 2505; ++r) {
          const double norm = got.scale(s) * stream.norm(s, r);
          norms += norm / 2500.0;
          squares += norm * norm / 2500.0;
        }
        // Sums of 2,500 doubles err by less than 2,500 · 2^-53.
        if (kind == InputNormalization::kUnitMeanSquare) {
          EXPECT_NEAR(squares, 1.0, 1e-12) << s;
          EXPECT_GT(std::fabs(norms - 1.0), 1e-3);  // and it is not the other one
        } else {
          EXPECT_NEAR(norms, std::sqrt(s == 0 ? 12.0 : 6.0), 1e-11) << s;
        }
      }
    }
  }
}

TEST(InputScales, DoNotDependOnThreads) {
  const int threads = num_threads();
  std::vector<std::vector<double>> got;
  for (const int n : {1, 2, 3}) {
    set_num_threads(n);
    TwoSites stream(3000, 10, 2);
    const auto scales = InputScales::estimate(stream, InputNormalization::kExpectedAverageOnlyIn,
                                              3000, AfterEstimate::kGoOn);
    got.emplace_back(scales.scales().begin(), scales.scales().end());
  }
  set_num_threads(threads);
  EXPECT_EQ(got[0], got[1]);
  EXPECT_EQ(got[0], got[2]);
}

TEST(InputScales, NoneReadsNothing) {
  TwoSites stream(10, 4, 3);
  const InputScales none =
      InputScales::estimate(stream, InputNormalization::kNone, 5, AfterEstimate::kGoOn);
  EXPECT_EQ(stream.at(), 0);
  EXPECT_EQ(none.scale(1), 1.0);
  EXPECT_EQ(InputScales().scale(7), 1.0);
  std::vector<float> values = {1.5F, -2.0F};
  none.apply(0, {values.data(), 1, 2});
  EXPECT_EQ(values, (std::vector<float>{1.5F, -2.0F}));
  EXPECT_EQ(none.facts()[0].second, "none");
}

TEST(InputScales, StopAtTheEndOfTheStream) {
  TwoSites stream(10, 4, 4);
  const InputScales got =
      InputScales::estimate(stream, InputNormalization::kUnitMeanSquare, 1'000'000);
  EXPECT_EQ(got.rows(), 10);
  EXPECT_EQ(got.facts()[0].second,
            "unit_mean_square, estimated from 10 rows, folded into what is saved");
  // What the record says is enough to make them again.
  const std::string text = got.facts()[1].second;
  const InputScales again(got.kind(), {std::stod(text), std::stod(text.substr(text.find(' ')))},
                          got.rows());
  EXPECT_EQ(again.scale(0), got.scale(0));
  EXPECT_EQ(again.scale(1), got.scale(1));
}

template <typename F>
void expect_error(ErrorKind kind, std::string_view part, F&& f) {
  try {
    f();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_NE(std::string_view(error.what()).find(part), std::string_view::npos) << error.what();
  }
}

TEST(InputScales, SayWhatIsWrong) {
  using enum InputNormalization;
  TwoSites stream(10, 4, 5);
  expect_error(ErrorKind::kUsage, "0 rows",
               [&] { InputScales::estimate(stream, kUnitMeanSquare, 0); });
  stream.restore({"10", {}});
  expect_error(ErrorKind::kData, "no row left",
               [&] { InputScales::estimate(stream, kUnitMeanSquare, 5); });
  stream.rewind();
  for (std::int64_t r = 0; r < 10; ++r) std::fill_n(stream.row(1, r), 2, 0.0F);
  for (const auto kind : {kUnitMeanSquare, kExpectedAverageOnlyIn}) {
    expect_error(ErrorKind::kNumeric, "mlp_out of layer 2",
                 [&] { InputScales::estimate(stream, kind, 5); });
    stream.rewind();
  }
  expect_error(ErrorKind::kUsage, "positive", [] { InputScales(kUnitMeanSquare, {1.0, -2.0}, 3); });
  expect_error(ErrorKind::kUsage, "wanted 1", [] { InputScales(kNone, {2.0}, 3); });
  for (const auto kind : {kNone, kExpectedAverageOnlyIn, kUnitMeanSquare}) {
    EXPECT_EQ(parse_input_normalization(input_normalization_name(kind)), kind);
  }
  expect_error(ErrorKind::kUsage, "did you mean 'unit_mean_square'",
               [] { parse_input_normalization("unit_mean_squares"); });
}

// A coder of scaled rows, folded, is that coder for raw ones. x̂ and its input go through two more
// roundings, 2^-24 each of values that are sums of a few: 1e-5 of the norm is ample.
TEST(InputScales, FoldIntoACoder) {
  SparseCoderConfig config;
  config.architecture = "standard";
  config.d_in = 12;
  config.d_sae = 40;
  Rng rng(6);
  const SparseCoder trained = SparseCoder::random(config, {}, rng);
  TwoSites stream(100, 12, 7);
  const auto scales =
      InputScales::estimate(stream, InputNormalization::kExpectedAverageOnlyIn, 100);
  SparseCoder folded = trained.clone();
  folded.fold_input_scale(scales.scale(0), scales.scale(0));
  std::vector<float> scaled(100 * 12);
  std::copy_n(stream.row(0, 0), scaled.size(), scaled.data());
  const MatView<float> x(scaled.data(), 100, 12);
  scales.apply(0, x);
  std::vector<float> want(scaled.size());
  std::vector<float> got(scaled.size());
  trained.reconstruct(x, {want.data(), 100, 12});
  folded.reconstruct({stream.row(0, 0), 100, 12}, {got.data(), 100, 12});
  double difference = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double value = static_cast<double>(want[i]) / scales.scale(0);
    difference += std::pow(static_cast<double>(got[i]) - value, 2.0);
    norm += value * value;
  }
  EXPECT_GT(norm, 0.0);
  EXPECT_LE(std::sqrt(difference / norm), 1e-5);
}

}  // namespace
}  // namespace drrik
