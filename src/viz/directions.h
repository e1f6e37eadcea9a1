#pragma once
// What the weights alone say of features: what they promote, what they resemble, where they lie.
// Products of all directions with something large go tile by tile, and of each row only the ends
// are kept: no [d_sae, vocabulary] or [d_sae, d_sae] matrix exists.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "drrik/model/model.h"
#include "drrik/sae/sae.h"
#include "drrik/tensor/tensor.h"

namespace drrik::detail {

struct Ranked {
  std::int32_t index = 0;
  float value = 0.0F;
};

/// A list of at most `width` for each feature, in one piece.
class RankedLists {
 public:
  RankedLists() = default;
  RankedLists(std::int64_t features, std::int64_t width)
      : width_(width),
        all_(static_cast<std::size_t>(features * width)),
        used_(static_cast<std::size_t>(features), 0) {}
  std::span<const Ranked> of(std::int64_t feature) const {
    if (used_.empty()) return {};
    return {all_.data() + feature * width_,
            static_cast<std::size_t>(used_[static_cast<std::size_t>(feature)])};
  }
  /// The `width` entries with the largest key(value), largest first; of equal ones the lower index.
  /// Those for which !wanted(index) are left out.
  template <typename Key, typename Wanted>
  void keep(std::int64_t feature, std::span<const float> values, Key&& key, Wanted&& wanted) {
    Ranked* const list = all_.data() + feature * width_;
    std::int64_t used = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (used == width_ && (width_ == 0 || !(key(values[i]) > key(list[used - 1].value))))
        continue;
      if (!wanted(static_cast<std::int32_t>(i))) continue;
      std::int64_t to = used < width_ ? used++ : width_ - 1;
      for (; to > 0 && key(values[i]) > key(list[to - 1].value); --to) list[to] = list[to - 1];
      list[to] = {static_cast<std::int32_t>(i), values[i]};
    }
    used_[static_cast<std::size_t>(feature)] = static_cast<std::int32_t>(used);
  }

 private:
  std::int64_t width_ = 0;
  std::vector<Ranked> all_;
  std::vector<std::int32_t> used_;
};

/// The decoder's directions, [d_sae, d_out].
Tensor decoder_directions(const Sae& sae);
/// ‖d_j‖, [d_sae].
std::vector<float> direction_norms(MatView<const float> directions);
/// d_j / ‖d_j‖; rows of zeros where the norm is 0 or not finite.
void normalize_directions(MatView<float> directions, std::span<const float> norms);
/// Of the encoder, [d_sae]; the gate's of a gated one. NaN where the class is not known.
std::vector<float> encoder_biases(const Sae& sae);

/// The features of the largest cosine to each, from unit directions. A direction of norm 0 has none
/// and is none's. O(d_sae² d_out).
RankedLists nearest_features(MatView<const float> unit, std::int64_t k);

/// How many of a feature's logits lie in each of some bins of equal width from the lowest to the
/// highest.
struct LensHistogram {
  float low = 0.0F;
  float high = 0.0F;
  std::vector<std::int32_t> counts;
};
struct LogitLens {
  RankedLists promoted;                   ///< Largest first.
  RankedLists suppressed;                 ///< Lowest first.
  std::vector<LensHistogram> histograms;  ///< With bins > 0.
};
/// Decoder directions at a hook through to_residual() and unembed(). Nothing where the hook writes
/// nothing to the stream or the head is not linear, for which `why` then has the words.
std::optional<LogitLens> logit_lens(const Model& model, const Hook& hook,
                                    MatView<const float> directions, std::int64_t k,
                                    std::int64_t bins, std::string& why);

struct NeuronLists {
  RankedLists lists;    ///< By size, whatever the sign.
  std::string meaning;  ///< What the weights are, in words.
};
/// mlp_post: the decoder's own entries. Points of the stream behind an MLP's write: the cosine of
/// the direction with what each neuron of that MLP writes. Elsewhere the lists are empty.
NeuronLists neurons_used(const Model& model, const Hook& hook, MatView<const float> directions,
                         std::int64_t k);

/// The first two principal components of some rows: where each lies, and the share of the variance
/// each has. The sign is that of the component's largest entry.
struct PlaneMap {
  std::vector<float> x;
  std::vector<float> y;
  std::array<double, 2> explained = {0.0, 0.0};
};
PlaneMap principal_plane(MatView<const float> rows);

}  // namespace drrik::detail
