#include "drrik/base/system.h"

#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <ctime>

#include "build_info.h"

namespace drrik {

std::uint64_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;  // Linux counts in KiB
}

const char* version() { return DRRIK_VERSION; }

std::string build_description() {
  std::string text = std::string(DRRIK_BUILD_TYPE) + ", " + DRRIK_COMPILER + ", " + DRRIK_TARGET;
  if (*DRRIK_SANITIZERS != '\0') text += std::string(", sanitizers ") + DRRIK_SANITIZERS;
  return text;
}

double monotonic_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string utc_timestamp() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::string local_time(const char* format) {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  char text[128];
  text[std::strftime(text, sizeof text - 1, format, &parts)] = '\0';
  return text;
}

}  // namespace drrik
