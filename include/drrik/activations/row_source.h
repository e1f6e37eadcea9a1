#pragma once
// RowSource: activations as rows, wherever they lie.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "drrik/tensor/mat_view.h"
#include "drrik/tensor/tensor.h"

namespace drrik {

/// Read access to an [rows, dim] matrix of activations in memory or on disk. Const and safe to use
/// from several threads.
class RowSource {
 public:
  virtual ~RowSource() = default;
  virtual std::int64_t rows() const = 0;
  virtual std::int64_t dim() const = 0;
  /// Copies rows [begin, begin + out.rows()) to `out` as float32.
  virtual void read(std::int64_t begin, MatView<float> out) const = 0;
  /// Copies the rows named by `indices` (any order) to `out` as float32.
  virtual void gather(std::span<const std::int64_t> indices, MatView<float> out) const = 0;
  /// The whole matrix when it lies in memory as contiguous float32, else empty.
  virtual MatView<const float> view() const { return {}; }
};

/// Rows of a float32 matrix that the caller keeps alive.
std::unique_ptr<RowSource> make_row_source(MatView<const float> rows);
/// Takes a float32 [n, d] tensor.
std::unique_ptr<RowSource> make_row_source(Tensor rows);
/// Rows [begin, end) and columns [column, column + width) of a source that the caller keeps alive.
/// Throws Error(usage) for what lies outside.
std::unique_ptr<RowSource> make_row_view(const RowSource& source, std::int64_t begin,
                                         std::int64_t end, std::int64_t column, std::int64_t width);
/// Several sources side by side, kept alive by the caller: row r is their rows r. Throws
/// Error(data) when their numbers of rows differ.
std::unique_ptr<RowSource> make_joined_rows(std::vector<const RowSource*> sources);
/// Opens an activation folder (activations.npy or shards, metadata.json) or a single .npy file.
/// A store larger than memory is fine: beyond 256 MB rows are read as they are asked for, up to it
/// they are mapped. Throws Error(data) or Error(io), as do read() and gather() of a large one.
std::unique_ptr<RowSource> open_row_source(const std::filesystem::path& path);

}  // namespace drrik
