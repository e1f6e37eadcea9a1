#include "drrik/train/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "drrik/base/error.h"
#include "drrik/base/threads.h"
#include "drrik/train/bench.h"
#include "train/memory_rows.h"
#include "train/stepper.h"

namespace drrik {
namespace {

using testing::MemoryRows;
using testing::sparse_rows;

ReluSae make_sae(std::int64_t d, std::int64_t h, double l1 = 0.01, std::uint64_t seed = 1) {
  ReluSaeConfig config;
  config.activation_dim = d;
  config.hidden_dim = h;
  config.l1_coefficient = l1;
  Rng rng(seed);
  return ReluSae::random(config, rng);
}

FitOptions quiet(std::int64_t batch, std::int64_t epochs) {
  FitOptions options;
  options.batch_size = batch;
  options.epochs = epochs;
  options.learning_rate = 3e-3;
  options.verbose = false;
  return options;
}

void expect_error(ErrorKind kind, const std::string& part, const std::function<void()>& f) {
  try {
    f();
    FAIL() << "no error; wanted one with '" << part << "'";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), kind) << e.what();
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

bool same_weights(const ReluSae& a, const ReluSae& b) {
  const auto same = [](auto x, auto y) { return std::equal(x.begin(), x.end(), y.begin()); };
  for (std::int64_t j = 0; j < a.d_sae(); ++j) {
    if (!same(a.encoder().row(j), b.encoder().row(j))) return false;
    if (!same(a.decoder().row(j), b.decoder().row(j))) return false;
  }
  return same(a.encoder_bias(), b.encoder_bias()) && same(a.bias(), b.bias());
}

TEST(Fit, LearnsAndReports) {
  const MemoryRows rows(sparse_rows(600, 12, 1));
  ReluSae sae = make_sae(12, 48);
  std::vector<EpochRecord> epochs;
  FitCallbacks callbacks;
  callbacks.on_epoch = [&](const EpochRecord& r) { epochs.push_back(r); };
  const FitResult result = fit(sae, rows, quiet(32, 20), callbacks);
  EXPECT_EQ(result.train_rows, 540);
  EXPECT_EQ(result.validation_rows, 60);
  EXPECT_EQ(result.steps, 20 * 17);  // the last batch of an epoch has 28 rows
  ASSERT_EQ(epochs.size(), 20U);
  EXPECT_EQ(epochs.front().epoch, 1);
  EXPECT_LT(epochs.back().train_loss, 0.3 * epochs.front().train_loss);
  EXPECT_LT(epochs.back().val_loss, 0.5 * epochs.front().val_loss);
  EXPECT_EQ(result.history.training_losses.size(), 20U);
  EXPECT_EQ(result.final_train_loss, epochs.back().train_loss);
  EXPECT_EQ(result.final_val_l0_norm, epochs.back().val_l0_norm);
  EXPECT_EQ(result.n_dead_features + result.n_active_features, 48);
  EXPECT_EQ(result.metrics().size(), 7U);
  EXPECT_EQ(epochs.back().metrics().size(), 6U);
  EXPECT_EQ(epochs.back().metrics().at("learning_rate"), 3e-3);
  // The last tenth is what val_loss is of.
  EXPECT_NEAR(result.final_val_loss, evaluate_loss(sae, rows, 540, 600).loss, 1e-12);
  for (std::int64_t j = 0; j < sae.d_sae(); ++j) {
    double norm = 0.0;
    for (const float v : sae.decoder().row(j))
      norm += static_cast<double>(v) * static_cast<double>(v);
    EXPECT_NEAR(norm, 1.0, 1e-5);
  }
}

TEST(Fit, VisitsEveryTrainingRowOnceAnEpochAndNoOther) {
  Tensor rows = sparse_rows(50, 4, 2);
  // A row is told by its first value.
  for (std::int64_t r = 0; r < 50; ++r) {
    rows.mutable_mat<float>()(r, 0) = static_cast<float>(r);
  }
  class Spy final : public RowSource {
   public:
    explicit Spy(Tensor rows) : inner_(std::move(rows)) {}
    std::int64_t rows() const override { return inner_.rows(); }
    std::int64_t dim() const override { return inner_.dim(); }
    void read(std::int64_t begin, MatView<float> out) const override { inner_.read(begin, out); }
    void gather(std::span<const std::int64_t> indices, MatView<float> out) const override {
      seen.insert(seen.end(), indices.begin(), indices.end());
      inner_.gather(indices, out);
    }
    mutable std::vector<std::int64_t> seen;

   private:
    MemoryRows inner_;
  };
  const Spy spy(std::move(rows));
  ReluSae sae = make_sae(4, 8);
  FitOptions options = quiet(8, 2);
  options.validation_split = 0.2;
  fit(sae, spy, options);
  ASSERT_EQ(spy.seen.size(), 80U);
  const std::vector<std::int64_t> first(spy.seen.begin(), spy.seen.begin() + 40);
  const std::vector<std::int64_t> second(spy.seen.begin() + 40, spy.seen.end());
  const std::set<std::int64_t> once(first.begin(), first.end());
  EXPECT_EQ(once.size(), 40U);
  EXPECT_EQ(*once.rbegin(), 39);
  EXPECT_NE(first, second);
}

TEST(Fit, IsTheSameForOneAndTwoThreadsAndDiffersBySeed) {
  const MemoryRows rows(sparse_rows(300, 70, 3));
  const int threads = num_threads();
  std::vector<ReluSae> trained;
  for (const auto& [n, seed] : {std::pair{1, 42U}, std::pair{2, 42U}, std::pair{2, 43U}}) {
    set_num_threads(n);
    for (const StepPath path : {StepPath::kDense, StepPath::kSparse}) {
      ReluSae sae = make_sae(70, 200);
      FitOptions options = quiet(64, 3);
      options.path = path;
      options.seed = seed;
      fit(sae, rows, options);
      trained.push_back(std::move(sae));
    }
  }
  set_num_threads(threads);
  EXPECT_TRUE(same_weights(trained[0], trained[2]));  // dense
  EXPECT_TRUE(same_weights(trained[1], trained[3]));  // sparse
  EXPECT_FALSE(same_weights(trained[2], trained[4]));
  EXPECT_FALSE(same_weights(trained[0], trained[1]));  // rounding differs between the two
}

TEST(Fit, ChoosesSparseStepsOnceFeaturesAreSparse) {
  const MemoryRows rows(sparse_rows(400, 16, 4));
  ReluSae sae = make_sae(16, 128, /*l1=*/0.3);
  std::vector<bool> sparse;
  FitCallbacks callbacks;
  callbacks.on_step = [&](const StepRecord& r) { sparse.push_back(r.sparse); };
  fit(sae, rows, quiet(50, 60), callbacks);
  EXPECT_FALSE(sparse.front());
  EXPECT_TRUE(sparse.back());
}

TEST(Fit, ResamplesWhatTheWindowSawDead) {
  const MemoryRows rows(sparse_rows(320, 8, 5));
  ReluSae sae = make_sae(8, 32);
  // Three latents that cannot fire.
  for (const std::size_t j : {1U, 7U, 31U}) sae.encoder_bias()[j] = -1e4F;
  FitOptions options = quiet(32, 1);
  options.validation_split = 0.0;
  options.resample_interval = 5;
  options.window_size = 4;
  options.steps = 5;
  std::vector<std::int64_t> got;
  FitCallbacks callbacks;
  callbacks.on_resample = [&](std::int64_t step, const std::vector<std::int64_t>& latents) {
    EXPECT_EQ(step, 5);
    got = latents;
  };
  const FitResult result = fit(sae, rows, options, callbacks);
  EXPECT_EQ(got, (std::vector<std::int64_t>{1, 7, 31}));
  EXPECT_EQ(result.resampled, 3);
  EXPECT_EQ(sae.encoder_bias()[7], 0.0F);

  options.resample_dead_neurons = false;
  ReluSae other = make_sae(8, 32);
  other.encoder_bias()[7] = -1e4F;
  EXPECT_EQ(fit(other, rows, options).resampled, 0);
  EXPECT_LT(other.encoder_bias()[7], -9e3F);
}

TEST(Stepper, ResetsMomentsOfTheseLatentsOnly) {
  ReluSae sae = make_sae(6, 10);
  const auto stepper = make_relu_stepper(sae, {});
  Tensor batch = sparse_rows(20, 6, 6);
  std::vector<std::int64_t> last_active(10, -1);
  stepper->step(batch.mutable_mat<float>(), 0, last_active);
  const auto norm = [&](const char* name, std::int64_t j) {
    for (const NamedTensor& part : stepper->state()) {
      if (part.name != name) continue;
      double sum = 0.0;
      const std::int64_t width = part.tensor->rank() == 2 ? part.tensor->dim(1) : 1;
      for (std::int64_t c = 0; c < width; ++c) {
        sum += std::abs(static_cast<double>(
            part.tensor->data<float>()[static_cast<std::size_t>(j * width + c)]));
      }
      return sum;
    }
    ADD_FAILURE() << "no " << name;
    return 0.0;
  };
  const std::vector<const char*> names = {"encoder.m", "encoder.v",      "decoder.m",
                                          "decoder.v", "encoder_bias.m", "encoder_bias.v"};
  for (const char* name : names) EXPECT_GT(norm(name, 4), 0.0) << name;
  const std::vector<std::int64_t> reset = {4};
  const double kept = norm("encoder.m", 5);
  stepper->reset_moments(reset);
  for (const char* name : names) EXPECT_EQ(norm(name, 4), 0.0) << name;
  EXPECT_EQ(norm("encoder.m", 5), kept);
}

TEST(Fit, StopsAfterStepsInTheMiddleOfAnEpoch) {
  const MemoryRows rows(sparse_rows(100, 5, 7));
  ReluSae sae = make_sae(5, 10);
  FitOptions options = quiet(10, 1);
  options.validation_split = 0.0;
  options.steps = 23;
  const FitResult result = fit(sae, rows, options);
  EXPECT_EQ(result.steps, 23);
  EXPECT_EQ(result.history.training_losses.size(), 3U);
  EXPECT_TRUE(std::isnan(result.final_val_loss));
  EXPECT_EQ(result.metrics().count("final_val_loss"), 0U);
}

TEST(Fit, TakesFewerRowsThanABatch) {
  const MemoryRows rows(sparse_rows(3, 5, 8));
  ReluSae sae = make_sae(5, 10);
  const FitResult result = fit(sae, rows, quiet(256, 2));
  EXPECT_EQ(result.steps, 2);
  EXPECT_EQ(result.validation_rows, 0);  // a tenth of three rows
  EXPECT_EQ(result.train_rows, 3);
}

TEST(Fit, RefusesWhatCannotBeTrained) {
  const MemoryRows rows(sparse_rows(30, 5, 9));
  ReluSae sae = make_sae(6, 10);
  expect_error(ErrorKind::kData, "width 5, the autoencoder takes 6",
               [&] { fit(sae, rows, quiet(8, 1)); });
  const MemoryRows none(Tensor::zeros<float>({0, 6}));
  expect_error(ErrorKind::kData, "no rows", [&] { fit(sae, none, quiet(8, 1)); });
  ReluSae fits = make_sae(5, 10);
  for (const auto& [change, word] :
       std::vector<std::pair<std::function<void(FitOptions&)>, std::string>>{
           {[](FitOptions& o) { o.batch_size = 0; }, "batch_size"},
           {[](FitOptions& o) { o.epochs = 0; }, "epochs"},
           {[](FitOptions& o) { o.learning_rate = -1; }, "learning_rate"},
           {[](FitOptions& o) { o.learning_rate = NAN; }, "learning_rate"},
           {[](FitOptions& o) { o.validation_split = 1.0; }, "validation_split"},
           {[](FitOptions& o) { o.window_size = 0; }, "window_size"},
           {[](FitOptions& o) { o.resume = true; }, "checkpoint"}}) {
    FitOptions options = quiet(8, 1);
    change(options);
    expect_error(ErrorKind::kUsage, word, [&] { fit(fits, rows, options); });
  }
}

TEST(Fit, NamesRowAndColumnOfNan) {
  for (const bool bias : {true, false}) {
    Tensor rows = sparse_rows(40, 5, 10);
    rows.mutable_mat<float>()(17, 3) = INFINITY;
    const MemoryRows source(std::move(rows));
    for (const StepPath path : {StepPath::kDense, StepPath::kSparse}) {
      ReluSae sae = make_sae(5, 10);
      const ReluSae before = sae.clone();
      FitOptions options = quiet(8, 1);
      options.initialize_bias = bias;  // without it the step itself has to notice
      options.steps = 5;
      options.path = path;
      options.validation_split = 0.0;
      expect_error(ErrorKind::kData, "row 17, column 3", [&] { fit(sae, source, options); });
      for (std::int64_t j = 0; j < 10; ++j) {
        for (const float v : sae.encoder().row(j)) EXPECT_TRUE(std::isfinite(v));
      }
    }
  }
}

TEST(Fit, NamesRowAndColumnOfNanInTheRowsHeldOut) {
  for (const std::int64_t bad : {36, 39}) {
    Tensor rows = sparse_rows(40, 5, 10);
    rows.mutable_mat<float>()(bad, 3) = -NAN;
    const MemoryRows source(std::move(rows));
    ReluSae sae = make_sae(5, 10);
    bool began = false;
    FitCallbacks callbacks;
    callbacks.on_step = [&](const StepRecord&) { began = true; };
    expect_error(ErrorKind::kData, "row " + std::to_string(bad) + ", column 3 is NaN",
                 [&] { fit(sae, source, quiet(8, 1), callbacks); });
    EXPECT_FALSE(began) << "told only after the training that it spoils";
    expect_error(ErrorKind::kData, "row " + std::to_string(bad) + ", column 3",
                 [&] { evaluate_loss(sae, source, 30, 40); });
  }
}

TEST(Fit, RefusesAValidationLossThatIsNoNumber) {
  // One step far too long: its own loss is of the weights before it.
  const MemoryRows rows(sparse_rows(40, 5, 10));
  ReluSae sae = make_sae(5, 10);
  FitOptions options = quiet(64, 1);
  options.learning_rate = 1e25;
  expect_error(ErrorKind::kNumeric, "validation loss is NaN", [&] { fit(sae, rows, options); });
}

TEST(Fit, NamesTheStepOfADivergingLoss) {
  const MemoryRows rows(sparse_rows(64, 5, 11));
  ReluSae sae = make_sae(5, 10);
  FitOptions options = quiet(8, 10);
  options.learning_rate = 1e25;
  expect_error(ErrorKind::kNumeric, "step ", [&] { fit(sae, rows, options); });
}

TEST(TrainBench, MeasuresAStep) {
  const auto results = run_train_bench({.d = 16, .hidden = 64, .batch = 32, .seconds = 0.03});
  ASSERT_GE(results.size(), 4U);
  EXPECT_EQ(results[0].unit, "rows/s");
  EXPECT_GT(results[0].value, 0.0);
  EXPECT_GT(results[0].limit, 0.0);
  EXPECT_THROW(run_train_bench({.batch = 0}), Error);
}

}  // namespace
}  // namespace drrik
