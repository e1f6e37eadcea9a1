#include "drrik/train/coder_trainer.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <numbers>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/log.h"
#include "drrik/base/progress.h"
#include "drrik/base/rng.h"
#include "drrik/base/system.h"
#include "drrik/ops/convert.h"
#include "train/checkpoint_keeper.h"
#include "train/coder_checkpoint.h"
#include "train/coder_loss.h"
#include "train/coder_stepper.h"
#include "train/geometric_median.h"
#include "train/resampling.h"

namespace drrik {
namespace {

constexpr std::uint64_t kInitStream = 1;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

std::string fixed(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

// Sums of losses until they are reported.
void add(const CoderLoss& from, CoderLoss& to) {
  for (const auto& [name, field] : kLossFields) to.*field += from.*field;
  to.dead = from.dead;
}

CoderLoss mean_of(CoderLoss sum, std::int64_t n) {
  for (const auto& [name, field] : kLossFields) {
    sum.*field *= n > 0 ? 1.0 / static_cast<double>(n) : 0.0;
  }
  return sum;
}

// The columns of the sites side by side, times their scales.
void gather_sites(const std::vector<std::int64_t>& sites, std::span<const Tensor> rows,
                  std::span<const double> scales, std::int64_t n, MatView<float> out) {
  std::int64_t column = 0;
  for (const std::int64_t site : sites) {
    const MatView<const float> from = rows[at(site)].mat<float>().rows_range(0, n);
    const auto to = out.cols_range(column, from.cols());
    copy(from, to);
    const double scale = scales.empty() ? 1.0 : scales[at(site)];
    if (scale != 1.0) drrik::scale(static_cast<float>(scale), to);
    column += from.cols();
  }
}

// One coder while it is trained.
struct Trainee {
  Trainee(CoderJob j, SparseCoder c, Communicator& ranks)
      : job(std::move(j)), coder(std::move(c)), stepper(coder, job.training, ranks) {
    state.last_active.assign(at(coder.d_sae()), -1);
    state.fires.assign(at(coder.d_sae()), 0);
    if (job.resampling.interval > 0) state.reservoir = RowReservoir(coder.d_in(), coder.d_sae());
  }

  CoderJob job;
  SparseCoder coder;
  CoderStepper stepper;
  CoderJobState state;
  Tensor x, y;
};

class Run {
 public:
  Run(std::vector<CoderJob> jobs, RowStream& stream, const CoderRunOptions& options,
      const CoderCallbacks& callbacks, std::vector<SparseCoder> start)
      : stream_(stream),
        options_(options),
        callbacks_(callbacks),
        ranks_(options.ranks != nullptr ? *options.ranks : local_communicator()) {
    options.validate();
    if (jobs.empty()) throw_usage("training: no coder asked for");
    if (!options.site_scales.empty() && options.site_scales.size() != stream.sites().size()) {
      throw_usage("site scales: got ", options.site_scales.size(), ", there are ",
                  stream.sites().size(), " sites");
    }
    if (!start.empty() && start.size() != jobs.size()) {
      throw_usage("training: ", start.size(), " coders to start from for ", jobs.size(), " jobs");
    }
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      CoderJob& job = jobs[i];
      job.resolve(stream.sites());
      for (std::size_t before = 0; before < i; ++before) {
        if (jobs[before].name == job.name)
          throw_usage("training: two coders named '", job.name, "'");
      }
      Rng rng(job.seed, kInitStream);
      fresh_ = start.empty();
      SparseCoder coder =
          start.empty() ? SparseCoder::random(job.config, job.init, rng) : std::move(start[i]);
      if (coder.d_in() != job.config.d_in || coder.d_out() != job.config.output_width()) {
        throw_data("coder '", job.name, "' takes rows of width ", coder.d_in(), ", the sites give ",
                   job.config.d_in);
      }
      trainees_.push_back(std::make_unique<Trainee>(job, std::move(coder), ranks_));
    }
    if (options.batch_size < ranks_.size()) {
      throw_usage("batch size: got ", options.batch_size, " rows for ", ranks_.size(), " ranks");
    }
    room_ = (options.batch_size + ranks_.size() - 1) / ranks_.size();
    for (const RowSite& site : stream.sites()) {
      rows_.push_back(Tensor::uninitialized(DType::kF32, {room_, site.width}));
    }
  }

  CoderRun train() {
    steps_ = options_.steps;
    if (steps_ == 0 && stream_.rows() >= 0) {
      steps_ = options_.passes * ((stream_.rows() + options_.batch_size - 1) / options_.batch_size);
    }
    if (steps_ == 0) {
      for (const auto& t : trainees_) {
        if (t->job.schedule.decay_steps > 0 || t->job.schedule.cosine) {
          throw_usage(
              "training: the learning rate is to fall towards the end, but the stream does "
              "not know its length; give the number of steps");
        }
      }
    }
    start();
    const double began = monotonic_seconds();
    checkpoint_.start_clock();
    const std::int64_t first_step = state_.step;
    const std::int64_t first_rows = state_.rows;
    {
      std::unique_ptr<Progress> progress;
      if (options_.verbose && reports()) {
        progress =
            std::make_unique<Progress>("Training", steps_ > 0 ? steps_ - first_step : 0, "steps");
      }
      while (steps_ == 0 || state_.step < steps_) {
        stop_when_interrupted();
        const std::int64_t n = next_batch_of_all();
        if (n == 0) break;
        for (std::size_t i = 0; i < trainees_.size(); ++i) one_step(i, n);
        ++state_.step;
        state_.rows += n;
        after_step(progress.get());
      }
    }
    if (state_.step == 0) throw_data("activations: no rows to train on");
    CoderRun run;
    run.steps = state_.step;
    run.rows = state_.rows;
    run.seconds = monotonic_seconds() - began;
    run.rows_per_second =
        run.seconds > 0 ? static_cast<double>(state_.rows - first_rows) / run.seconds : 0.0;
    run.stream_seconds = stream_seconds_;
    for (std::size_t i = 0; i < trainees_.size(); ++i) {
      Trainee& t = *trainees_[i];
      t.stepper.settle();
      CoderOutcome out{std::move(t.coder), t.state.since > 0 ? record(i) : t.state.last, {}};
      const auto seen = static_cast<double>(std::max<std::int64_t>(1, t.state.fire_rows));
      for (const std::int64_t fires : t.state.fires) {
        out.density.push_back(static_cast<double>(fires) / seen);
      }
      if (!options_.site_scales.empty()) {
        out.coder.fold_part_scales(scales_of(t.job.inputs),
                                   scales_of(t.job.targets.empty() ? t.job.inputs : t.job.targets));
      }
      run.coders.push_back(std::move(out));
    }
    return run;
  }

 private:
  std::vector<double> scales_of(const std::vector<std::int64_t>& sites) const {
    std::vector<double> scales;
    for (const std::int64_t i : sites) scales.push_back(options_.site_scales[at(i)]);
    return scales;
  }

  CoderRunIdentity identity() const {
    CoderRunIdentity id{{}, options_, steps_};
    for (const auto& t : trainees_) id.jobs.push_back(&t->job);
    return id;
  }

  bool reports() const { return ranks_.rank() == 0; }

  std::vector<CoderPart> parts() {
    std::vector<CoderPart> all;
    for (const auto& t : trainees_) all.push_back({t->job.name, &t->stepper, &t->state});
    return all;
  }

  void start() {
    bool present = false;
    together(ranks_, [&] { present = checkpoint_.begin(options_.resume, !reports()); });
    std::int64_t readers = present ? 1 : 0;
    ranks_.sum(std::span(&readers, 1));
    if (readers == 0) return;
    together(ranks_, [&] {
      if (!present) {
        throw_io("'", options_.checkpoint.string(), "' is there for ", readers, " of ",
                 ranks_.size(), " ranks; all read it, so it must lie on a file system they share");
      }
      read_coder_checkpoint(options_.checkpoint, identity(), state_, parts(), stream_);
    });
    checkpoint_.resumed(state_.step);
    if (reports())
      log_info("resuming at step ", state_.step, steps_ > 0 ? str(" of ", steps_) : "");
  }

  // This rank's share of the next batch; the number of rows of all ranks.
  std::int64_t read_share(std::span<const MatView<float>> out) {
    const std::int64_t n =
        stream_.next_share(out, options_.batch_size, ranks_.rank(), ranks_.size());
    return n < ranks_.size() ? 0 : n;
  }

  // All ranks' rows, in the order of the batch, of which n are.
  Tensor gather_rows(MatView<const float> mine, std::int64_t n) {
    Tensor own = Tensor::uninitialized(DType::kF32, {mine.rows(), mine.cols()});
    copy(mine, own.mutable_mat<float>());
    if (ranks_.size() == 1) return own;
    Tensor all = Tensor::uninitialized(DType::kF32, {n, mine.cols()});
    ranks_.all_gather(std::as_const(own).data<float>(), share_counts(n, mine.cols()),
                      all.mutable_data<float>());
    return all;
  }

  std::vector<std::int64_t> share_counts(std::int64_t n, std::int64_t width) const {
    std::vector<std::int64_t> counts;
    for (int r = 0; r < ranks_.size(); ++r) {
      counts.push_back(row_share(n, r, ranks_.size()).count() * width);
    }
    return counts;
  }

  // Fills rows_; the number of all ranks' rows, 0 when the data and the passes are over.
  std::int64_t next_batch() {
    const double began = monotonic_seconds();
    std::vector<MatView<float>> out;
    for (Tensor& t : rows_) out.push_back(t.mutable_mat<float>());
    std::int64_t n = read_share(out);
    if (n == 0) {
      ++state_.pass;
      if (state_.rows > 0 && (options_.steps > 0 || state_.pass < options_.passes)) {
        stream_.rewind();
        n = read_share(out);
      }
    }
    stream_seconds_ += monotonic_seconds() - began;
    return n;
  }

  // What is wrong on one rank is said by all.
  std::int64_t next_batch_of_all() {
    std::int64_t n = 0;
    std::int64_t ready = 1;  // the stream took the batch
    try {
      together(ranks_, [&] {
        ready = 0;
        n = next_batch();
        ready = 1;
      });
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::kInterrupted) {
        // A stop request may come to the stream; it has given no row of the next batch then, and
        // the run is whole. Where only some ranks' streams stopped, the last checkpoint has to do.
        ranks_.maximum(std::span(&ready, 1));
        if (ready == 0) stop_when_interrupted();
      }
      throw;
    }
    return n;
  }

  // all: the batch's rows.
  void one_step(std::size_t index, std::int64_t all) {
    const std::int64_t n = row_share(all, ranks_.rank(), ranks_.size()).count();
    Trainee& t = *trainees_[index];
    const SparseCoderConfig& config = t.coder.config();
    if (!t.x.defined()) {
      t.x = Tensor::uninitialized(DType::kF32, {room_, config.d_in});
      if (!t.job.targets.empty()) {
        t.y = Tensor::uninitialized(DType::kF32, {room_, config.output_width()});
      }
    }
    const auto x = t.x.mutable_mat<float>().rows_range(0, n);
    gather_sites(t.job.inputs, rows_, options_.site_scales, n, x);
    MatView<const float> y;
    if (!t.job.targets.empty()) {
      const auto room = t.y.mutable_mat<float>().rows_range(0, n);
      gather_sites(t.job.targets, rows_, options_.site_scales, n, room);
      y = room;
    }
    if (state_.step == 0 && fresh_) {
      initialize_bias(t, y.empty() ? MatView<const float>(x) : y, all);
    }
    const StepFactors factors = t.job.schedule.at(state_.step, steps_);
    const CoderLoss loss = t.stepper.step(x, y, state_.step, factors, t.state.last_active);
    if (!std::isfinite(loss.loss)) {
      t.stepper.settle();
      throw_numeric("coder '", t.job.name, "', step ", state_.step, ": the loss is ",
                    std::isnan(loss.loss) ? "NaN" : str(loss.loss),
                    "; try a lower learning rate, a longer warm-up or clipping",
                    checkpoint_.what_is_saved());
    }
    add(loss, t.state.sum);
    ++t.state.since;
    // Densities over the last quarter of a run whose length is known, else over all of it.
    if (steps_ > 0 && state_.step == steps_ - steps_ / 4) {
      std::ranges::fill(t.state.fires, 0);
      t.state.fire_rows = 0;
    }
    const auto active = t.stepper.active_rows();
    for (std::size_t j = 0; j < active.size(); ++j) t.state.fires[j] += active[j];
    t.state.fire_rows += all;
    resample(index, x, all);
  }

  void initialize_bias(Trainee& t, MatView<const float> mine, std::int64_t all) {
    if (t.job.initial_bias == InitialBias::kZero) return;
    const auto b_dec = t.coder.b_dec();
    const Tensor rows = gather_rows(mine, all);
    const auto target = rows.mat<float>();
    switch (t.job.initial_bias) {
      case InitialBias::kZero:
        return;
      case InitialBias::kMean:
        sum_rows(target, b_dec);
        for (float& v : b_dec) v /= static_cast<float>(target.rows());
        return;
      case InitialBias::kGeometricMedian: {
        const std::vector<float> median = geometric_median(target);
        std::ranges::copy(median, b_dec.begin());
        return;
      }
    }
  }

  // x: this rank's part of the batch of `all` rows, centred by the step.
  void resample(std::size_t index, MatView<const float> x, std::int64_t all) {
    Trainee& t = *trainees_[index];
    const CoderResampling& how = t.job.resampling;
    if (how.interval <= 0 || t.state.resamplings >= how.times) return;
    const std::int64_t number = state_.step + 1;
    const std::int64_t next = (state_.step / how.interval + 1) * how.interval;
    if ((next - number) * options_.batch_size < how.rows) {
      Rng rng(t.job.seed, kReservoirStream + static_cast<std::uint64_t>(state_.step) * 16);
      if (ranks_.size() == 1) {
        t.state.reservoir.offer(x, t.stepper.row_errors(), rng);
      } else {  // every rank draws the same rows
        const Tensor rows = gather_rows(x, all);
        std::vector<double> errors(at(all));
        ranks_.all_gather(t.stepper.row_errors(), share_counts(all, 1), std::span(errors));
        t.state.reservoir.offer(rows.mat<float>(), errors, rng);
      }
    }
    if (number % how.interval != 0) return;
    t.stepper.settle();
    std::vector<std::int64_t> dead;
    for (std::int64_t j = 0; j < t.coder.d_sae(); ++j) {
      if (number - t.state.last_active[at(j)] > how.window) dead.push_back(j);
    }
    resample_latents(t.coder, dead, t.state.reservoir);
    t.stepper.weights_changed();
    t.stepper.reset_moments(dead);
    for (const std::int64_t j : dead) t.state.last_active[at(j)] = state_.step;
    t.state.reservoir.clear();
    ++t.state.resamplings;
    t.state.resampled += static_cast<std::int64_t>(dead.size());
    log_debug(t.job.name, ", step ", number, ": resampled ", dead.size(), " dead latents");
    if (callbacks_.on_resample && reports()) {
      callbacks_.on_resample(static_cast<std::int64_t>(index), number, dead);
    }
  }

  CoderRecord record(std::size_t index) {
    Trainee& t = *trainees_[index];
    CoderRecord out;
    out.job = static_cast<std::int64_t>(index);
    out.step = state_.step;
    out.rows = state_.rows;
    out.loss = mean_of(t.state.sum, t.state.since);
    out.factors = t.job.schedule.at(std::max<std::int64_t>(0, state_.step - 1), steps_);
    out.dead = 0;
    for (const std::int64_t last : t.state.last_active) {
      out.dead += state_.step - 1 - last >= t.job.training.dead_steps ? 1 : 0;
    }
    out.resampled = t.state.resampled;
    t.state.sum = {};
    t.state.since = 0;
    t.state.last = out;
    return out;
  }

  void after_step(Progress* progress) {
    if (state_.step % options_.log_every == 0) {
      for (std::size_t i = 0; i < trainees_.size(); ++i) {
        const CoderRecord r = record(i);
        if (callbacks_.on_log && reports()) callbacks_.on_log(r);
      }
    }
    if (progress != nullptr) {
      progress->advance(1);
      if (state_.step % 16 == 1) progress->set_note(note());
    }
    const bool counted =
        options_.checkpoint_steps > 0 && state_.step % options_.checkpoint_steps == 0;
    if (checkpoint_.due() || counted) checkpoint_.try_save(state_.step);
  }

  std::string note() const {
    const Trainee& t = *trainees_.front();
    const CoderLoss loss =
        t.state.since > 0 ? mean_of(t.state.sum, t.state.since) : t.state.last.loss;
    std::string text = str("FVU ", fixed(loss.fvu), ", L0 ", fixed(loss.l0), ", dead ", loss.dead);
    if (trainees_.size() > 1) text += str(" (first of ", trainees_.size(), ")");
    return text;
  }

  void stop_when_interrupted() {
    std::int64_t stop = interrupted() ? 1 : 0;
    ranks_.maximum(std::span(&stop, 1));  // all stop at the same step
    if (stop == 0) return;
    checkpoint_.save_at_stop(state_.step);
    ranks_.barrier();  // none leaves, and perhaps ends the others, before the checkpoint is there
    throw Error(ErrorKind::kInterrupted, CheckpointKeeper::stopped_at(state_.step));
  }

  RowStream& stream_;
  CoderRunOptions options_;
  const CoderCallbacks& callbacks_;
  Communicator& ranks_;
  std::int64_t room_ = 0;  // rows of a rank's share, at most
  std::vector<std::unique_ptr<Trainee>> trainees_;
  bool fresh_ = true;  // weights are random, biases to be set
  CoderRunState state_;
  std::int64_t steps_ = 0;  // 0: until the stream ends
  std::vector<Tensor> rows_;
  double stream_seconds_ = 0.0;
  // Rank 0 writes for all.
  CheckpointKeeper checkpoint_{options_.checkpoint, options_.checkpoint_minutes, [this] {
                                 if (reports())
                                   write_coder_checkpoint(options_.checkpoint, identity(), state_,
                                                          parts(), stream_);
                               }};
};

bool valid_name(const std::string& name) {
  return !name.empty() && name.front() != '.' && std::ranges::all_of(name, [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
  });
}

}  // namespace

StepFactors CoderSchedule::at(std::int64_t step, std::int64_t steps) const {
  StepFactors out;
  const auto s = static_cast<double>(step);
  const auto n = static_cast<double>(steps);
  if (warmup_steps > 0) {
    out.learning_rate =
        std::min(1.0, (s + (warmup_from_zero ? 0.0 : 1.0)) / static_cast<double>(warmup_steps));
  }
  if (cosine && steps > 0 && step >= warmup_steps) {
    const double span = std::max(1.0, n - static_cast<double>(warmup_steps));
    out.learning_rate *=
        0.5 * (1.0 + std::cos(std::numbers::pi * (s - static_cast<double>(warmup_steps)) / span));
  }
  if (decay_steps > 0 && steps > 0 && step >= steps - decay_steps) {
    out.learning_rate *= (n - s) / static_cast<double>(decay_steps);
  }
  if (sparsity_warmup_steps > 0) {
    out.sparsity = std::min(1.0, s / static_cast<double>(sparsity_warmup_steps));
  }
  return out;
}

void CoderJob::resolve(const std::vector<RowSite>& sites) {
  if (!valid_name(name)) {
    throw_usage("coder name '", name, "': wanted letters, digits, '.', '_' or '-'");
  }
  const auto width_of = [&](const std::vector<std::int64_t>& which) {
    std::int64_t width = 0;
    for (const std::int64_t i : which) {
      if (i < 0 || i >= static_cast<std::int64_t>(sites.size())) {
        throw_usage("coder '", name, "': site ", i, " of ", sites.size());
      }
      width += sites[at(i)].width;
    }
    return width;
  };
  if (inputs.empty()) throw_usage("coder '", name, "': no site to learn from");
  config.d_in = width_of(inputs);
  config.d_out = targets.empty() ? config.d_in : width_of(targets);
  if (!targets.empty()) config.apply_b_dec_to_input = false;
  if (inputs.size() > 1) {
    config.parts = static_cast<std::int64_t>(inputs.size());
    config.apply_b_dec_to_input = false;
    for (const std::int64_t i : inputs) {
      if (sites[at(i)].width * config.parts != config.d_in) {
        throw_usage("coder '", name, "': a crosscoder's sites must be of one width");
      }
    }
  }
  config.validate();
  training.validate(config);
}

void CoderRunOptions::validate() const {
  if (batch_size < 1) throw_usage("batch size: got ", batch_size, ", wanted >= 1");
  if (steps < 0) throw_usage("steps: got ", steps, ", wanted >= 0");
  if (steps == 0 && passes < 1) throw_usage("passes: got ", passes, ", wanted >= 1");
  if (log_every < 1) throw_usage("log every: got ", log_every, ", wanted >= 1");
  for (const double s : site_scales) {
    if (!std::isfinite(s) || s <= 0) throw_usage("site scale: got ", s, ", wanted > 0");
  }
}

std::map<std::string, double> CoderRecord::metrics() const {
  std::map<std::string, double> out = {
      {"losses/overall_loss", loss.loss},
      {"losses/mse_loss", loss.mse},
      {"losses/sparsity_loss", loss.sparsity},
      {"losses/auxiliary_reconstruction_loss", loss.aux},
      {"metrics/l0", loss.l0},
      {"metrics/l1", loss.l1},
      {"metrics/explained_variance", 1.0 - loss.fvu},
      {"sparsity/dead_features", static_cast<double>(dead)},
      {"sparsity/resampled", static_cast<double>(resampled)},
      {"details/current_learning_rate_factor", factors.learning_rate},
      {"details/sparsity_factor", factors.sparsity},
      {"details/n_training_samples", static_cast<double>(rows)}};
  if (loss.gradient_norm > 0) out["details/gradient_norm"] = loss.gradient_norm;
  std::erase_if(out, [](const auto& entry) { return std::isnan(entry.second); });
  return out;
}

CoderRun train_coders(std::vector<CoderJob> jobs, RowStream& stream, const CoderRunOptions& options,
                      const CoderCallbacks& callbacks, std::vector<SparseCoder> start) {
  return Run(std::move(jobs), stream, options, callbacks, std::move(start)).train();
}

}  // namespace drrik
