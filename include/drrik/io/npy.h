#pragma once
// NumPy's .npy and .npz: header parsing, mapped row access, streaming writes.
//
// bfloat16 has no NumPy type: it is written as uint16 and its dtype is recorded elsewhere
// (metadata.json of an activation folder); NpyOptions::bfloat16 reads it back.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/base/file.h"
#include "drrik/io/named_tensor.h"
#include "drrik/tensor/tensor.h"

namespace drrik {

struct NpyOptions {
  /// Take two-byte elements (`<u2`, `|V2`) as bfloat16.
  bool bfloat16 = false;
};

struct NpyHeader {
  DType dtype = DType::kF32;
  bool big_endian = false;
  /// The first axis varies fastest. Never with fewer than two axes, where it would say nothing.
  bool fortran_order = false;
  std::vector<std::int64_t> shape;  ///< Empty for a scalar.
  std::uint64_t data_offset = 0;    ///< Bytes from the start of the file.
  std::uint64_t data_bytes = 0;
};

/// Parses the header (versions 1 to 3) of a whole file in memory and checks that the data is all
/// there. Throws Error(data); pickled objects (`|O`), records and strings are refused.
NpyHeader parse_npy(std::span<const std::byte> file, const NpyOptions& options = {});

/// The array in row-major native order: borrowed from the mapping when the file already is so,
/// converted otherwise. Throws Error(io), Error(data) naming the path.
Tensor read_npy(const std::filesystem::path& path, const NpyOptions& options = {});

/// A mapped .npy whose first axis is rows. Const and safe to use from several threads.
class NpyFile {
 public:
  /// Throws Error(io), Error(data). Rank 1 is one column per row: [n] reads as [n, 1]. Rank 0, and
  /// Fortran order of more than two axes, are refused (read_npy takes them).
  static NpyFile open(const std::filesystem::path& path, const NpyOptions& options = {});

  const std::vector<std::int64_t>& shape() const { return header_.shape; }
  DType dtype() const { return header_.dtype; }
  std::int64_t rows() const { return rows_; }
  /// Elements in a row (the product of the other axes).
  std::int64_t cols() const { return cols_; }
  /// Whether the mapping is the rows one after another in native byte order: what row_bytes() and
  /// tensor() need. False for big-endian files and Fortran order.
  bool mapped_as_rows() const { return !header_.big_endian && !header_.fortran_order; }
  /// The mapped bytes of row `r`. Unchecked index; in Fortran order there is no such place.
  const std::byte* row_bytes(std::int64_t r) const;
  /// Rows [begin, begin + out.rows()) as float32. Throws Error(usage) outside the file or when
  /// out.cols() != cols(); Error(data) for a dtype that has no float32 conversion. In Fortran order
  /// each row touches a page of every column: many rows at a time cost little more than one.
  void read_rows(std::int64_t begin, MatView<float> out) const;
  /// The same for columns [col, col + out.cols()) of these rows.
  void read_block(std::int64_t begin, std::int64_t col, MatView<float> out) const;
  /// The whole as a borrowed tensor of shape(). Throws Error(data) unless mapped_as_rows().
  Tensor tensor() const;
  /// Lets the kernel take the pages of these rows back; in Fortran order, all pages.
  void drop_rows(std::int64_t begin, std::int64_t count) const;
  const NpyHeader& header() const { return header_; }
  const std::filesystem::path& path() const { return file_->path(); }

 private:
  void transpose_block(std::int64_t begin, std::int64_t col, MatView<float> out) const;
  std::shared_ptr<const MappedFile> file_;
  NpyHeader header_;
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
};

/// Streams rows to a .npy whose row count is known only at the end. The file appears under its
/// name at commit(); without it nothing is left behind.
class NpyWriter {
 public:
  /// `row_shape` is the shape of one row ([d] gives a file of shape [n, d]; [] gives [n]). `dtype`
  /// is what the file holds; kBF16 is written as uint16. With `rows`, how many there will be, the
  /// header is right from the start and `path` may be a pipe; without, a pipe is an Error(io).
  /// Throws Error(io), Error(usage).
  NpyWriter(const std::filesystem::path& path, DType dtype, std::vector<std::int64_t> row_shape,
            std::optional<std::int64_t> rows = std::nullopt);

  /// Whole rows as they shall stand in the file. Throws Error(usage) for a part of a row,
  /// Error(io), after which the writer is of no further use.
  void append(std::span<const std::byte> rows);
  /// Rounds float32 rows to the file's dtype (kF32, kF16, kBF16; Error(usage) otherwise).
  void append_rows(MatView<const float> rows);
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  DType dtype() const { return dtype_; }
  /// Writes the row count into the header, flushes, renames. Error(io) when a pipe was promised
  /// another count.
  void commit();

 private:
  std::string header_text(std::int64_t rows) const;
  AtomicFile file_;
  DType dtype_;
  std::vector<std::int64_t> row_shape_;
  std::int64_t cols_ = 1;
  std::int64_t rows_ = 0;
  std::int64_t header_rows_ = 0;
  std::size_t header_size_ = 0;
  std::vector<std::byte> scratch_;
};

/// Atomic; a header numpy.save would write. kBF16 is written as uint16. Throws Error(io), and
/// Error(usage) for a dtype NumPy lacks (8-bit floats).
void write_npy(const std::filesystem::path& path, const Tensor& tensor);

/// Every array of a .npz (stored or deflated), by name without `.npy`, as owned tensors. Throws
/// Error(io), Error(data) naming path and member.
std::map<std::string, Tensor> read_npz(const std::filesystem::path& path,
                                       const NpyOptions& options = {});
/// As numpy.savez (stored, not compressed). Atomic. Throws as write_npy, and for repeated names.
void write_npz(const std::filesystem::path& path, std::span<const NamedTensor> arrays);

}  // namespace drrik
