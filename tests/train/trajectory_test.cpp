// The described recipe against trajectories computed in PyTorch (tools/reference/sae_trajectory.py
// and the shared ones), by the dense and the sparse step.

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "drrik/io/safetensors.h"
#include "drrik/sae/relu_sae.h"
#include "drrik/train/trainer.h"
#include "train/memory_rows.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using testing::MemoryRows;

struct Trajectory {
  SafetensorsFile file;
  ReluSaeConfig config;
  FitOptions options;

  explicit Trajectory(const fs::path& path) : file(SafetensorsFile::open(path)) {
    const auto& m = file.metadata();
    config.activation_dim = std::stoll(m.at("activation_dim"));
    config.hidden_dim = std::stoll(m.at("hidden_dim"));
    config.l1_coefficient = std::stod(m.at("l1_coefficient"));
    config.normalize_decoder = m.at("normalize_decoder") == "True";
    config.pre_encoder_bias = m.at("pre_encoder_bias") == "True";
    options.batch_size = std::stoll(m.at("batch_size"));
    options.learning_rate = std::stod(m.at("learning_rate"));
    options.steps = std::stoll(m.at("steps"));
    options.shuffle = false;
    options.resample_dead_neurons = false;
    options.validation_split = 0.0;
    options.verbose = false;
  }
  Tensor get(const std::string& name) const { return file.get(name).to(DType::kF32); }
  bool has(const std::string& name) const { return file.contains(name); }

  ReluSae initial() const {
    ReluSae sae(config);
    const Tensor e = get("init.encoder.weight");
    const Tensor d = get("init.decoder.weight");
    for (std::int64_t j = 0; j < config.hidden_dim; ++j) {
      for (std::int64_t c = 0; c < config.activation_dim; ++c) {
        sae.encoder()(j, c) = e.mat<float>()(j, c);
        sae.decoder()(j, c) = d.mat<float>()(c, j);
      }
    }
    return sae;
  }
};

// ‖a − b‖ / ‖b‖.
double relative(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double error = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    error += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(error / norm);
}

std::vector<double> flat(MatView<const float> m, bool transpose = false) {
  std::vector<double> out;
  for (std::int64_t r = 0; r < (transpose ? m.cols() : m.rows()); ++r) {
    for (std::int64_t c = 0; c < (transpose ? m.rows() : m.cols()); ++c) {
      out.push_back(static_cast<double>(transpose ? m(c, r) : m(r, c)));
    }
  }
  return out;
}
std::vector<double> flat(std::span<const float> v) { return {v.begin(), v.end()}; }
std::vector<double> flat(const Tensor& t) { return flat(t.data<float>()); }

// Features, reconstruction and gradients of one batch. float32 sums of at most a few thousand terms
// in another order: 1e-5 of the norm is a hundred times the rounding to be expected.
void expect_first_step(const Trajectory& t) {
  ReluSae sae = t.initial();
  if (t.config.pre_encoder_bias) {
    const Tensor bias = t.get("init.bias");
    std::copy(bias.data<float>().begin(), bias.data<float>().end(), sae.bias().begin());
  }
  const Tensor x = t.get("x");
  const auto rows = x.mat<float>().rows_range(0, t.options.batch_size);
  Tensor features = Tensor::zeros<float>({rows.rows(), sae.d_sae()});
  Tensor reconstruction = Tensor::zeros<float>({rows.rows(), sae.d_in()});
  sae.forward(rows, reconstruction.mutable_mat<float>(), features.mutable_mat<float>());
  EXPECT_LT(relative(flat(features), flat(t.get("step0.features"))), 1e-5);
  EXPECT_LT(relative(flat(reconstruction), flat(t.get("step0.reconstruction"))), 1e-5);
  ReluSaeGradients g;
  const SaeLoss loss = sae.gradients(rows, g);
  EXPECT_NEAR(loss.loss / static_cast<double>(t.get("loss").data<float>()[0]), 1.0, 1e-5);
  EXPECT_LT(relative(flat(g.encoder), flat(t.get("step0.grad.encoder.weight"))), 1e-5);
  EXPECT_LT(relative(flat(g.decoder.mat<float>(), true), flat(t.get("step0.grad.decoder.weight"))),
            1e-5);
  EXPECT_LT(relative(flat(g.encoder_bias), flat(t.get("step0.grad.encoder_bias"))), 1e-5);
  if (t.has("step0.grad.bias")) {
    EXPECT_LT(relative(flat(g.bias), flat(t.get("step0.grad.bias"))), 1e-5);
  }
}

// The whole run: loss of every step within 1e-4, weights at the end within 1e-3 of their norm.
void expect_run(const Trajectory& t, StepPath path) {
  ReluSae sae = t.initial();
  FitOptions options = t.options;
  options.path = path;
  const MemoryRows rows(t.get("x"));
  const Tensor losses = t.get("loss");
  const Tensor mses = t.get("mse");
  const Tensor l0s = t.get("l0");
  double worst = 0.0;
  FitCallbacks callbacks;
  callbacks.on_step = [&](const StepRecord& r) {
    const auto s = static_cast<std::size_t>(r.step);
    ASSERT_LT(s, losses.data<float>().size());
    worst =
        std::max(worst, std::abs(r.loss.loss / static_cast<double>(losses.data<float>()[s]) - 1.0));
    EXPECT_NEAR(r.loss.mse / static_cast<double>(mses.data<float>()[s]), 1.0, 1e-4) << s;
    // An entry at the edge of the ReLU may fall on the other side.
    EXPECT_NEAR(r.loss.l0, static_cast<double>(l0s.data<float>()[s]),
                2.0 / static_cast<double>(options.batch_size))
        << s;
    if (path != StepPath::kAuto) {
      EXPECT_EQ(r.sparse, path == StepPath::kSparse);
    }
  };
  const FitResult result = fit(sae, rows, options, callbacks);
  EXPECT_EQ(result.steps, t.options.steps);
  EXPECT_LT(worst, 1e-4);
  const ReluSae& done = sae;
  EXPECT_LT(relative(flat(done.encoder()), flat(t.get("final.encoder.weight"))), 1e-3);
  EXPECT_LT(relative(flat(done.decoder(), true), flat(t.get("final.decoder.weight"))), 1e-3);
  EXPECT_LT(relative(flat(done.encoder_bias()), flat(t.get("final.encoder_bias"))), 1e-3);
  if (t.has("final.bias")) {
    EXPECT_LT(relative(flat(done.bias()), flat(t.get("final.bias"))), 1e-3);
  }
  ::testing::Test::RecordProperty("worst_loss", std::to_string(worst));
}

class TrajectoryRun : public ::testing::TestWithParam<const char*> {
 protected:
  // Null with the reason told when the file is not there.
  std::unique_ptr<Trajectory> open() {
    const std::string name = GetParam();
    const bool shared = name.find("shared/") == 0;
    const fs::path path = shared ? fs::path(DRRIK_SHARED_DIR) / "reference/sae_seed" /
                                       (name.substr(7) + ".safetensors")
                                 : fs::path(DRRIK_TEST_DATA) / "train" / (name + ".safetensors");
    if (shared && !fs::exists(path)) return nullptr;
    return std::make_unique<Trajectory>(path);
  }
};

#define DRRIK_OPEN_TRAJECTORY(t)                                                \
  const auto t = open();                                                        \
  if (t == nullptr) {                                                           \
    GTEST_SKIP() << "NOT CHECKED: no " << GetParam() << " beside this project"; \
  }

TEST_P(TrajectoryRun, MatchesFirstStep) {
  DRRIK_OPEN_TRAJECTORY(t);
  expect_first_step(*t);
}
TEST_P(TrajectoryRun, MatchesWithDenseSteps) {
  DRRIK_OPEN_TRAJECTORY(t);
  expect_run(*t, StepPath::kDense);
}
TEST_P(TrajectoryRun, MatchesWithSparseSteps) {
  DRRIK_OPEN_TRAJECTORY(t);
  expect_run(*t, StepPath::kSparse);
}
TEST_P(TrajectoryRun, MatchesWithChosenSteps) {
  DRRIK_OPEN_TRAJECTORY(t);
  expect_run(*t, StepPath::kAuto);
}

INSTANTIATE_TEST_SUITE_P(Own, TrajectoryRun,
                         ::testing::Values("trajectory_tied", "trajectory_free",
                                           "trajectory_plain"));
INSTANTIATE_TEST_SUITE_P(Shared, TrajectoryRun,
                         ::testing::Values("shared/small", "shared/no_bias",
                                           "shared/unnormalized"));

// The comparator itself.
TEST(Trajectory, RelativeSeesWrongValues) {
  EXPECT_EQ(relative({1, -2}, {1, -2}), 0.0);
  EXPECT_GT(relative({1, -2}, {1, -2.01}), 1e-3);
  EXPECT_GT(relative({-1, -2}, {1, -2}), 0.5);
  EXPECT_FALSE(relative({NAN, -2}, {1, -2}) < 1e-3);
}

}  // namespace
}  // namespace drrik
