#include "train/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>

#include "base/small_files.h"
#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/log.h"
#include "drrik/train/trainer.h"
#include "train/memory_rows.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using testing::MemoryRows;
using testing::sparse_rows;

class Checkpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              ("drrik_checkpoint_" + std::to_string(getpid()) + "_" +
               ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
    path_ = folder_ / "checkpoint.safetensors";
  }
  void TearDown() override {
    set_interrupted(false);
    fs::remove_all(folder_);
  }

  static ReluSae make_sae() {
    ReluSaeConfig config;
    config.activation_dim = 9;
    config.hidden_dim = 70;
    config.l1_coefficient = 0.1;
    Rng rng(1);
    ReluSae sae = ReluSae::random(config, rng);
    sae.encoder_bias()[3] = -100.0F;  // dead: resampled at step 20
    return sae;
  }

  FitOptions options() const {
    FitOptions o;
    o.batch_size = 16;
    o.epochs = 4;
    o.learning_rate = 3e-3;
    o.resample_interval = 20;
    o.window_size = 10;
    o.verbose = false;
    o.checkpoint = path_;
    o.checkpoint_at_end = true;
    return o;
  }

  fs::path folder_;
  fs::path path_;
};

std::vector<float> weights(const ReluSae& sae) {
  std::vector<float> out;
  for (std::int64_t j = 0; j < sae.d_sae(); ++j) {
    out.insert(out.end(), sae.encoder().row(j).begin(), sae.encoder().row(j).end());
    out.insert(out.end(), sae.decoder().row(j).begin(), sae.decoder().row(j).end());
  }
  out.insert(out.end(), sae.encoder_bias().begin(), sae.encoder_bias().end());
  out.insert(out.end(), sae.bias().begin(), sae.bias().end());
  return out;
}

// Interrupted after `step` steps, again and again, resumed each time from the file alone.
TEST_F(Checkpoint, InterruptAndResumeIsBitEqualToARunWithout) {
  const MemoryRows rows(sparse_rows(200, 9, 1));  // 180 to train: 12 steps an epoch
  ReluSae straight = make_sae();
  FitOptions plain = options();
  plain.checkpoint.clear();
  const FitResult wanted = fit(straight, rows, plain);
  ASSERT_EQ(wanted.steps, 48);
  ASSERT_GT(wanted.resampled, 0);

  // One stop in the first step's wake, at the end of an epoch, at and after a resampling.
  for (const std::vector<std::int64_t>& stops :
       std::vector<std::vector<std::int64_t>>{{1}, {12}, {20}, {21, 35}, {47}}) {
    fs::remove(path_);
    FitResult result;
    std::vector<float> got;
    for (std::size_t leg = 0; leg <= stops.size(); ++leg) {
      ReluSae sae = make_sae();  // fresh: everything must come from the file
      FitOptions o = options();
      o.resume = true;
      FitCallbacks callbacks;
      callbacks.on_step = [&](const StepRecord& r) {
        if (leg < stops.size() && r.step + 1 == stops[leg]) set_interrupted(true);
      };
      if (leg < stops.size()) {
        EXPECT_THROW(
            {
              try {
                fit(sae, rows, o, callbacks);
              } catch (const Error& e) {
                EXPECT_EQ(e.kind(), ErrorKind::kInterrupted);
                throw;
              }
            },
            Error);
        set_interrupted(false);
      } else {
        result = fit(sae, rows, o, callbacks);
        got = weights(sae);
      }
    }
    EXPECT_EQ(got, weights(straight)) << "stopped at " << stops.front();
    EXPECT_EQ(result.history.training_losses, wanted.history.training_losses);
    EXPECT_EQ(result.history.validation_l0_norms, wanted.history.validation_l0_norms);
    EXPECT_EQ(result.resampled, wanted.resampled);
  }
}

TEST_F(Checkpoint, ALongerRunGoesOnFromAFinishedOne) {
  const MemoryRows rows(sparse_rows(200, 9, 1));
  ReluSae straight = make_sae();
  FitOptions o = options();
  o.steps = 30;
  fit(straight, rows, o);
  const fs::path other = folder_ / "other.safetensors";
  ReluSae first = make_sae();
  o.steps = 17;
  o.checkpoint = other;
  fit(first, rows, o);
  ReluSae second = make_sae();
  o.steps = 30;
  o.resume = true;
  fit(second, rows, o);
  EXPECT_EQ(weights(second), weights(straight));
}

TEST_F(Checkpoint, RefusesAnotherRunsFile) {
  const MemoryRows rows(sparse_rows(100, 9, 1));
  ReluSae sae = make_sae();
  FitOptions o = options();
  o.steps = 2;
  fit(sae, rows, o);
  o.resume = true;
  o.steps = 4;
  const auto refused = [&](const std::string& word, const std::function<void()>& f) {
    try {
      f();
      FAIL() << "no error about " << word;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kData);
      EXPECT_NE(std::string(e.what()).find(word), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find(path_.string()), std::string::npos) << e.what();
    }
  };
  FitOptions changed = o;
  changed.batch_size = 17;
  refused("batch_size", [&] { fit(sae, rows, changed); });
  changed = o;
  changed.seed = 7;
  refused("seed", [&] { fit(sae, rows, changed); });
  const MemoryRows fewer(sparse_rows(90, 9, 1));
  refused("training rows", [&] { fit(sae, fewer, o); });
}

TEST_F(Checkpoint, RefusesTruncatedAndForeignFiles) {
  const MemoryRows rows(sparse_rows(100, 9, 1));
  ReluSae sae = make_sae();
  FitOptions o = options();
  o.steps = 2;
  fit(sae, rows, o);
  const std::string whole = read_file(path_);
  o.resume = true;
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{7}, whole.size() / 2, whole.size() - 1}) {
    std::ofstream(path_, std::ios::binary) << whole.substr(0, size);
    EXPECT_THROW(fit(sae, rows, o), Error) << size;
  }
  std::ofstream(path_, std::ios::binary) << whole;
  EXPECT_NO_THROW(fit(sae, rows, o));
}

TEST_F(Checkpoint, OfBeforeStaysWhenTheLossDiverges) {
  Tensor data = sparse_rows(100, 9, 1);
  ReluSae sae = make_sae();
  FitOptions o = options();
  o.steps = 3;
  fit(sae, MemoryRows(data.clone()), o);
  const std::string before = read_file(path_);
  data.mutable_mat<float>()(50, 2) = NAN;
  o.steps = 12;
  o.resume = true;
  EXPECT_THROW(fit(sae, MemoryRows(std::move(data)), o), Error);
  EXPECT_EQ(read_file(path_), before);
}

TEST_F(Checkpoint, InAFolderThatCannotBeMadeIsAnIoError) {
  const MemoryRows rows(sparse_rows(100, 9, 1));
  ReluSae sae = make_sae();
  FitOptions o = options();
  std::ofstream(folder_ / "file") << "x";
  o.checkpoint = folder_ / "file" / "checkpoint.safetensors";
  o.steps = 1;
  bool began = false;
  FitCallbacks callbacks;
  callbacks.on_step = [&](const StepRecord&) { began = true; };
  try {
    fit(sae, rows, o, callbacks);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kIo) << e.what();
  }
  EXPECT_FALSE(began);
}

// To start anew and overwrite it would be wrong: it may be there.
TEST_F(Checkpoint, ThatCannotBeLookedAtIsAnIoError) {
  const MemoryRows rows(sparse_rows(100, 9, 1));
  ReluSae sae = make_sae();
  FitOptions o = options();
  o.resume = true;
  fs::create_symlink(path_.filename(), path_);
  try {
    fit(sae, rows, o);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kIo) << e.what();
    EXPECT_NE(std::string(e.what()).find(path_.string()), std::string::npos) << e.what();
  }
}

/// What is logged while it lives.
class Logged {
 public:
  Logged() {
    set_log_sink([this](LogLevel level, std::string_view text) {
      if (level >= LogLevel::kError) errors += std::string(text) + "\n";
    });
  }
  ~Logged() { set_log_sink(nullptr); }
  Logged(const Logged&) = delete;
  Logged& operator=(const Logged&) = delete;
  std::string errors;
};

std::string error_text(ErrorKind kind, const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), kind) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST_F(Checkpoint, ThatCannotBeWrittenDoesNotEndTheTraining) {
  const MemoryRows rows(sparse_rows(200, 9, 1));
  FitOptions o = options();
  ReluSae straight = make_sae();
  o.checkpoint.clear();
  fit(straight, rows, o);
  o = options();
  o.checkpoint_every_epoch = true;
  ReluSae sae = make_sae();
  std::string good;
  std::optional<testing::SmallFiles> full;
  FitCallbacks callbacks;
  callbacks.on_step = [&](const StepRecord& r) {
    if (r.step != 13) return;  // in the second epoch
    good = read_file(path_);
    full.emplace(1000);
  };
  const Logged log;
  const FitResult result = fit(sae, rows, o, callbacks);
  full.reset();
  EXPECT_EQ(result.steps, 48);
  EXPECT_EQ(weights(sae), weights(straight));
  EXPECT_NE(log.errors.find("checkpoint of step 24"), std::string::npos) << log.errors;
  EXPECT_NE(log.errors.find("of step 12, stays"), std::string::npos) << log.errors;
  EXPECT_EQ(read_file(path_), good);
}

// The caller is about to write the weights: three times their size must not stand in the way.
TEST_F(Checkpoint, IsNotWrittenWhenTrainingCompletes) {
  const MemoryRows rows(sparse_rows(200, 9, 1));
  ReluSae sae = make_sae();
  FitOptions o = options();
  o.checkpoint_at_end = false;
  fit(sae, rows, o);
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(Checkpoint, ThatCannotBeWrittenOnInterruptIsAnIoErrorThatSaysWhatIsLeft) {
  const MemoryRows rows(sparse_rows(200, 9, 1));
  for (const bool earlier : {false, true}) {
    ReluSae sae = make_sae();
    FitOptions o = options();
    o.checkpoint_every_epoch = earlier;
    std::optional<testing::SmallFiles> full;
    FitCallbacks callbacks;
    callbacks.on_step = [&](const StepRecord& r) {
      if (r.step != 13) return;
      full.emplace(1000);
      set_interrupted(true);
    };
    const std::string text = error_text(ErrorKind::kIo, [&] { fit(sae, rows, o, callbacks); });
    full.reset();
    set_interrupted(false);
    EXPECT_NE(text.find("interrupted at step 14"), std::string::npos) << text;
    EXPECT_NE(text.find("free space, then "), std::string::npos) << text;
    EXPECT_EQ(text.find("of step 12, stays") != std::string::npos, earlier) << text;
    EXPECT_EQ(text.find("nothing of this training was saved") != std::string::npos, !earlier)
        << text;
    EXPECT_EQ(fs::exists(path_), earlier);
  }
}

TEST_F(Checkpoint, IsSpokenOfOnlyWhenThereIsOne) {
  const MemoryRows rows(sparse_rows(200, 9, 1));
  ReluSae sae = make_sae();
  FitOptions o = options();
  o.learning_rate = 1e25;
  o.validation_split = 0.0;
  std::string text = error_text(ErrorKind::kNumeric, [&] { fit(sae, rows, o); });
  EXPECT_EQ(text.find("checkpoint"), std::string::npos) << text;
  EXPECT_EQ(text.find("nan"), std::string::npos) << text;
  o.steps = 1;
  ReluSae again = make_sae();
  fit(again, rows, o);
  o.steps = 0;
  o.resume = true;
  text = error_text(ErrorKind::kNumeric, [&] { fit(again, rows, o); });
  EXPECT_NE(text.find("the last checkpoint, " + path_.string() + ", of step 1, stays"),
            std::string::npos)
      << text;
}

}  // namespace
}  // namespace drrik
