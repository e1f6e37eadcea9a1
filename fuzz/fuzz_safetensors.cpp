// safetensors headers: either refused with Error(data), or every tensor lies inside the file.

#include <cstdlib>

#include "drrik/base/error.h"
#include "drrik/io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  try {
    const auto header = drrik::parse_safetensors(file);
    std::uint64_t total = 0;
    for (const auto& entry : header.entries) {
      if (entry.offset > size || entry.bytes > size - entry.offset) std::abort();
      total += entry.bytes;
    }
    if (total > size) std::abort();
  } catch (const drrik::Error& error) {
    if (error.kind() != drrik::ErrorKind::kData) std::abort();
  }
  return 0;
}
