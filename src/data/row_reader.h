#pragma once
// What a dataset format is: a new one is a file with an opener like those below, declared here,
// and one line in the table kFormats of files.cpp.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/byte_stream.h"
#include "data/column_path.h"
#include "drrik/base/rng.h"
#include "drrik/data/source.h"

namespace drrik {

struct Row {
  std::string text;     ///< Valid UTF-8.
  bool present = true;  ///< False when the row's text is null or absent.
  bool mended = false;  ///< Broken UTF-8 was replaced.
};

/// Rows of one file. Errors name the line, not the file, which the caller adds.
class RowReader {
 public:
  virtual ~RowReader() = default;
  /// False at the end. Throws Error(data), Error(io).
  virtual bool next(Row& row) = 0;
  /// Bytes of the file read so far.
  virtual std::uint64_t consumed() const = 0;
  /// Leaves out up to `rows` rows without reading their texts; says how many, 0 where every row
  /// has to be read.
  virtual std::int64_t skip(std::int64_t /*rows*/) { return 0; }
  /// Before the first row: gives the file's parts (row groups) in random order, if it has any.
  virtual void shuffle(Rng& /*rng*/) {}

  // What the file is. No rows are read from a reader that was asked for these.
  virtual std::vector<DatasetColumn> columns() { return {}; }
  /// Nothing where only reading every row would tell.
  virtual std::optional<std::int64_t> count_rows() { return std::nullopt; }
};

struct RowOptions {
  std::string text_column;  ///< As in DatasetOptions.
  bool scalars = false;     ///< As in DatasetOptions.
  SampleBy sample_by = SampleBy::kLine;
  char delimiter = 0;  ///< Of CSV; 0: what the file's ending says.
  std::size_t max_row_bytes = std::size_t{64} << 20;
  /// What Arrow may hold at a time, bytes.
  std::int64_t arrow_memory = std::int64_t{1} << 30;
};

using RowOpener = std::unique_ptr<RowReader> (*)(std::unique_ptr<ByteStream> stream,
                                                 const RowOptions& options);

std::unique_ptr<RowReader> open_text(std::unique_ptr<ByteStream> stream, const RowOptions& options);
std::unique_ptr<RowReader> open_json_lines(std::unique_ptr<ByteStream> stream,
                                           const RowOptions& options);
std::unique_ptr<RowReader> open_json(std::unique_ptr<ByteStream> stream, const RowOptions& options);
std::unique_ptr<RowReader> open_csv(std::unique_ptr<ByteStream> stream, const RowOptions& options);
std::unique_ptr<RowReader> open_tsv(std::unique_ptr<ByteStream> stream, const RowOptions& options);

/// Parquet or Arrow, told by its bytes; an Arrow stream may be compressed. Throws Error(data) that
/// says what is missing where the plug-in is.
std::unique_ptr<RowReader> open_columnar(const std::filesystem::path& path,
                                         const RowOptions& options);
std::unique_ptr<RowReader> open_columnar(std::span<const std::byte> bytes,
                                         const RowOptions& options);

/// Chooses the text column: `wanted`, a column's name or a path into one; or, when it is empty,
/// "text"; or the only string column. Throws Error(data) with the columns and their types.
ColumnPath choose_column(const std::string& wanted, const std::vector<DatasetColumn>& columns);

/// Moves valid UTF-8 into the row, or its mended form.
void set_text(Row& row, std::string_view text);

}  // namespace drrik
