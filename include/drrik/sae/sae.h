#pragma once
// A trained sparse autoencoder as its users see it: encode, decode, directions.
//
// Notation: n rows, d = d_in (activation_dim), h = d_sae (hidden_dim), f features [n, h].
// Reconstructions are d_out wide, which is d_in for all but transcoders.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "drrik/tensor/mat_view.h"

namespace drrik {

/// Active entries of a batch in compressed rows: row r owns [row_start[r], row_start[r + 1]).
/// Latents within a row ascend.
struct SparseRows {
  std::vector<std::int64_t> row_start;  ///< [n + 1]
  std::vector<std::int32_t> latent;     ///< [nnz]
  std::vector<float> value;  ///< [nnz], not 0 (below 0 only where the architecture allows it)
};

class Sae {
 public:
  virtual ~Sae() = default;
  /// "relu" and so on: the name in the files and on the command line.
  virtual std::string architecture() const = 0;
  virtual std::int64_t d_in() const = 0;
  virtual std::int64_t d_sae() const = 0;
  /// Width of what is reconstructed: d_in, but for a transcoder.
  virtual std::int64_t d_out() const { return d_in(); }
  /// f = encode(x): x [n, d] -> out [n, h]. Throws Error(data) when widths differ.
  virtual void encode(MatView<const float> x, MatView<float> out) const = 0;
  /// The same as compressed rows; never stores the [n, h] matrix for all rows at once.
  virtual void encode(MatView<const float> x, SparseRows& out) const = 0;
  /// x̂ = decode(f): f [n, h] -> out [n, d_out].
  virtual void decode(MatView<const float> f, MatView<float> out) const = 0;
  virtual void decode(const SparseRows& f, MatView<float> out) const = 0;
  /// x̂ from x at once: what decode(encode(x)) gives, and whatever a row's own input adds to it (a
  /// skip connection, the scale that was taken from the row before). x [n, d_in] -> out [n, d_out],
  /// which may be x itself where the widths are equal.
  virtual void reconstruct(MatView<const float> x, MatView<float> out) const;
  /// encode() and reconstruct() of the same rows. As it stands here it encodes twice; architectures
  /// that are evaluated or trained override it.
  virtual void encode_and_reconstruct(MatView<const float> x, SparseRows& features,
                                      MatView<float> out) const;
  /// Decoder direction of a latent, [d_out]. Throws Error(usage) when latent is outside [0, h).
  virtual std::vector<float> decoder_direction(std::int64_t latent) const = 0;
  /// What a row is multiplied with to give a latent its pre-activation, [d_in]; empty where the
  /// architecture has no such vector. Throws as decoder_direction().
  virtual std::vector<float> encoder_direction(std::int64_t latent) const;
};

}  // namespace drrik
