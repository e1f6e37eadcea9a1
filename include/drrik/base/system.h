#pragma once
// What the machine and this build are.

#include <cstdint>
#include <string>

namespace drrik {

/// Highest resident set size of this process so far, bytes.
std::uint64_t peak_resident_bytes();
/// "0.1.0".
const char* version();
/// Compiler, build type, and so on, for --version.
std::string build_description();
/// Seconds on a monotonic clock.
double monotonic_seconds();
/// Current UTC time as YYYY-MM-DDTHH:MM:SSZ.
std::string utc_timestamp();
/// Current local time in strftime's `format`.
std::string local_time(const char* format);

}  // namespace drrik
