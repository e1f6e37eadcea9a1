// Ranks that train together against one that trains alone. Run under mpirun; each rank runs every
// test and computes the reference itself.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/train/coder_trainer.h"
#include "sae/made.h"
#include "train/coder_stepper.h"
#include "train/mpi_communicator.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using testing::normal_rows;
using testing::relative_error;

Communicator* world = nullptr;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// Both sides of its bound between the tree and the ring, and lengths that the ranks do not divide.
TEST(Communicator, SumsAreTheSameBitsOnAllRanks) {
  for (const std::size_t n : {std::size_t{1}, std::size_t{4095}, std::size_t{10007}}) {
    std::vector<float> values(n);
    for (std::size_t i = 0; i < n; ++i) {
      values[i] = 0.1F * static_cast<float>(i % 97) + static_cast<float>(world->rank());
    }
    world->sum(std::span(values));
    const auto size = static_cast<float>(world->size());
    for (std::size_t i = 0; i < n; ++i) {
      const float wanted = size * 0.1F * static_cast<float>(i % 97) + size * (size - 1.0F) / 2.0F;
      ASSERT_NEAR(values[i], wanted, 1e-5F * (1.0F + wanted)) << i << " of " << n;
    }
    std::vector<float> all(n * at(world->size()));
    const std::vector<std::int64_t> counts(at(world->size()), static_cast<std::int64_t>(n));
    world->all_gather(std::span<const float>(values), counts, std::span(all));
    for (std::size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], values[i % n]);
  }
}

TEST(Communicator, GathersPartsOfDifferentLength) {
  std::vector<std::int64_t> counts;
  for (int r = 0; r < world->size(); ++r) counts.push_back(r + 1);
  const std::vector<double> mine(at(world->rank() + 1), world->rank() + 0.5);
  std::vector<double> all(at(std::accumulate(counts.begin(), counts.end(), std::int64_t{0})));
  world->all_gather(std::span<const double>(mine), counts, std::span(all));
  std::size_t i = 0;
  for (int r = 0; r < world->size(); ++r) {
    for (int c = 0; c <= r; ++c) EXPECT_EQ(all[i++], r + 0.5);
  }
}

TEST(Communicator, MinimumMaximumBroadcast) {
  float least = 3.0F - static_cast<float>(world->rank());
  world->minimum(std::span(&least, 1));
  EXPECT_EQ(least, 4.0F - static_cast<float>(world->size()));
  std::int64_t most = world->rank();
  world->maximum(std::span(&most, 1));
  EXPECT_EQ(most, world->size() - 1);
  std::byte byte{static_cast<unsigned char>(world->rank() + 7)};
  world->broadcast(std::span(&byte, 1), world->size() - 1);
  EXPECT_EQ(std::to_integer<int>(byte), world->size() + 6);
  EXPECT_GT(world->bytes_sent(), 0.0);
}

struct Case {
  std::string name;
  CoderJob job;
};

CoderJob job_of(const std::string& architecture) {
  CoderJob job;
  job.config.architecture = architecture;
  job.config.d_sae = 96;
  job.config.k = 4;
  if (architecture == "matryoshka") job.config.groups = {16, 48, 96};
  job.training.adam.learning_rate = 1e-3;
  job.training.sparsity.coefficient = 0.05;
  job.training.sparsity.bandwidth = 0.1;
  job.training.sparsity.target_l0 = 6.0;
  job.training.dead_steps = 3;
  job.training.aux.coefficient = 1.0 / 32;
  job.init.threshold = 0.1;
  job.training.clip_norm = 1.0;
  job.schedule.warmup_steps = 5;
  job.initial_bias = InitialBias::kMean;
  return job;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::string& name : sparse_coder_architectures()) all.push_back({name, job_of(name)});
  Case unit{"standard-unit", job_of("standard")};
  unit.job.training.unit_decoder = true;
  unit.job.training.aux.coefficient = 0.0;
  // Whatever the data, window 0 finds every latent silent: all are drawn anew.
  unit.job.resampling = {.interval = 9, .times = 2, .window = 0, .rows = 256};
  all.push_back(unit);
  for (const auto form :
       {SparsityOptions::JumpRelu::kTanh, SparsityOptions::JumpRelu::kL0,
        SparsityOptions::JumpRelu::kTarget, SparsityOptions::JumpRelu::kQuadratic}) {
    Case jump{"jumprelu-" + std::to_string(static_cast<int>(form)), job_of("jumprelu")};
    jump.job.training.sparsity.jumprelu = form;
    all.push_back(jump);
  }
  Case dense{"topk-dense", job_of("topk")};
  dense.job.training.path = StepPath::kDense;
  dense.job.training.unit_decoder = true;
  dense.job.training.aux.scale = AuxLoss::Scale::kDeadShare;
  all.push_back(dense);
  Case fvu{"batchtopk-fvu", job_of("batchtopk")};
  fvu.job.training.reconstruction = CoderTraining::Reconstruction::kFvu;
  fvu.job.training.clip_norm = 0.0;
  fvu.job.initial_bias = InitialBias::kGeometricMedian;
  all.push_back(fvu);
  Case skip{"skip-transcoder", job_of("topk")};
  skip.job.config.skip = true;
  skip.job.targets = {1};
  all.push_back(skip);
  Case cross{"crosscoder", job_of("batchtopk")};
  cross.job.inputs = {0, 1};
  all.push_back(cross);
  for (Case& c : all) c.job.name = c.name;
  return all;
}

std::vector<CoderJob> jobs() {
  std::vector<CoderJob> all;
  for (const Case& c : cases()) all.push_back(c.job);
  return all;
}

CoderRun train(const CoderRunOptions& options, const CoderCallbacks& callbacks = {}) {
  static const Tensor rows = normal_rows(1000, 32, 3);
  const auto source = make_row_source(rows.mat<float>());
  const auto stream = make_store_stream(*source, {{"mlp_out", "", 0, 16}, {"mlp_out", "", 1, 16}});
  return train_coders(jobs(), *stream, options, callbacks);
}

// 99 rows a batch, of which the ranks' shares differ; the last of a pass has 10.
CoderRunOptions quiet(Communicator* ranks) {
  CoderRunOptions options;
  options.batch_size = 99;
  options.steps = 20;
  options.log_every = 1;
  options.verbose = false;
  options.ranks = ranks;
  return options;
}

TEST(Together, EqualsOneRank) {
  std::vector<CoderRecord> alone_log;
  std::vector<CoderRecord> together_log;
  CoderCallbacks keep_alone;
  keep_alone.on_log = [&](const CoderRecord& r) { alone_log.push_back(r); };
  CoderCallbacks keep_together;
  keep_together.on_log = [&](const CoderRecord& r) { together_log.push_back(r); };
  const CoderRun alone = train(quiet(nullptr), keep_alone);
  const double before = world->bytes_sent();
  const CoderRun together = train(quiet(world), keep_together);
  const double sent = world->bytes_sent() - before;
  EXPECT_EQ(together.rows, alone.rows);
  EXPECT_EQ(together.steps, alone.steps);
  if (world->rank() == 0) {
    ASSERT_EQ(together_log.size(), alone_log.size());
    std::int64_t most_dead = 0;
    for (std::size_t i = 0; i < alone_log.size(); ++i) {
      const CoderRecord& a = alone_log[i];
      const CoderRecord& b = together_log[i];
      SCOPED_TRACE(cases()[at(a.job)].name + ", step " + std::to_string(a.step));
      // Sums of float products in another order: some 1e-7 a step; the parts as well as the whole.
      EXPECT_NEAR(b.loss.loss, a.loss.loss, 1e-5 * std::abs(a.loss.loss));
      EXPECT_NEAR(b.loss.mse, a.loss.mse, 1e-5 * a.loss.mse);
      EXPECT_NEAR(b.loss.fvu, a.loss.fvu, 1e-5 * a.loss.fvu);
      EXPECT_NEAR(b.loss.l1, a.loss.l1, 1e-5 * a.loss.l1);
      EXPECT_NEAR(b.loss.aux, a.loss.aux, 1e-4 * std::abs(a.loss.aux));
      EXPECT_NEAR(b.loss.sparsity, a.loss.sparsity, 1e-4 * std::abs(a.loss.sparsity));
      EXPECT_NEAR(b.loss.gradient_norm, a.loss.gradient_norm, 1e-4 * a.loss.gradient_norm);
      EXPECT_EQ(b.rows, a.rows);
      EXPECT_EQ(b.loss.dead, a.loss.dead);
      EXPECT_EQ(b.resampled, a.resampled);
      most_dead = std::max(most_dead, a.loss.dead);
    }
    EXPECT_GT(most_dead, 0);  // the auxiliary loss had something to do
    std::printf("sent by rank 0 of %d: %.0f bytes a step for %zu coders\n", world->size(),
                sent / static_cast<double>(together.steps), cases().size());
  } else {
    EXPECT_TRUE(together_log.empty());
  }
  for (std::size_t i = 0; i < alone.coders.size(); ++i) {
    const auto of_alone = alone.coders[i].coder.parameters();
    std::size_t p = 0;
    for (const NamedTensor& parameter : together.coders[i].coder.parameters()) {
      EXPECT_LT(relative_error(parameter.tensor->data<float>(), of_alone[p].tensor->data<float>()),
                1e-4)
          << cases()[i].name << " " << parameter.name;
      ++p;
    }
    EXPECT_EQ(together.coders[i].density.size(), alone.coders[i].density.size());
    for (std::size_t j = 0; j < alone.coders[i].density.size(); ++j) {
      EXPECT_NEAR(together.coders[i].density[j], alone.coders[i].density[j], 0.005);
    }
  }
  EXPECT_GT(alone.coders[at(static_cast<std::int64_t>(sparse_coder_architectures().size()))]
                .last.resampled,
            0);
}

TEST(Together, AllRanksEndWithTheSameBits) {
  const CoderRun run = train(quiet(world));
  for (const CoderOutcome& out : run.coders) {
    for (const NamedTensor& p : out.coder.parameters()) {
      const auto mine = p.tensor->data<float>();
      std::vector<float> first(mine.begin(), mine.end());
      world->broadcast(std::as_writable_bytes(std::span(first)), 0);
      EXPECT_TRUE(std::ranges::equal(first, mine)) << out.coder.architecture() << " " << p.name;
    }
  }
}

TEST(Together, ResumesBitForBit) {
  const fs::path file = fs::temp_directory_path() /
                        ("drrik_together_" + std::to_string(world->size()) + ".safetensors");
  const CoderRun whole = train(quiet(world));
  for (const std::int64_t stop : {1, 7, 13}) {
    SCOPED_TRACE(stop);
    if (world->rank() == 0) fs::remove(file);
    world->barrier();
    CoderRunOptions options = quiet(world);
    options.checkpoint = file;
    CoderCallbacks interrupt;  // only rank 0 hears of the signal
    interrupt.on_log = [&](const CoderRecord& r) {
      if (r.step == stop) set_interrupted(true);
    };
    EXPECT_THROW(train(options, interrupt), Error);
    set_interrupted(false);
    ASSERT_TRUE(fs::exists(file));
    options.resume = true;
    const CoderRun rest = train(options);
    EXPECT_EQ(rest.steps, 20);
    for (std::size_t i = 0; i < whole.coders.size(); ++i) {
      const auto of_whole = whole.coders[i].coder.parameters();
      std::size_t p = 0;
      for (const NamedTensor& parameter : rest.coders[i].coder.parameters()) {
        EXPECT_TRUE(
            std::ranges::equal(parameter.tensor->data<float>(), of_whole[p].tensor->data<float>()))
            << cases()[i].name << " " << parameter.name;
        ++p;
      }
      EXPECT_EQ(rest.coders[i].density, whole.coders[i].density);
    }
  }
  world->barrier();
  if (world->rank() == 0) fs::remove(file);
}

TEST(Together, RefusesBatchesSmallerThanTheRanks) {
  CoderRunOptions options = quiet(world);
  options.batch_size = world->size() - 1;
  EXPECT_THROW(train(options), Error);
}

// Values that are all the same: the cut must fall inside them, and the parts add up.
TEST(Together, BatchTopKKeepsItsNumberAmongEqualValues) {
  SparseCoderConfig config;
  config.architecture = "batchtopk";
  config.d_in = config.d_out = 4;
  config.d_sae = 8;
  config.k = 3;
  Rng rng(1, 1);
  SparseCoder coder = SparseCoder::random(config, {}, rng);
  std::ranges::fill(coder.parameter("W_enc").mutable_data<float>(), 0.0F);
  std::ranges::fill(coder.b_enc(), 1.0F);
  CoderTraining training;
  CoderStepper stepper(coder, training, *world);
  Tensor x = normal_rows(5, 4, 7);
  std::vector<std::int64_t> last(8, -1);
  const CoderLoss loss = stepper.step(x.mutable_mat<float>(), {}, 0, {}, last);
  EXPECT_EQ(loss.l0, 3.0);
}

// Failures of other ranks than the first, whose printer shows everything.
class Failures final : public ::testing::EmptyTestEventListener {
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s:%d: %s\n", world->rank(), result.file_name(),
                 result.line_number(), result.message());
  }
};

}  // namespace
}  // namespace drrik

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  // An exception on one rank would leave the others waiting; uncaught it ends all.
  ::testing::GTEST_FLAG(catch_exceptions) = false;
  drrik::MpiSession session;
  drrik::world = &session.communicator();
  if (drrik::world->rank() > 0) {
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new drrik::Failures);
  }
  return RUN_ALL_TESTS();
}
