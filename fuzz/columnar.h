#pragma once
// What the fuzz targets of Parquet and Arrow share: every text column of the file is read.

#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>

#include "data/row_reader.h"
#include "drrik/base/error.h"
#include "drrik/base/utf8.h"

namespace drrik::fuzz {

inline void check_columnar(std::span<const std::byte> bytes) {
  static const bool there = [] {
    if (!arrow_available()) std::fputs("built without Arrow: nothing is tested\n", stderr);
    return arrow_available();
  }();
  if (!there) return;
  RowOptions options;
  options.max_row_bytes = 1 << 20;
  options.arrow_memory = std::int64_t{64} << 20;
  options.scalars = true;
  std::vector<std::string> columns;
  std::size_t labels = 0;
  try {
    for (const DatasetColumn& column : open_columnar(bytes, options)->columns()) {
      if (column.text && columns.size() - labels < 3) columns.push_back(column.name);
      if (!column.text && !column.nested && labels < 3) {
        columns.push_back(column.name);
        ++labels;
      }
    }
    open_columnar(bytes, options)->count_rows();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kData) std::abort();
  }
  columns.emplace_back();  // The guess.
  for (const std::string& column : columns) {
    options.text_column = column;
    try {
      const auto reader = open_columnar(bytes, options);
      if (!bytes.empty() && bytes.back() == std::byte{1}) reader->skip(5);
      Row row;
      // A few bytes may stand for any number of equal rows.
      for (int rows = 0; rows < 20'000 && reader->next(row); ++rows) {
        if (row.present &&
            (!is_valid_utf8(row.text) || row.text.size() > 3 * options.max_row_bytes)) {
          std::abort();
        }
      }
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kData) std::abort();
    }
  }
}

}  // namespace drrik::fuzz
