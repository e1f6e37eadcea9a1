// Parquet files. The magic at both ends is put there, so that the fuzzer need not find it.

#include <cstring>
#include <string>

#include "columnar.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (size >= 12) {
    std::memcpy(bytes.data(), "PAR1", 4);
    std::memcpy(bytes.data() + size - 4, "PAR1", 4);
  }
  drrik::fuzz::check_columnar(std::as_bytes(std::span(bytes)));
  return 0;
}
