#pragma once
// What the machine and this build are.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace drrik {

/// Highest resident set size of this process so far, bytes.
std::uint64_t peak_resident_bytes();
/// Bytes that this process may still take: what the machine has free or can free, or less where a
/// cgroup (version 1 or 2, its parents' limits included) or a resource limit leaves less. `root`
/// is where /proc and /sys stand. Unknown: the largest number.
std::uint64_t available_memory_bytes(const std::filesystem::path& root = "/");
/// "0.1.0".
const char* version();
/// Compiler, build type, and so on, for --version.
std::string build_description();
/// The environment of this process, copied: values by name, as the process got them.
std::map<std::string, std::string> process_environment();
/// Seconds on a monotonic clock.
double monotonic_seconds();
/// Current UTC time as YYYY-MM-DDTHH:MM:SSZ.
std::string utc_timestamp();
/// Current local time in strftime's `format`.
std::string local_time(const char* format);

}  // namespace drrik
