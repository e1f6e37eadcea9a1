// The JSON parser of configuration files and headers: what it takes, it writes and takes again.

#include <cstdlib>

#include "io/json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto json = drrik::parse_json(text, "fuzz");
    const auto written = drrik::json_text(json);
    if (drrik::json_text(drrik::parse_json(written, "again")) != written) std::abort();
  } catch (const drrik::Error& error) {
    if (error.kind() != drrik::ErrorKind::kData) std::abort();
  }
  return 0;
}
