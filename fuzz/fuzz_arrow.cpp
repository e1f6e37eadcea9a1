// Arrow IPC files and streams, told by their first bytes; a stream is read inside zstd, too.

#include <zstd.h>

#include <string>

#include "columnar.h"
#include "data/byte_stream.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  drrik::fuzz::check_columnar(bytes);
  if (drrik::find_magic(bytes) == drrik::Magic::kArrowStream) {
    std::string packed(ZSTD_compressBound(size), '\0');
    packed.resize(ZSTD_compress(packed.data(), packed.size(), data, size, 1));
    drrik::fuzz::check_columnar(std::as_bytes(std::span(packed)));
  }
  return 0;
}
