// Configuration files: what is taken, to_yaml writes and merge_yaml takes again to the same values;
// what is refused leaves the configuration as it was.

#include <cstdlib>

#include "drrik/base/error.h"
#include "drrik/config/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  drrik::Config config;
  const std::string before = drrik::to_yaml(config);
  try {
    drrik::merge_yaml(config, text, "fuzz");
  } catch (const drrik::Error& error) {
    const bool known =
        error.kind() == drrik::ErrorKind::kData || error.kind() == drrik::ErrorKind::kUsage;
    if (!known || drrik::to_yaml(config) != before) std::abort();
    return 0;
  }
  const std::string written = drrik::to_yaml(config);
  drrik::Config again;
  drrik::merge_yaml(again, written, "again");
  if (drrik::to_yaml(again) != written) std::abort();
  return 0;
}
