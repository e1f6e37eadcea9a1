#include "drrik/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <utility>

#include "activations/nonfinite.h"
#include "activations/row_order.h"
#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/log.h"
#include "drrik/base/progress.h"
#include "drrik/base/system.h"
#include "drrik/ops/convert.h"
#include "train/checkpoint.h"
#include "train/checkpoint_keeper.h"
#include "train/median.h"
#include "train/stepper.h"

namespace drrik {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::uint64_t kResampleStream = 7;
// Rows that the last counts of dead and active features are taken over when none are held out.
constexpr std::int64_t kFinalRows = std::int64_t{1} << 18;
// Rows that are read at a time to look at them without training.
constexpr std::int64_t kBlock = 4096;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

std::string fixed(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

// Throws Error(data) when one of rows [begin, end) holds NaN or Inf.
void check_rows(const RowSource& rows, std::int64_t begin, std::int64_t end) {
  if (begin >= end) return;
  Tensor buffer = Tensor::uninitialized(DType::kF32, {std::min(kBlock, end - begin), rows.dim()});
  for (std::int64_t first = begin; first < end; first += kBlock) {
    check_interrupt("reading the validation rows");
    const auto block = buffer.mutable_mat<float>().rows_range(0, std::min(kBlock, end - first));
    rows.read(first, block);
    detail::refuse_nonfinite(block, first);
  }
}

class Run {
 public:
  Run(ReluSae& sae, const RowSource& rows, const FitOptions& options, const FitCallbacks& callbacks)
      : sae_(sae), rows_(rows), options_(options), callbacks_(callbacks) {
    if (rows.dim() != sae.d_in()) {
      throw_data("activations have width ", rows.dim(), ", the autoencoder takes ", sae.d_in());
    }
    if (rows.rows() < 1) throw_data("activations: no rows to train on");
    const auto held_out =
        static_cast<std::int64_t>(static_cast<double>(rows.rows()) * options.validation_split);
    train_rows_ = rows.rows() - held_out;
    validation_rows_ = held_out;
    steps_per_epoch_ = (train_rows_ + options.batch_size - 1) / options.batch_size;
    if (options.steps > 0) {
      total_steps_ = options.steps;
    } else {
      total_steps_ = steps_per_epoch_ * options.epochs;
    }
    StepperOptions stepper;
    stepper.adam.learning_rate = options.learning_rate;
    stepper.adam.beta1 = options.beta1;
    stepper.adam.beta2 = options.beta2;
    stepper.adam.eps = options.eps;
    stepper.path = options.path;
    stepper_ = make_relu_stepper(sae, stepper);
    identity_ = {sae.config(), options, train_rows_};
  }

  FitResult train() {
    start();
    // Now rather than at the end of the epoch that they would spoil.
    check_rows(rows_, train_rows_, train_rows_ + validation_rows_);
    const double began = monotonic_seconds();
    const std::int64_t first_step = state_.step;
    checkpoint_.start_clock();
    {
      std::unique_ptr<Progress> progress;
      if (options_.verbose) {
        progress = std::make_unique<Progress>(
            "Training", (total_steps_ - first_step) * std::min(options_.batch_size, train_rows_),
            "rows");
      }
      while (state_.step < total_steps_) {
        stop_when_interrupted();
        one_step(progress.get());
        if (state_.epoch_steps == steps_per_epoch_) finish_epoch(progress.get());
        checkpoint_when_due();
      }
    }
    stepper_->settle();
    const double seconds = monotonic_seconds() - began;
    // Before a partial epoch is closed, so that a longer run can go on from here.
    if (options_.checkpoint_at_end) checkpoint_.try_save(state_.step);
    if (state_.epoch_steps > 0) finish_epoch(nullptr);
    FitResult result = summary();
    result.seconds = seconds;
    result.rows_per_second = seconds > 0 ? static_cast<double>(rows_done_) / seconds : 0.0;
    return result;
  }

 private:
  void start() {
    state_.last_active.assign(at(sae_.d_sae()), -1);
    if (checkpoint_.begin(options_.resume)) {
      read_checkpoint(options_.checkpoint, identity_, state_, *stepper_);
      checkpoint_.resumed(state_.step);
      log_info("resuming at step ", state_.step, " of ", total_steps_);
      return;
    }
    if (sae_.config().pre_encoder_bias && options_.initialize_bias) {
      const std::vector<float> medians =
          column_medians(rows_, train_rows_, options_.median_rows, options_.seed);
      std::ranges::copy(medians, sae_.bias().begin());
      state_.median_rows = std::min(train_rows_, options_.median_rows);
    }
  }

  // Rows of the step that comes next; fills batch_ and, when shuffling, numbers_.
  MatView<float> next_batch() {
    const std::int64_t begin = state_.epoch_steps * options_.batch_size;
    const std::int64_t size = std::min(options_.batch_size, train_rows_ - begin);
    if (!buffer_.defined()) {
      buffer_ = Tensor::uninitialized(DType::kF32,
                                      {std::min(options_.batch_size, train_rows_), sae_.d_in()});
    }
    const MatView<float> batch = buffer_.mutable_mat<float>().rows_range(0, size);
    numbers_.resize(at(size));
    if (options_.shuffle) {
      const RowOrder order(train_rows_, options_.seed, static_cast<std::uint64_t>(state_.epoch));
      for (std::int64_t i = 0; i < size; ++i) numbers_[at(i)] = order(begin + i);
      rows_.gather(numbers_, batch);
    } else {
      for (std::int64_t i = 0; i < size; ++i) numbers_[at(i)] = begin + i;
      rows_.read(begin, batch);
    }
    return batch;
  }

  void one_step(Progress* progress) {
    const MatView<float> batch = next_batch();
    const StepOutcome outcome = stepper_->step(batch, state_.step, state_.last_active);
    if (!std::isfinite(outcome.loss.loss)) {
      stepper_->settle();
      explain_nonfinite(batch, outcome.loss.loss);
    }
    if (callbacks_.on_step) {
      callbacks_.on_step({state_.step, state_.epoch, outcome.loss, outcome.sparse});
    }
    state_.epoch_loss += outcome.loss.loss;
    state_.epoch_l0 += outcome.loss.l0;
    ++state_.step;
    ++state_.epoch_steps;
    rows_done_ += batch.rows();
    if (options_.resample_dead_neurons && state_.step % options_.resample_interval == 0) {
      resample();
    }
    if (progress != nullptr) {
      progress->advance(batch.rows());
      if (state_.step % 16 == 1) progress->set_note(note(outcome.loss));
    }
  }

  std::string note(const SaeLoss& loss) const {
    std::string text = str("loss ", fixed(loss.loss), ", L0 ", fixed(loss.l0));
    const auto& history = state_.history;
    if (!history.validation_losses.empty() && !std::isnan(history.validation_losses.back())) {
      text += str(", val_loss ", fixed(history.validation_losses.back()), ", val_L0 ",
                  fixed(history.validation_l0_norms.back()));
    }
    return text;
  }

  [[noreturn]] void explain_nonfinite(MatView<const float> batch, double loss) const {
    // The batch is centred by now; a finite bias does not hide what was not finite before.
    detail::refuse_nonfinite(
        batch, [&](std::int64_t r) { return numbers_[at(r)]; }, str(" (step ", state_.step, ")"));
    throw_numeric("step ", state_.step, ": the loss is ", detail::number_text(loss),
                  "; try a lower learning rate", checkpoint_.what_is_saved());
  }

  void resample() {
    stepper_->settle();
    const std::int64_t from = std::max(state_.window_start, state_.step - options_.window_size);
    std::vector<std::uint8_t> dead(at(sae_.d_sae()), 0);
    for (std::size_t j = 0; j < dead.size(); ++j) dead[j] = state_.last_active[j] < from ? 1 : 0;
    state_.window_start = state_.step;
    if (std::ranges::find(dead, 1) == dead.end()) return;
    // The same rows and draws whether or not the run was interrupted before.
    Rng rng(options_.seed, kResampleStream + static_cast<std::uint64_t>(state_.step) * 16);
    const std::int64_t count = std::min(train_rows_, options_.resample_rows);
    const RowOrder order(train_rows_, options_.seed, ~static_cast<std::uint64_t>(state_.step));
    std::vector<std::int64_t> numbers(at(count));
    for (std::int64_t i = 0; i < count; ++i) numbers[at(i)] = order(i);
    std::ranges::sort(numbers);
    Tensor sample = Tensor::uninitialized(DType::kF32, {count, sae_.d_in()});
    rows_.gather(numbers, sample.mutable_mat<float>());
    const std::vector<std::int64_t> latents =
        sae_.resample_dead_neurons(sample.mat<float>(), rng, {.dead_mask = dead});
    stepper_->reset_moments(latents);
    state_.resampled += static_cast<std::int64_t>(latents.size());
    log_debug("step ", state_.step, ": resampled ", latents.size(), " dead features");
    if (callbacks_.on_resample) callbacks_.on_resample(state_.step, latents);
  }

  void finish_epoch(Progress* progress) {
    stepper_->settle();
    EpochRecord record;
    ++state_.epoch;
    record.epoch = state_.epoch;
    record.learning_rate = options_.learning_rate;
    record.train_loss = state_.epoch_loss / static_cast<double>(state_.epoch_steps);
    record.train_l0_norm = state_.epoch_l0 / static_cast<double>(state_.epoch_steps);
    record.val_loss = kNan;
    record.val_l0_norm = kNan;
    if (validation_rows_ > 0) {
      active_rows_.assign(at(sae_.d_sae()), 0);
      const SaeLoss loss =
          evaluate_loss(sae_, rows_, train_rows_, train_rows_ + validation_rows_, &active_rows_);
      counted_step_ = state_.step;
      if (!std::isfinite(loss.loss)) {
        throw_numeric("step ", state_.step, ": the validation loss is ",
                      detail::number_text(loss.loss), "; try a lower learning rate",
                      checkpoint_.what_is_saved());
      }
      record.val_loss = loss.loss;
      record.val_l0_norm = loss.l0;
    }
    state_.history.training_losses.push_back(record.train_loss);
    state_.history.training_l0_norms.push_back(record.train_l0_norm);
    state_.history.validation_losses.push_back(record.val_loss);
    state_.history.validation_l0_norms.push_back(record.val_l0_norm);
    state_.epoch_steps = 0;
    state_.epoch_loss = 0.0;
    state_.epoch_l0 = 0.0;
    if (progress != nullptr) {
      SaeLoss loss;
      loss.loss = record.train_loss;
      loss.l0 = record.train_l0_norm;
      progress->set_note(note(loss));
    }
    if (callbacks_.on_epoch) callbacks_.on_epoch(record);
    epoch_ended_ = true;
  }

  void checkpoint_when_due() {
    const bool epoch = std::exchange(epoch_ended_, false);
    if (checkpoint_.due() || (epoch && options_.checkpoint_every_epoch)) {
      checkpoint_.try_save(state_.step);
    }
  }

  void stop_when_interrupted() {
    if (!interrupted()) return;
    stepper_->settle();
    checkpoint_.save_at_stop(state_.step);
    throw Error(ErrorKind::kInterrupted, CheckpointKeeper::stopped_at(state_.step));
  }

  FitResult summary() {
    FitResult result;
    result.history = state_.history;
    result.steps = state_.step;
    result.epochs = state_.epoch;
    result.train_rows = train_rows_;
    result.validation_rows = validation_rows_;
    result.resampled = state_.resampled;
    result.median_rows = state_.median_rows;
    const auto last = [](const std::vector<double>& v) { return v.empty() ? kNan : v.back(); };
    result.final_train_loss = last(state_.history.training_losses);
    result.final_l0_norm = last(state_.history.training_l0_norms);
    result.final_val_loss = last(state_.history.validation_losses);
    result.final_val_l0_norm = last(state_.history.validation_l0_norms);
    std::int64_t counted = validation_rows_;
    if (counted_step_ != state_.step) {
      active_rows_.assign(at(sae_.d_sae()), 0);
      counted = validation_rows_ > 0 ? validation_rows_ : std::min(train_rows_, kFinalRows);
      const std::int64_t begin = validation_rows_ > 0 ? train_rows_ : 0;
      evaluate_loss(sae_, rows_, begin, begin + counted, &active_rows_);
    }
    for (const std::int64_t n : active_rows_) {
      (n > 0 ? result.n_active_features : result.n_dead_features) += 1;
      result.feature_density.push_back(static_cast<double>(n) / static_cast<double>(counted));
    }
    result.feature_sparsity =
        static_cast<double>(result.n_active_features) / static_cast<double>(sae_.d_sae());
    return result;
  }

  ReluSae& sae_;
  const RowSource& rows_;
  FitOptions options_;
  const FitCallbacks& callbacks_;
  std::unique_ptr<Stepper> stepper_;
  RunIdentity identity_;
  TrainState state_;
  CheckpointKeeper checkpoint_{
      options_.checkpoint, options_.checkpoint_minutes,
      [this] { write_checkpoint(options_.checkpoint, identity_, state_, *stepper_); }};
  std::int64_t train_rows_ = 0;
  std::int64_t validation_rows_ = 0;
  std::int64_t steps_per_epoch_ = 0;
  std::int64_t total_steps_ = 0;
  std::int64_t rows_done_ = 0;
  Tensor buffer_;
  std::vector<std::int64_t> numbers_;      // of the batch's rows in the source
  std::vector<std::int64_t> active_rows_;  // [h], over the validation rows
  std::int64_t counted_step_ = -1;         // the step they were counted after
  bool epoch_ended_ = false;
};

void put(std::map<std::string, double>& to, const char* name, double value) {
  if (!std::isnan(value)) to[name] = value;
}

}  // namespace

void FitOptions::validate() const {
  const auto at_least = [](const char* name, std::int64_t got, std::int64_t wanted) {
    if (got < wanted) throw_usage(name, ": got ", got, ", wanted at least ", wanted);
  };
  const auto within = [](const char* name, double got, bool ok, const char* wanted) {
    if (!ok || !std::isfinite(got)) throw_usage(name, ": got ", got, ", wanted ", wanted);
  };
  at_least("batch_size", batch_size, 1);
  if (batch_size > (1 << 24)) throw_usage("batch_size: got ", batch_size, ", wanted at most 2^24");
  at_least("epochs", epochs, steps > 0 ? 0 : 1);
  at_least("steps", steps, 0);
  at_least("resample_interval", resample_interval, 1);
  at_least("window_size", window_size, 1);
  at_least("resample_rows", resample_rows, 1);
  at_least("median_rows", median_rows, 1);
  within("learning_rate", learning_rate, learning_rate >= 0, "a finite number >= 0");
  within("validation_split", validation_split, validation_split >= 0 && validation_split < 1,
         "a number in [0, 1)");
  within("beta1", beta1, beta1 >= 0 && beta1 < 1, "a number in [0, 1)");
  within("beta2", beta2, beta2 >= 0 && beta2 < 1, "a number in [0, 1)");
  within("eps", eps, eps >= 0, "a finite number >= 0");
  within("checkpoint_minutes", checkpoint_minutes, checkpoint_minutes >= 0, "a number >= 0");
  if (resume && checkpoint.empty()) throw_usage("resume needs a checkpoint file");
}

std::map<std::string, double> EpochRecord::metrics() const {
  std::map<std::string, double> out;
  put(out, "epoch", static_cast<double>(epoch));
  put(out, "train_loss", train_loss);
  put(out, "train_l0_norm", train_l0_norm);
  put(out, "val_loss", val_loss);
  put(out, "val_l0_norm", val_l0_norm);
  put(out, "learning_rate", learning_rate);
  return out;
}

std::map<std::string, double> FitResult::metrics() const {
  std::map<std::string, double> out;
  put(out, "final_train_loss", final_train_loss);
  put(out, "final_val_loss", final_val_loss);
  put(out, "final_l0_norm", final_l0_norm);
  put(out, "final_val_l0_norm", final_val_l0_norm);
  put(out, "n_dead_features", static_cast<double>(n_dead_features));
  put(out, "n_active_features", static_cast<double>(n_active_features));
  put(out, "feature_sparsity", feature_sparsity);
  return out;
}

SaeLoss evaluate_loss(const ReluSae& sae, const RowSource& rows, std::int64_t begin,
                      std::int64_t end, std::vector<std::int64_t>* active_rows) {
  if (begin < 0 || end > rows.rows() || begin >= end) {
    throw_data("loss over rows [", begin, ", ", end, ") of ", rows.rows());
  }
  if (rows.dim() != sae.d_in()) {
    throw_data("activations have width ", rows.dim(), ", the autoencoder takes ", sae.d_in());
  }
  Tensor buffer = Tensor::uninitialized(DType::kF32, {std::min(kBlock, end - begin), rows.dim()});
  SaeLoss total;
  for (std::int64_t first = begin; first < end; first += kBlock) {
    const std::int64_t size = std::min(kBlock, end - first);
    const MatView<float> block = buffer.mutable_mat<float>().rows_range(0, size);
    rows.read(first, block);
    const SaeLoss part = sae.loss(block, active_rows);
    if (!std::isfinite(part.loss)) detail::refuse_nonfinite(block, first);
    const double share = static_cast<double>(size) / static_cast<double>(end - begin);
    total.loss += share * part.loss;
    total.mse += share * part.mse;
    total.l1 += share * part.l1;
    total.l0 += share * part.l0;
  }
  return total;
}

FitResult fit(ReluSae& sae, const RowSource& rows, const FitOptions& options,
              const FitCallbacks& callbacks) {
  options.validate();
  return Run(sae, rows, options, callbacks).train();
}

}  // namespace drrik
