// Runs of coders: many on one stream, resuming, folding, what they learn, what they refuse.

#include "drrik/train/coder_trainer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/threads.h"
#include "drrik/ops/convert.h"
#include "sae/made.h"
#include "train/geometric_median.h"
#include "train/resampling.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using testing::normal_rows;
using testing::relative_error;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// Rows that are sparse sums of unit directions, which a coder can find.
struct Superposition {
  Tensor directions;  // [features, d]
  Tensor rows;        // [n, d]
};

Superposition superposition(std::int64_t n, std::int64_t d, std::int64_t features,
                            double probability, std::uint64_t seed = 3) {
  Superposition s{normal_rows(features, d, seed), Tensor::zeros<float>({n, d})};
  for (std::int64_t j = 0; j < features; ++j) {
    const auto row = s.directions.mutable_mat<float>().row(j);
    const auto inverse = static_cast<float>(1.0 / std::sqrt(sum_squares(row)));
    for (float& v : row) v *= inverse;
  }
  Rng rng(seed, 1);
  for (std::int64_t r = 0; r < n; ++r) {
    for (std::int64_t j = 0; j < features; ++j) {
      if (rng.uniform_double() > probability) continue;
      axpy(0.5F + rng.uniform(), s.directions.mat<float>().row(j),
           s.rows.mutable_mat<float>().row(r));
    }
  }
  return s;
}

CoderJob job_of(const std::string& architecture) {
  CoderJob job;
  job.name = architecture;
  job.config.architecture = architecture;
  job.config.d_sae = 48;
  job.config.k = 4;
  if (architecture == "matryoshka") job.config.groups = {12, 24, 48};
  job.training.adam.learning_rate = 3e-3;
  job.training.sparsity.coefficient = architecture == "topk" ? 0.0 : 0.05;
  job.training.sparsity.bandwidth = 0.1;
  job.training.dead_steps = 10;
  job.training.aux.coefficient = 1.0 / 32;
  job.init.threshold = 0.1;
  job.training.clip_norm = 1.0;
  job.schedule.warmup_steps = 5;
  job.schedule.sparsity_warmup_steps = 8;
  if (architecture == "standard") {
    job.training.unit_decoder = true;
    job.training.sparsity.coefficient = 2.0;  // enough to kill some
    job.resampling = {.interval = 16, .times = 2, .window = 8, .rows = 512};
    job.training.aux.coefficient = 0.0;
  }
  return job;
}

std::vector<CoderJob> all_jobs() {
  std::vector<CoderJob> jobs;
  for (const std::string& name : sparse_coder_architectures()) jobs.push_back(job_of(name));
  return jobs;
}

CoderRunOptions quiet(std::int64_t steps) {
  CoderRunOptions options;
  options.batch_size = 64;
  options.steps = steps;
  options.log_every = 7;
  options.verbose = false;
  return options;
}

CoderRun train(const Tensor& rows, std::vector<CoderJob> jobs, const CoderRunOptions& options,
               const CoderCallbacks& callbacks = {}) {
  const auto source = make_row_source(rows.mat<float>());
  const auto stream = make_store_stream(*source, {{"mlp_out", "", 0, rows.dim(1)}});
  return train_coders(std::move(jobs), *stream, options, callbacks);
}

void expect_equal(const SparseCoder& a, const SparseCoder& b) {
  const auto of_b = b.parameters();
  std::size_t i = 0;
  for (const NamedTensor& p : a.parameters()) {
    EXPECT_TRUE(std::ranges::equal(p.tensor->data<float>(), of_b[i].tensor->data<float>()))
        << a.architecture() << " " << p.name;
    ++i;
  }
}

TEST(CoderTrainer, ManyOnOneStreamAreEachAsIfAlone) {
  const Superposition data = superposition(1000, 16, 24, 0.1);
  const CoderRun together = train(data.rows, all_jobs(), quiet(40));
  for (std::size_t i = 0; i < all_jobs().size(); ++i) {
    const CoderRun alone = train(data.rows, {all_jobs()[i]}, quiet(40));
    expect_equal(together.coders[i].coder, alone.coders[0].coder);
    EXPECT_EQ(together.coders[i].last.loss.loss, alone.coders[0].last.loss.loss);
    EXPECT_EQ(together.coders[i].density, alone.coders[0].density);
  }
}

TEST(CoderTrainer, DoesNotDependOnThreads) {
  const Superposition data = superposition(700, 16, 24, 0.1);
  const int threads = num_threads();
  set_num_threads(1);
  const CoderRun one = train(data.rows, all_jobs(), quiet(30));
  set_num_threads(3);
  const CoderRun three = train(data.rows, all_jobs(), quiet(30));
  set_num_threads(threads);
  for (std::size_t i = 0; i < one.coders.size(); ++i) {
    expect_equal(one.coders[i].coder, three.coders[i].coder);
  }
}

TEST(CoderTrainer, ResumesBitForBit) {
  const Superposition data = superposition(1000, 16, 24, 0.1);
  const fs::path folder = fs::path(::testing::TempDir()) / "coder_resume";
  fs::remove_all(folder);
  std::vector<CoderRecord> whole_log;
  CoderCallbacks keep;
  keep.on_log = [&](const CoderRecord& r) { whole_log.push_back(r); };
  const CoderRun whole = train(data.rows, all_jobs(), quiet(60), keep);
  // 30 stands in the middle of filling a reservoir.
  for (const std::int64_t stop : {1, 14, 30, 33, 59}) {
    SCOPED_TRACE(stop);
    CoderRunOptions options = quiet(60);
    options.checkpoint = folder / "checkpoint.safetensors";
    options.checkpoint_steps = stop;
    options.log_every = 1;
    CoderCallbacks interrupt;
    interrupt.on_log = [&](const CoderRecord& r) {
      if (r.step == stop) set_interrupted(true);
    };
    fs::remove(options.checkpoint);
    EXPECT_THROW(train(data.rows, all_jobs(), options, interrupt), Error);
    set_interrupted(false);
    options.resume = true;
    const CoderRun rest = train(data.rows, all_jobs(), options);
    EXPECT_EQ(rest.steps, 60);
    for (std::size_t i = 0; i < whole.coders.size(); ++i) {
      expect_equal(rest.coders[i].coder, whole.coders[i].coder);
      EXPECT_EQ(rest.coders[i].density, whole.coders[i].density);
      EXPECT_EQ(rest.coders[i].last.resampled, whole.coders[i].last.resampled);
    }
  }
  EXPECT_GT(whole.coders[0].last.resampled, 0);  // "standard" is the first, and resamples
}

TEST(CoderTrainer, RefusesTheCheckpointOfAnotherRun) {
  const Superposition data = superposition(500, 16, 24, 0.1);
  const fs::path file = fs::path(::testing::TempDir()) / "coder_other.safetensors";
  fs::remove(file);
  CoderRunOptions options = quiet(10);
  options.checkpoint = file;
  options.checkpoint_steps = 5;
  train(data.rows, {job_of("topk")}, options);
  options.resume = true;
  CoderJob other = job_of("topk");
  other.training.adam.learning_rate = 1e-4;
  try {
    train(data.rows, {other}, options);
    ADD_FAILURE() << "nothing thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    EXPECT_NE(std::string(error.what()).find("learning_rate"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(file.string()), std::string::npos) << error.what();
  }
}

TEST(CoderTrainer, FoldsTheScaleOfItsInputs) {
  const Superposition data = superposition(600, 16, 24, 0.1);
  Tensor scaled = data.rows.clone();
  for (float& v : scaled.mutable_data<float>()) v *= 4.0F;  // a power of two: the same bits
  for (const char* name : {"topk", "batchtopk", "gated", "jumprelu"}) {
    SCOPED_TRACE(name);
    CoderRunOptions options = quiet(30);
    options.site_scales = {4.0};
    const CoderRun folded = train(data.rows, {job_of(name)}, options);
    const CoderRun plain = train(scaled, {job_of(name)}, quiet(30));
    Tensor a = Tensor::zeros<float>({600, 16});
    Tensor b = Tensor::zeros<float>({600, 16});
    folded.coders[0].coder.reconstruct(data.rows.mat<float>(), a.mutable_mat<float>());
    plain.coders[0].coder.reconstruct(scaled.mat<float>(), b.mutable_mat<float>());
    for (float& v : b.mutable_data<float>()) v /= 4.0F;
    EXPECT_LT(relative_error(a.data<float>(), b.data<float>()), 1e-6);
  }
}

TEST(CoderTrainer, TranscodersAndCrosscodersLearnFromSeveralSites) {
  const Superposition data = superposition(800, 24, 40, 0.1);
  const auto source = make_row_source(data.rows.mat<float>());
  const std::vector<RowSite> sites = {
      {"mlp_in", "", 0, 8}, {"mlp_out", "", 0, 8}, {"mlp_out", "", 1, 8}};
  CoderJob transcoder = job_of("topk");
  transcoder.name = "transcoder";
  transcoder.inputs = {0};
  transcoder.targets = {1};
  transcoder.config.skip = true;
  CoderJob crosscoder = job_of("batchtopk");
  crosscoder.name = "crosscoder";
  crosscoder.inputs = {1, 2};
  const auto stream = make_store_stream(*source, sites);
  std::vector<double> losses;
  CoderCallbacks keep;
  keep.on_log = [&](const CoderRecord& r) {
    if (r.job == 0) losses.push_back(r.loss.mse);
  };
  CoderRunOptions options = quiet(80);
  options.log_every = 10;
  const CoderRun run = train_coders({transcoder, crosscoder}, *stream, options, keep);
  EXPECT_LT(losses.back(), 0.9 * losses.front());
  EXPECT_EQ(run.coders[0].coder.d_out(), 8);
  EXPECT_EQ(run.coders[1].coder.config().parts, 2);
  EXPECT_LT(run.coders[1].last.loss.fvu, 0.6);
}

// Mean over true directions of the largest cosine to a decoder row.
double mean_max_cosine(const SparseCoder& coder, const Tensor& directions) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < directions.dim(0); ++i) {
    double best = -1.0;
    for (std::int64_t j = 0; j < coder.d_sae(); ++j) {
      const auto row = coder.decoder().row(j);
      best = std::max(best, dot(row, directions.mat<float>().row(i)) / std::sqrt(sum_squares(row)));
    }
    sum += best;
  }
  return sum / static_cast<double>(directions.dim(0));
}

TEST(CoderTrainer, FindsTheDirectionsThatRowsAreMadeOf) {
  const Superposition data = superposition(20000, 24, 32, 0.06);
  CoderRunOptions options = quiet(700);
  options.batch_size = 256;
  std::vector<CoderJob> jobs;
  for (const char* name : {"topk", "batchtopk"}) {
    CoderJob job = job_of(name);
    job.config.k = 2;
    job.training.adam.learning_rate = 4e-3;
    job.schedule.decay_steps = 140;
    job.training.threshold_decay = 0.99;  // the run is shorter than the default's memory
    jobs.push_back(job);
  }
  const CoderRun run = train(data.rows, jobs, options);
  for (const CoderOutcome& out : run.coders) {
    EXPECT_GT(mean_max_cosine(out.coder, data.directions), 0.95) << out.coder.architecture();
    // Both are what they were asked to be when they meet new rows one by one.
    SparseRows rows;
    out.coder.encode(data.rows.mat<float>(), rows);
    const double l0 = static_cast<double>(rows.latent.size()) / 20000.0;
    EXPECT_GT(l0, 1.2) << out.coder.architecture();
    EXPECT_LT(l0, 2.5) << out.coder.architecture();
  }
}

TEST(CoderTrainer, BfloatProductsTrainAsWell) {
  const Superposition data = superposition(4000, 24, 32, 0.06);
  CoderJob job = job_of("topk");
  const CoderRun exact = train(data.rows, {job}, quiet(200));
  job.training.compute = Compute::kBF16;
  const CoderRun rounded = train(data.rows, {job}, quiet(200));
  // Both runs end at an optimum of their own, which rounding the products by 2^-9 a factor moves in
  // second order only: 2 (2^-9)² of the rows' variance, 8e-6, of which 0.05 of what is left (FVU
  // about 0.1, so 5e-3) is a wide multiple. A stale rounded copy of the encoder exceeds it at once.
  EXPECT_NEAR(rounded.coders[0].last.loss.fvu / exact.coders[0].last.loss.fvu, 1.0, 0.05);
}

// AdamW's decay reaches every weight, of idle latents too: against the same step without it each
// has lost learning rate · decay of what it was.
TEST(CoderTrainer, WeightDecayShrinksEveryWeight) {
  const Superposition data = superposition(64, 16, 24, 0.1);
  CoderJob job = job_of("topk");
  job.training.clip_norm = 0.0;
  job.training.aux.coefficient = 0.0;
  job.training.adam.learning_rate = 0.01;
  job.schedule = {};
  job.resolve({{"", "", -1, 16}});
  CoderJob decayed = job;
  decayed.training.adam.decoupled_weight_decay = 0.5;
  Rng rng(3);
  const SparseCoder start = SparseCoder::random(job.config, job.init, rng);
  const auto stepped = [&](const CoderJob& how) {
    std::vector<SparseCoder> from;
    from.push_back(start.clone());
    const auto source = make_row_source(data.rows.mat<float>());
    const auto stream = make_store_stream(*source, {{"", "", -1, 16}});
    return train_coders({how}, *stream, quiet(1), {}, std::move(from));
  };
  const CoderRun plain = stepped(job);
  const CoderRun shrunk = stepped(decayed);
  for (const char* name : {"W_enc", "W_dec"}) {
    const auto of = [&](const SparseCoder& coder) -> std::span<const float> {
      for (const NamedTensor& p : coder.parameters()) {
        if (p.name == name) return p.tensor->data<float>();
      }
      return {};
    };
    const auto before = of(start);
    const auto a = of(plain.coders[0].coder);
    const auto b = of(shrunk.coders[0].coder);
    for (std::size_t i = 0; i < before.size(); ++i) {
      // Three roundings of weights of at most 0.2.
      ASSERT_NEAR(b[i], a[i] - 0.005F * before[i], 3 * 0.2 * 0x1p-24) << name << " " << i;
    }
  }
}

TEST(CoderTrainer, JumpsStayAtPositiveNumbers) {
  const Superposition data = superposition(64, 16, 24, 0.1);
  CoderJob job = job_of("jumprelu");
  job.training.adam.learning_rate = 0.0;
  job.resolve({{"", "", -1, 16}});
  Rng rng(3);
  std::vector<SparseCoder> start;
  start.push_back(SparseCoder::random(job.config, job.init, rng));
  start[0].latent_parameter("threshold")[5] = -0.25F;
  const auto source = make_row_source(data.rows.mat<float>());
  const auto stream = make_store_stream(*source, {{"", "", -1, 16}});
  const CoderRun run = train_coders({job}, *stream, quiet(1), {}, std::move(start));
  EXPECT_EQ(run.coders[0].coder.latent_parameter("threshold")[5], 0.0F);
  EXPECT_EQ(run.coders[0].coder.latent_parameter("threshold")[6], 0.1F);
}

TEST(CoderTrainer, SaysWhereALossIsNotFinite) {
  const Superposition data = superposition(500, 16, 24, 0.1);
  CoderJob job = job_of("standard");
  job.training.clip_norm = 0.0;
  job.training.unit_decoder = false;
  job.training.adam.learning_rate = 1e30;
  try {
    train(data.rows, {job}, quiet(50));
    ADD_FAILURE() << "nothing thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNumeric);
    EXPECT_NE(std::string(error.what()).find("coder 'standard', step"), std::string::npos)
        << error.what();
  }
}

TEST(CoderTrainer, RefusesJobsThatMakeNoSense) {
  const Superposition data = superposition(100, 16, 24, 0.1);
  const auto message = [&](std::vector<CoderJob> jobs, CoderRunOptions options) -> std::string {
    try {
      train(data.rows, std::move(jobs), options);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message({}, quiet(1)).find("no coder"), std::string::npos);
  EXPECT_NE(message({job_of("topk"), job_of("topk")}, quiet(1)).find("two coders"),
            std::string::npos);
  CoderJob job = job_of("topk");
  job.inputs = {3};
  EXPECT_NE(message({job}, quiet(1)).find("site 3 of 1"), std::string::npos);
  job = job_of("topk");
  job.name = "../x";
  EXPECT_NE(message({job}, quiet(1)).find("../x"), std::string::npos);
  CoderRunOptions options = quiet(1);
  options.batch_size = 0;
  EXPECT_NE(message({job_of("topk")}, options).find("batch size"), std::string::npos);
  options = quiet(1);
  options.site_scales = {1.0, 2.0};
  EXPECT_NE(message({job_of("topk")}, options).find("site scales"), std::string::npos);
}

TEST(CoderSchedule, FollowsThePackages) {
  CoderSchedule s;
  EXPECT_EQ(s.at(5, 100).learning_rate, 1.0);
  s.warmup_steps = 4;
  s.decay_steps = 20;
  EXPECT_DOUBLE_EQ(s.at(0, 100).learning_rate, 0.25);
  EXPECT_DOUBLE_EQ(s.at(3, 100).learning_rate, 1.0);
  EXPECT_DOUBLE_EQ(s.at(80, 100).learning_rate, 1.0);
  EXPECT_DOUBLE_EQ(s.at(90, 100).learning_rate, 0.5);
  s.warmup_from_zero = true;
  EXPECT_DOUBLE_EQ(s.at(0, 100).learning_rate, 0.0);
  s.sparsity_warmup_steps = 10;
  EXPECT_DOUBLE_EQ(s.at(0, 100).sparsity, 0.0);
  EXPECT_DOUBLE_EQ(s.at(5, 100).sparsity, 0.5);
  EXPECT_DOUBLE_EQ(s.at(50, 100).sparsity, 1.0);
  CoderSchedule cosine;
  cosine.cosine = true;
  EXPECT_DOUBLE_EQ(cosine.at(0, 100).learning_rate, 1.0);
  EXPECT_NEAR(cosine.at(50, 100).learning_rate, 0.5, 1e-12);
}

TEST(Resampling, DrawsRowsByTheSquareOfTheirLoss) {
  RowReservoir reservoir(1, 1);
  // Row r has loss r + 1; draws of one row follow the squares: 1, 4, 9, 16 of 30.
  Tensor rows = Tensor::from<float>(std::vector<float>{0, 1, 2, 3}, {4, 1});
  std::vector<int> drawn(4, 0);
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    reservoir.clear();
    Rng rng(7, static_cast<std::uint64_t>(i));
    reservoir.offer(rows.mat<float>(), std::vector<double>{1, 2, 3, 4}, rng);
    ++drawn[static_cast<std::size_t>(reservoir.row(reservoir.order()[0])[0])];
  }
  for (int r = 0; r < 4; ++r) {
    const double p = (r + 1) * (r + 1) / 30.0;
    // Five standard deviations of the binomial.
    EXPECT_NEAR(drawn[at(r)] / double{kDraws}, p, 5 * std::sqrt(p * (1 - p) / kDraws)) << r;
  }
}

TEST(Resampling, GivesDeadLatentsRowsAndLeavesOthers) {
  CoderJob job = job_of("standard");
  job.resolve({{"", "", -1, 16}});
  Rng rng(2);
  SparseCoder coder = SparseCoder::random(job.config, job.init, rng);
  const SparseCoder before = coder.clone();
  RowReservoir reservoir(16, 48);
  const Tensor rows = normal_rows(5, 16, 9);
  reservoir.offer(rows.mat<float>(), std::vector<double>{1, 2, 3, 4, 5}, rng);
  resample_latents(coder, std::vector<std::int64_t>{3, 40}, reservoir);
  const auto first = reservoir.row(reservoir.order()[0]);
  const double norm = std::sqrt(sum_squares(first));
  EXPECT_NEAR(dot(coder.decoder().row(3), first) / norm, 0.1, 1e-6);  // the others' norm
  EXPECT_NEAR(std::sqrt(sum_squares(std::as_const(coder).encoder().row(3))), 0.2 * 0.1, 1e-6);
  for (std::int64_t j = 0; j < 48; ++j) {
    const bool same =
        std::ranges::equal(std::as_const(coder).decoder().row(j), before.decoder().row(j));
    EXPECT_EQ(same, j != 3 && j != 40) << j;
  }
}

TEST(GeometricMedian, IsWhereTheDistancesAreLeast) {
  Tensor rows = normal_rows(301, 6, 4);
  for (std::int64_t r = 0; r < 40; ++r) {  // outliers that would move the mean
    for (float& v : rows.mutable_mat<float>().row(r)) v += 30.0F;
  }
  const std::vector<float> median = geometric_median(rows.mat<float>());
  const auto distances = [&](std::span<const float> point) {
    double sum = 0.0;
    for (std::int64_t r = 0; r < 301; ++r) {
      double square = 0.0;
      for (std::size_t c = 0; c < 6; ++c) {
        const double e = static_cast<double>(rows.mat<float>()(r, static_cast<std::int64_t>(c))) -
                         static_cast<double>(point[c]);
        square += e * e;
      }
      sum += std::sqrt(square);
    }
    return sum;
  };
  const double least = distances(median);
  for (std::size_t c = 0; c < 6; ++c) {
    for (const float by : {-0.05F, 0.05F}) {
      std::vector<float> moved = median;
      moved[c] += by;
      EXPECT_GT(distances(moved), least) << c;
    }
  }
}

}  // namespace
}  // namespace drrik
