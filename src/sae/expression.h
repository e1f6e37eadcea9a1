#pragma once
// A coder on its way into a format that can say less: what the format lacks is folded into the
// weights, each time with a line about it, and what cannot be folded is refused.

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/sae/sparse_coder.h"

namespace drrik {

class Expression {
 public:
  /// `format` is for messages. Folds decoder norms that a coder measures by, which no format but
  /// SAELens's knows and every one can do without.
  Expression(const SparseCoder& coder, std::string_view format);

  const SparseCoder& coder() const { return coder_; }
  const SparseCoderConfig& config() const { return coder_.config(); }
  const std::vector<std::string>& folded() const { return folded_; }
  bool is_transcoder() const;

  /// batchtopk and matryoshka as the jumprelu they are for single rows.
  void use_inference_form();
  /// gated: f = 1[p + b_gate > 0] ReLU(p e^r + b_mag) is a jumprelu with encoder e^r E and
  /// threshold b_mag − e^r b_gate.
  void use_jumprelu_for_gated();
  /// A ReLU is a jumprelu with threshold 0.
  void use_jumprelu_for_standard();
  /// And back, where every threshold is 0.
  void use_standard_for_zero_thresholds();
  /// The format always subtracts b_dec from the input, or never does: b_enc takes the difference,
  /// ± E b_dec.
  void centre(bool centred);

  // Each throws Error(data) saying what the format lacks and what it would make of the coder.
  void allow(std::initializer_list<std::string_view> architectures) const;
  void refuse_transcoders() const;
  void refuse_skip() const;
  void refuse_other_width() const;  ///< d_out must be d_in.
  void refuse_row_normalization() const;
  void refuse_layer_norm_but(RowNormalization wanted) const;
  void refuse_signed_topk() const;
  void refuse_parts() const;
  [[noreturn]] void refuse(std::string_view why) const;

 private:
  void replace(SparseCoderConfig config);
  SparseCoder coder_;
  std::string format_;
  std::vector<std::string> folded_;
};

}  // namespace drrik
