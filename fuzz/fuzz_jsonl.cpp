// JSON Lines and JSON datasets. The first byte chooses between them, and whether numbers are texts.

#include "rows.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  drrik::RowOptions options;
  options.max_row_bytes = 4096;
  options.scalars = (data[0] & 2U) != 0;
  drrik::fuzz::check_rows((data[0] & 1U) != 0 ? drrik::open_json : drrik::open_json_lines, bytes,
                          options);
  return 0;
}
