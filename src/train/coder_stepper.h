#pragma once
// One training step of a sparse coder of any architecture.

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "drrik/base/communicator.h"
#include "drrik/ops/sae_kernels.h"
#include "drrik/ops/sae_select.h"
#include "drrik/sae/sparse_coder.h"
#include "drrik/train/coder_training.h"
#include "sae/variant.h"
#include "train/dead_revival.h"
#include "train/phases.h"

namespace drrik {

/// dL/dparameter, by the names of SparseCoder::parameters() and of the same shapes.
struct CoderGradients {
  std::vector<std::pair<std::string, Tensor>> named;
  const Tensor& at(std::string_view name) const;
};

/// Notation: B rows, h latents; features are handled transposed, [h, B]. Memory: two moments for
/// each parameter, a few [B, d] matrices, one [chunk, B], the active entries.
///
/// With several ranks every one calls the same functions with its own rows of each batch, and has
/// the same weights and moments before and after. All that is said of a batch (losses, active rows,
/// dead latents, thresholds, norms) is of the whole batch; x, row_errors() are the rank's.
/// Gradients are then formed as matrices [h, d], which is two more in memory, summed over the ranks
/// and stepped by.
class CoderStepper {
 public:
  /// Trains `coder` in place; it and `ranks` must outlive the stepper. Throws Error(usage).
  CoderStepper(SparseCoder& coder, const CoderTraining& training,
               Communicator& ranks = local_communicator());

  /// Takes one step on x [B, d_in], which is overwritten, towards y [B, d_out] (empty: x).
  /// last_active[j] = number for every latent active in the batch; what it held before says which
  /// are dead. number counts from 0. When the loss is not finite nothing is updated.
  CoderLoss step(MatView<float> x, MatView<const float> y, std::int64_t number,
                 const StepFactors& factors, std::span<std::int64_t> last_active);

  /// Loss and gradients, as `step` would use them before projection and clipping; changes nothing
  /// but x.
  CoderLoss gradients(MatView<float> x, MatView<const float> y, std::int64_t number,
                      const StepFactors& factors, std::span<const std::int64_t> last_active,
                      CoderGradients& out);

  /// Brings weights and moments up to date: decoder steps of idle latents are put off. Changes no
  /// later result.
  void settle();
  void reset_moments(std::span<const std::int64_t> latents);
  /// After the coder's weights were changed by others.
  void weights_changed();

  /// Weights and moments by name, for checkpoints; valid while the stepper lives.
  std::vector<NamedTensor> state();
  /// Copies a tensor of state() back. Throws Error(data) when the shape differs.
  void restore(const std::string& name, const Tensor& tensor);

  /// Seen so far by the threshold's running mean (part of the state).
  std::int64_t threshold_updates() const { return threshold_updates_; }
  void set_threshold_updates(std::int64_t n) { threshold_updates_ = n; }

  /// Of the last batch: rows on which each latent was active [h], squared error of each row [B].
  std::span<const std::int64_t> active_rows() const { return active_; }
  std::span<const double> row_errors() const { return error_; }

  const PhaseSeconds& phases() const { return phases_; }

 private:
  struct Moments {
    std::string name;
    Tensor m, v;
  };

  Moments& moments(std::string_view name);
  SaeSweepState sweep_state();
  MatView<float> centring();
  std::int64_t chunk_latents(std::int64_t rows) const;
  // Calls f(first, count) over the chunks.
  template <typename F>
  void each_chunk(std::int64_t rows, const F& f) const {
    const std::int64_t chunk = chunk_latents(rows);
    for (std::int64_t first = 0; first < coder_.d_sae(); first += chunk) {
      f(first, std::min(chunk, coder_.d_sae() - first));
    }
  }

  // coder_forward.cpp
  CoderLoss forward(MatView<float> x, MatView<const float> y, std::int64_t number,
                    std::span<const std::int64_t> last_active);
  void prepare(MatView<float> x, MatView<const float> y);
  void select(MatView<const float> xc, std::vector<std::int64_t> dead);
  void activate();
  void decode(CoderLoss& loss);
  void decode_sparse();
  void decode_dense();
  void gate_reconstruction(CoderLoss& loss);
  void aux_loss(CoderLoss& loss);
  void backward(CoderLoss& loss);

  double clip_factor(const SaeSweepBatch& batch, CoderLoss& loss);
  void output_gradients();
  void update(std::int64_t number, const StepFactors& factors, CoderLoss& loss);
  void sweep_dense(const SaeSweepBatch& batch, const SaeSweepOptions& options);
  void step_vectors(const AdamScalars& adam, float scale);
  void update_threshold();
  SaeSweepBatch sweep_batch() const;
  bool together() const { return ranks_.size() > 1; }
  double total(double part) const;
  double total(std::span<const double> parts) const;
  void add_centring();
  double sum_gradients(const SaeSweepBatch& batch);

  SparseCoder& coder_;
  CoderTraining training_;
  Communicator& ranks_;
  SaeDeferred deferred_;
  std::vector<Moments> moments_;
  Tensor rounded_encoder_;  // [h, d_in] bfloat16, with Compute::kBF16
  std::int64_t threshold_updates_ = 0;
  PhaseSeconds phases_;

  // One batch; context_.rows are all ranks' rows.
  std::int64_t rows_ = 0;     // this rank's
  SparsityOptions sparsity_;  // with the warm-up's coefficient
  BatchContext context_;
  SaeSelection selection_;
  SaeSelector selector_;
  ActiveEntries entries_;
  ActiveEntries gate_;  // value and grad alone: what the gate reconstructs
  bool sparse_ = true;
  std::vector<std::uint8_t> dead_mask_;
  DeadRevival revival_;
  MatView<const float> xc_, target_;
  Tensor packing_, target_holder_, pre_, residual_, gate_residual_, dense_, left_over_;
  Tensor encoder_grad_, decoder_grad_, centring_, skip_grad_, skipped_;
  std::vector<float> b_dec_grad_, bias_grad_, norm_grad_, chunk_sums_;
  std::vector<float> summed_bias_grad_;  // over all ranks
  std::vector<std::vector<float>> parameter_grads_;
  std::vector<double> error_, l1_sums_, penalties_;
  std::vector<double> group_errors_;
  std::vector<std::int64_t> group_ends_;
  std::vector<std::int32_t> row_l0_;
  std::vector<std::int64_t> active_;  // active rows of each latent
  double total_variance_ = 0.0;       // ⟨‖y − ⟨y⟩‖²⟩
  double weight_ = 1.0;               // of the squared error's sum, divided by B
};

}  // namespace drrik
