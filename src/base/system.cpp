#include "drrik/base/system.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <limits>
#include <optional>
#include <string_view>

#include "build_info.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX leaves it to us

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kUnknown = std::numeric_limits<std::uint64_t>::max();

/// The number after `key` in a file of "key number" lines; with "" the file's first word.
std::optional<std::uint64_t> number_in(const fs::path& file, const std::string& key) {
  std::ifstream in(file);
  std::string word;
  std::uint64_t value = 0;
  if (!key.empty()) {
    while (in >> word && word != key) in.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  if (in >> value) return value;
  return std::nullopt;  // "max" too
}

/// What the limits of a cgroup and of those around it leave.
std::uint64_t cgroup_leaves(const fs::path& mount, const std::string& group, const char* limit_name,
                            const char* usage_name, const char* cache_key) {
  std::uint64_t least = kUnknown;
  // In a container the path may be the host's: the mount itself is the group then.
  for (fs::path at = group;; at = at.parent_path()) {
    const fs::path folder = mount / at.relative_path();
    const auto limit = number_in(folder / limit_name, "");
    const auto usage = number_in(folder / usage_name, "");
    if (limit && usage) {
      // Cached files count as used, but make way.
      const std::uint64_t cache = number_in(folder / "memory.stat", cache_key).value_or(0);
      const std::uint64_t used = *usage - std::min(cache, *usage);
      least = std::min(least, *limit - std::min(used, *limit));
    }
    if (!at.has_relative_path()) return least;
  }
}

std::uint64_t cgroups_leave(const fs::path& root) {
  std::uint64_t least = kUnknown;
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    // "0::/path" is version 2, "4:memory:/path" version 1.
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      least = std::min(least, cgroup_leaves(root / "sys/fs/cgroup", path, "memory.max",
                                            "memory.current", "inactive_file"));
    } else if (controllers == "memory") {
      least = std::min(least,
                       cgroup_leaves(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes",
                                     "memory.usage_in_bytes", "total_inactive_file"));
    }
  }
  return least;
}

/// Of a limit on this process, what is not used up; `column` of /proc/self/statm counts the pages.
std::uint64_t limit_leaves(decltype(RLIMIT_AS) resource, int column) {
  rlimit limit{};
  if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kUnknown;
  std::ifstream in("/proc/self/statm");
  std::uint64_t pages = 0;
  for (int i = 0; i <= column; ++i) in >> pages;
  const std::uint64_t used = pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  return limit.rlim_cur - std::min<std::uint64_t>(used, limit.rlim_cur);
}

}  // namespace

std::uint64_t available_memory_bytes(const fs::path& root) {
  std::uint64_t least = cgroups_leave(root);
  if (const auto free = number_in(root / "proc/meminfo", "MemAvailable:")) {
    least = std::min(least, *free * 1024);
  }
  least = std::min(least, limit_leaves(RLIMIT_AS, 0));
  return std::min(least, limit_leaves(RLIMIT_DATA, 5));
}

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

std::map<std::string, std::string> process_environment() {
  std::map<std::string, std::string> out;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos || equals == 0) continue;
    out.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return out;
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
