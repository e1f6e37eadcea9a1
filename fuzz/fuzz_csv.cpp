// CSV, TSV and text datasets, plain and compressed. The first byte chooses.

#include "rows.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const drrik::RowOpener openers[] = {drrik::open_csv, drrik::open_tsv, drrik::open_text};
  drrik::RowOptions options;
  options.max_row_bytes = 4096;
  options.sample_by = static_cast<drrik::SampleBy>((data[0] >> 2U) % 3);
  const drrik::RowOpener open = openers[(data[0] & 3U) % 3];
  drrik::fuzz::check_rows(open, bytes, options);
  if ((data[0] & 0x80U) == 0) return 0;
  try {
    auto stream = drrik::open_byte_stream(std::as_bytes(std::span(bytes)));
    drrik::fuzz::read_rows(open, std::move(stream), options);
  } catch (const drrik::Error& error) {
    if (error.kind() != drrik::ErrorKind::kData) std::abort();
  }
  return 0;
}
