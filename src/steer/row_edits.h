#pragma once
// The edits of a recipe, carried out on the rows at a hook.

#include <cstdint>
#include <vector>

#include "drrik/model/hook.h"
#include "drrik/sae/sae.h"
#include "drrik/steer/recipe.h"

namespace drrik {

/// Where an autoencoder reads and where its directions belong; one place but for transcoders.
struct CoderHooks {
  Hook reads;
  Hook writes;
};

/// x becomes x + Σ Δ_f · (direction of f), with all Δ from the features of the row as it came. One
/// for each sequence that is generated: it holds a forward pass's features between the two hooks.
class RowEdits {
 public:
  /// `sae` must outlive it; `edits` are checked, with features that it has.
  RowEdits(const Sae& sae, const CoderHooks& hooks, const std::vector<SteeringEdit>& edits,
           std::int64_t prompt_size);

  /// The hooks it wants to be called at; none when it changes nothing.
  std::vector<Hook> hooks() const;
  /// Row r of `rows` is position `first` + r. Throws Error(usage) when the model comes to the hook
  /// that is written before the one that is read; Error(numeric) for activations to be read that
  /// are no numbers.
  void operator()(const Hook& hook, std::int64_t first, MatView<float> rows);

 private:
  struct Edit {
    SteeringEdit what;
    std::vector<float> direction;
  };
  void read(std::int64_t first, MatView<const float> rows);
  void write(std::int64_t first, MatView<float> rows);
  double change(const Edit& edit, std::int64_t row) const;

  const Sae* sae_;
  CoderHooks hooks_;
  std::int64_t prompt_size_;
  std::vector<double> prompt_;     // what every prompt row gets, [d_out]; empty: nothing
  std::vector<double> generated_;  // likewise
  std::vector<Edit> plain_;        // additions at listed positions
  std::vector<Edit> reading_;      // those that depend on the row's features or its scale
  // Of the pass under way, for `reading_`: rows of the block, and their features and scales.
  bool read_ = false;
  std::int64_t first_row_ = 0;
  SparseRows features_;
  std::vector<double> scales_;
};

}  // namespace drrik
