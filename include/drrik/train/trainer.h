#pragma once
// fit: trains the described autoencoder on rows in memory or on disk (docs/maths.md).
//
// Deterministic: the same seed, data and options give the same weights on one machine, whatever
// the number of threads. Memory: the weights, two Adam moments each, a few matrices of one batch;
// never a function of the number of rows (a source may have up to 256 MB of file mapped).

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "drrik/activations/row_source.h"
#include "drrik/sae/io.h"
#include "drrik/sae/relu_sae.h"
#include "drrik/train/coder_training.h"

namespace drrik {

struct FitOptions {
  std::int64_t batch_size = 256;
  std::int64_t epochs = 100;
  std::int64_t steps = 0;  ///< Stop after so many steps instead of epochs; 0: off.
  double learning_rate = 1e-4;
  double beta1 = 0.9;  ///< Adam's, as its eps.
  double beta2 = 0.999;
  double eps = 1e-8;
  /// The last int(rows · split) rows are held out; 0: none.
  double validation_split = 0.1;
  bool shuffle = true;  ///< A new order every epoch; off: rows in order.
  bool resample_dead_neurons = true;
  std::int64_t resample_interval = 10000;  ///< steps
  std::int64_t window_size = 100;          ///< Batches without activity that make a latent dead.
  /// Training rows (a seeded sample) from which resampling draws; the paper takes 819,200.
  std::int64_t resample_rows = 8192;
  /// Start `bias` at the per-dimension median of the training rows (the lower of two middle ones).
  bool initialize_bias = true;
  /// Exact median up to so many rows, beyond them that of a seeded sample of so many.
  std::int64_t median_rows = std::int64_t{1} << 20;
  std::uint64_t seed = 42;
  StepPath path = StepPath::kAuto;
  bool verbose = true;  ///< Progress bar.

  /// Checkpoints go to this file (atomically, safetensors); empty: none. One that cannot be written
  /// is logged as an error and training goes on; the one before it stays.
  std::filesystem::path checkpoint;
  double checkpoint_minutes = 10.0;  ///< 0: only at the end of epochs and on interrupt.
  bool checkpoint_every_epoch = false;
  /// Another when training completes, so that a longer run can go on from it. The weights are the
  /// caller's to save then, and a third of the size: on a nearly full disk only one of them fits.
  bool checkpoint_at_end = false;
  /// Continue from `checkpoint` when it exists: bit for bit as if never stopped.
  bool resume = false;

  /// Throws Error(usage) naming the field.
  void validate() const;
};

struct StepRecord {
  std::int64_t step = 0;  ///< From 0.
  std::int64_t epoch = 0;
  SaeLoss loss;  ///< Of the batch, before the step's update.
  bool sparse = false;
};

struct EpochRecord {
  std::int64_t epoch = 0;  ///< From 1.
  double train_loss = 0.0;
  double train_l0_norm = 0.0;
  double val_loss = 0.0;  ///< NaN without validation rows, as is val_l0_norm.
  double val_l0_norm = 0.0;
  double learning_rate = 0.0;
  /// {"epoch", "train_loss", "train_l0_norm", "val_loss", "val_l0_norm", "learning_rate"}, without
  /// the two that are NaN: for a tracker.
  std::map<std::string, double> metrics() const;
};

struct FitCallbacks {
  /// The weights may be behind by steps that idle latents have still to take; in on_epoch and
  /// on_resample they are not.
  std::function<void(const StepRecord&)> on_step;
  std::function<void(const EpochRecord&)> on_epoch;
  /// After resampling: step, latents.
  std::function<void(std::int64_t, const std::vector<std::int64_t>&)> on_resample;
};

struct FitResult {
  SaeHistory history;
  std::int64_t steps = 0;
  std::int64_t epochs = 0;  ///< Finished or begun.
  std::int64_t train_rows = 0;
  std::int64_t validation_rows = 0;
  std::int64_t resampled = 0;    ///< Latents resampled in all.
  std::int64_t median_rows = 0;  ///< Rows whose median `bias` started at; 0: it did not.
  double seconds = 0.0;          ///< Of training in this call.
  double rows_per_second = 0.0;
  double final_train_loss = 0.0;  ///< Of the last epoch, as final_l0_norm.
  double final_val_loss = 0.0;    ///< NaN without validation rows, as final_val_l0_norm.
  double final_l0_norm = 0.0;
  double final_val_l0_norm = 0.0;
  std::int64_t n_dead_features = 0;  ///< Active on none of the validation (else training) rows.
  std::int64_t n_active_features = 0;
  double feature_sparsity = 0.0;        ///< active / all
  std::vector<double> feature_density;  ///< [h], over the same rows.
  /// The final_* and n_* values and feature_sparsity by name, without NaN.
  std::map<std::string, double> metrics() const;
};

/// Trains `sae` in place from its present weights.
/// Throws Error(data) when widths differ, rows are missing, a row holds NaN or Inf (naming row and
/// column) or a checkpoint does not fit; Error(numeric) naming the step when the loss is not finite
/// (the last checkpoint stays); Error(interrupted) after writing a checkpoint, Error(io) when that
/// fails.
FitResult fit(ReluSae& sae, const RowSource& rows, const FitOptions& options = {},
              const FitCallbacks& callbacks = {});

/// Loss over rows [begin, end) of a source, streamed in blocks; optionally counts per latent on how
/// many rows it is active. Throws Error(data) naming row and column of a NaN or Inf.
SaeLoss evaluate_loss(const ReluSae& sae, const RowSource& rows, std::int64_t begin,
                      std::int64_t end, std::vector<std::int64_t>* active_rows = nullptr);

}  // namespace drrik
