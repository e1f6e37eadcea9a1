#pragma once
// What a dataset format is: a new one is a file with an opener like those below, declared here,
// and one line in the table kFormats of files.cpp.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/byte_stream.h"
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
};

struct RowOptions {
  std::string text_column;  ///< As in DatasetOptions.
  SampleBy sample_by = SampleBy::kLine;
  std::size_t max_row_bytes = std::size_t{64} << 20;
};

using RowOpener = std::unique_ptr<RowReader> (*)(std::unique_ptr<ByteStream> stream,
                                                 const RowOptions& options);

std::unique_ptr<RowReader> open_text(std::unique_ptr<ByteStream> stream, const RowOptions& options);
std::unique_ptr<RowReader> open_json_lines(std::unique_ptr<ByteStream> stream,
                                           const RowOptions& options);
std::unique_ptr<RowReader> open_json(std::unique_ptr<ByteStream> stream, const RowOptions& options);
std::unique_ptr<RowReader> open_csv(std::unique_ptr<ByteStream> stream, const RowOptions& options);
std::unique_ptr<RowReader> open_tsv(std::unique_ptr<ByteStream> stream, const RowOptions& options);

/// Chooses the text column: `wanted`, which must be among `columns`; or, when it is empty, "text";
/// or the only one of `string_columns`. Throws Error(data) naming the columns.
std::string choose_column(const std::string& wanted, const std::vector<std::string>& columns,
                          const std::vector<std::string>& string_columns);

/// Moves valid UTF-8 into the row, or its mended form.
void set_text(Row& row, std::string_view text);

}  // namespace drrik
