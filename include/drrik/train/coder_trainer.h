#pragma once
// train_coders: any number of sparse coders on one stream of activations.
//
// Every batch is read once and each coder takes its step on the sites it learns from.
// Deterministic: the same seeds, rows and options give the same weights on one machine, whatever
// the number of threads. Memory: per coder its weights, two moments each and a few matrices of one
// batch; what the stream keeps; never a function of the number of rows.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "drrik/activations/row_stream.h"
#include "drrik/base/communicator.h"
#include "drrik/sae/sparse_coder.h"
#include "drrik/train/coder_training.h"

namespace drrik {

/// How learning rate and penalty change over a run. At step s of n (from 0):
/// warm-up min(1, (s + 1) / warmup_steps), then 1, and over the last decay_steps down to 0.
struct CoderSchedule {
  std::int64_t warmup_steps = 0;
  /// (s / warmup_steps): the first step is 0 (dictionary_learning).
  bool warmup_from_zero = false;
  std::int64_t decay_steps = 0;
  bool cosine = false;  ///< From the end of the warm-up to the end of the run, to 0.
  std::int64_t sparsity_warmup_steps = 0;  ///< Of the penalty: s / steps, linear from 0.

  StepFactors at(std::int64_t step, std::int64_t steps) const;
};

/// New directions for dead latents, Bricken et al. 2023: rows drawn with probability ∝ loss².
/// The rows are those trained on before, by the loss they then had (a weighted reservoir), so that
/// nothing is read or encoded twice.
struct CoderResampling {
  std::int64_t interval = 0;    ///< Steps; 0: off. The paper's: 25,000.
  std::int64_t times = 4;       ///< How often in a run.
  std::int64_t window = 12500;  ///< Steps without activity that make a latent dead.
  std::int64_t rows = 819200;   ///< Rows before the resampling that are drawn from.
};

enum class InitialBias : std::uint8_t {
  kZero,
  kMean,            ///< b_dec = the mean of the first batch's targets (sparsify).
  kGeometricMedian  ///< Their geometric median (dictionary_learning's TopK family, OpenAI).
};

/// One coder of a run.
struct CoderJob {
  std::string name;  ///< Unique among the jobs; [A-Za-z0-9._-]+.
  /// Sites of the stream that are its input, side by side (more than one: a crosscoder), and its
  /// output; no targets: the inputs.
  std::vector<std::int64_t> inputs = {0};
  std::vector<std::int64_t> targets;
  SparseCoderConfig config;  ///< d_in, d_out and (crosscoder) parts follow from the sites.
  SparseCoderInit init;
  InitialBias initial_bias = InitialBias::kZero;
  CoderTraining training;
  CoderSchedule schedule;
  CoderResampling resampling;
  std::uint64_t seed = 42;

  /// Fills what follows from the sites. Throws Error(usage).
  void resolve(const std::vector<RowSite>& sites);
};

struct CoderRunOptions {
  std::int64_t batch_size = 4096;
  std::int64_t steps = 0;  ///< 0: `passes` over the stream.
  std::int64_t passes = 1;
  /// Each site's rows are multiplied by this before anything sees them (input normalisation);
  /// empty:
  /// 1. It is folded into the coders at the end, so that they take raw activations.
  std::vector<double> site_scales;
  std::int64_t log_every = 100;  ///< Steps.
  bool verbose = true;           ///< Progress bar.

  std::filesystem::path checkpoint;   ///< Safetensors, written atomically; empty: none.
  double checkpoint_minutes = 10.0;   ///< 0: only on interrupt.
  std::int64_t checkpoint_steps = 0;  ///< Also every so many steps; 0: off.
  /// Continue from `checkpoint` when it exists, bit for bit as if never stopped.
  bool resume = false;

  /// Ranks that train together, each called with the same jobs, options and stream: of every batch
  /// a rank takes its share of the rows (RowStream::next_share), and all end with the same coders,
  /// within float tolerance those of one rank. Rank 0 alone reports, calls back and writes the
  /// checkpoint, which all must be able to read; resumed by as many ranks it goes on bit for bit,
  /// by another number within float tolerance. A last batch of a pass with fewer rows than ranks is
  /// left out. An error on one rank leaves the others waiting: end them (MpiSession::abort).
  /// Null: alone.
  Communicator* ranks = nullptr;

  /// Throws Error(usage) naming the field.
  void validate() const;
};

/// What a coder did at a step, means over the steps since the record before.
struct CoderRecord {
  std::int64_t job = 0;
  std::int64_t step = 0;  ///< Steps done.
  std::int64_t rows = 0;  ///< Rows seen.
  CoderLoss loss;
  StepFactors factors;
  std::int64_t dead = 0;       ///< Silent in the last training.dead_steps batches.
  std::int64_t resampled = 0;  ///< So far.
  /// By SAELens's names where it has one: "losses/mse_loss", "metrics/l0", …
  std::map<std::string, double> metrics() const;
};

struct CoderCallbacks {
  std::function<void(const CoderRecord&)> on_log;
  std::function<void(std::int64_t job, std::int64_t step, const std::vector<std::int64_t>& latents)>
      on_resample;
};

struct CoderOutcome {
  SparseCoder coder;  ///< Takes raw activations (scales folded), as trained otherwise.
  CoderRecord last;
  /// [h] fraction of rows on which each latent was active: over the last quarter of a run whose
  /// length is known, else over all of it.
  std::vector<double> density;
};

struct CoderRun {
  std::vector<CoderOutcome> coders;  ///< In the order of the jobs.
  std::int64_t steps = 0;
  std::int64_t rows = 0;
  double seconds = 0.0;  ///< Of this call's training.
  double rows_per_second = 0.0;
  double stream_seconds = 0.0;  ///< Of them waiting for rows.
};

/// Trains from random weights, or from `start` (one for each job) when it is not empty.
/// Throws Error(data) for rows that do not fit or hold NaN or Inf, or a checkpoint of another run;
/// Error(numeric) naming job and step when a loss is not finite (the last checkpoint stays);
/// Error(interrupted) after writing a checkpoint, Error(io) when that fails.
CoderRun train_coders(std::vector<CoderJob> jobs, RowStream& stream, const CoderRunOptions& options,
                      const CoderCallbacks& callbacks = {}, std::vector<SparseCoder> start = {});

}  // namespace drrik
