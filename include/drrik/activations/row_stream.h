#pragma once
// RowStream: batches of activations in training order, from a store on disk or live from a model.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "drrik/activations/row_source.h"
#include "drrik/io/named_tensor.h"
#include "drrik/tensor/mat_view.h"
#include "drrik/tensor/tensor.h"

namespace drrik {

/// One place whose activations a stream gives.
struct RowSite {
  std::string hook_name;     ///< Ours, "mlp_out"; "" unknown.
  std::string foreign_name;  ///< TransformerLens's, where known: "blocks.3.hook_mlp_out".
  std::int64_t layer = -1;   ///< -1 unknown.
  std::int64_t width = 0;
};

/// Where a stream is: enough for another one of the same making to go on with the same rows, bit
/// for bit.
struct RowStreamState {
  std::string json;  ///< Small facts: positions, generator, what it was made of.
  std::vector<std::pair<std::string, Tensor>> tensors;  ///< A shuffle buffer's rows.
};

/// Rows [begin, end) of a batch.
struct RowShare {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t count() const { return end - begin; }
};
/// What process `rank` of `ranks` takes of n rows: the shares lie behind each other and differ by
/// one row at most.
RowShare row_share(std::int64_t n, int rank, int ranks);

/// Rows of all sites belong together: row r of each is the same token. Not thread-safe.
class RowStream {
 public:
  virtual ~RowStream() = default;
  virtual const std::vector<RowSite>& sites() const = 0;
  /// Fills up to out[0].rows() rows of every site, out[i] [B, sites()[i].width] as float32, and
  /// returns how many; fewer only at the end of a pass, 0 after it. Throws Error(data) naming row
  /// and column of a NaN or Inf, Error(io), Error(interrupted).
  virtual std::int64_t next(std::span<const MatView<float>> out) = 0;
  /// Takes the next n rows, at most `batch`, as next() does, but fills only row_share(n, rank,
  /// ranks) of them, from out's first row on. Returns n. The default reads them all.
  virtual std::int64_t next_share(std::span<const MatView<float>> out, std::int64_t batch, int rank,
                                  int ranks);
  /// Begins the next pass over the data (another order, where it shuffles).
  virtual void rewind() = 0;
  /// Rows of one pass; -1 unknown before its end.
  virtual std::int64_t rows() const = 0;
  virtual RowStreamState state() const = 0;
  /// Throws Error(data) when the state is of another stream, saying what differs.
  virtual void restore(const RowStreamState& state) = 0;
  /// For a run's record: source, order, what was left out (special tokens), normalisation.
  virtual std::vector<std::pair<std::string, std::string>> facts() const = 0;
};

struct StoreStreamOptions {
  bool shuffle = true;  ///< A new order every pass; off: rows in order.
  std::uint64_t seed = 42;
  std::int64_t begin = 0;  ///< Rows [begin, end) of the source only.
  std::int64_t end = -1;   ///< -1: to its last row.
};

/// Rows of a store, whose columns are the sites side by side (widths add up to source.dim()). The
/// source must outlive the stream. Memory: none that grows with the rows; the order is computed.
std::unique_ptr<RowStream> make_store_stream(const RowSource& source, std::vector<RowSite> sites,
                                             const StoreStreamOptions& options = {});

}  // namespace drrik
