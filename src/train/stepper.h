#pragma once
// One training step of an autoencoder: loss, gradients, Adam, constraints.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "drrik/io/named_tensor.h"
#include "drrik/ops/adam.h"
#include "drrik/ops/sae_kernels.h"
#include "drrik/sae/relu_sae.h"
#include "drrik/train/trainer.h"
#include "train/phases.h"

namespace drrik {

struct StepOutcome {
  SaeLoss loss;  ///< Before the update.
  bool sparse = false;
};

/// The training of one architecture. Another one is a class of this interface and a line in
/// make_stepper.
class Stepper {
 public:
  virtual ~Stepper() = default;
  /// Takes one step on x [B, d], which is overwritten, and sets last_active[j] = number for every
  /// latent active in the batch. number counts from 0. When the loss is not finite nothing is
  /// updated.
  virtual StepOutcome step(MatView<float> x, std::int64_t number,
                           std::span<std::int64_t> last_active) = 0;
  /// Brings weights and moments up to date: some of the work of step() may be put off. Calling it
  /// changes no later result. Everything below settles first.
  virtual void settle() = 0;
  /// Optimizer moments of these latents to zero.
  virtual void reset_moments(std::span<const std::int64_t> latents) = 0;
  /// Weights and moments, for checkpoints; valid while the stepper lives.
  virtual std::vector<NamedTensor> state() = 0;
  /// Copies a tensor of state() back. Throws Error(data) when the shape differs.
  virtual void restore(const std::string& name, const Tensor& tensor) = 0;
  /// Active share of the last batch; decides how the next is worked on, so it is part of the state.
  virtual double density() const = 0;
  virtual void set_density(double density) = 0;
  virtual const PhaseSeconds& phases() const = 0;
};

struct StepperOptions {
  AdamOptions adam;
  StepPath path = StepPath::kAuto;
};

/// Trains `sae` in place; it must outlive the stepper.
std::unique_ptr<Stepper> make_relu_stepper(ReluSae& sae, const StepperOptions& options);

}  // namespace drrik
