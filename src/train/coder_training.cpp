#include "drrik/train/coder_training.h"

#include <cmath>

#include "drrik/base/error.h"

namespace drrik {

void CoderTraining::validate(const SparseCoderConfig& config) const {
  const auto wanted = [](bool ok, const char* name, double got, const char* what) {
    if (!ok || std::isnan(got)) throw_usage(name, ": got ", got, ", wanted ", what);
  };
  wanted(sparsity.coefficient >= 0, "sparsity coefficient", sparsity.coefficient, ">= 0");
  wanted(sparsity.bandwidth > 0, "bandwidth", sparsity.bandwidth, "> 0");
  wanted(sparsity.target_l0 > 0, "target L0", sparsity.target_l0, "> 0");
  wanted(aux.coefficient >= 0, "aux coefficient", aux.coefficient, ">= 0");
  wanted(aux.k >= 0, "aux k", static_cast<double>(aux.k), ">= 0");
  wanted(clip_norm >= 0, "clip norm", clip_norm, ">= 0");
  wanted(dead_steps >= 1, "dead steps", static_cast<double>(dead_steps), ">= 1");
  wanted(threshold_decay >= 0 && threshold_decay < 1, "threshold decay", threshold_decay,
         "0 to below 1");
  if (!group_weights.empty() && group_weights.size() != config.groups.size()) {
    throw_usage("group weights: got ", group_weights.size(), ", wanted one for each of ",
                config.groups.size(), " groups");
  }
  for (const double w : group_weights) wanted(w > 0, "group weight", w, "> 0");
  if (unit_decoder && config.parts > 1) {
    throw_usage(
        "a crosscoder's decoder rows cannot be kept at norm 1; their norms say where a "
        "latent lives");
  }
  if (config.skip && config.apply_b_dec_to_input) {
    throw_usage("skip: wanted apply_b_dec_to_input off");
  }
  if (config.row_normalization != RowNormalization::kNone) {
    throw_usage(
        "row normalization: coders with it can be read and used, not trained; normalise "
        "the activations instead");
  }
}

}  // namespace drrik
