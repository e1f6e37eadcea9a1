#pragma once
// A lock between processes that Python's filelock honours as well: flock(2) on a file that stays.

#include <filesystem>

#include "drrik/base/file.h"

namespace drrik::hub {

class FileLock {
 public:
  /// Waits for the lock, saying so every ten seconds. A folder that cannot be written, or a file
  /// system without locks, is no reason to stop: what the lock saves is work done twice, not the
  /// cache. Throws Error(interrupted).
  explicit FileLock(const std::filesystem::path& path);
  bool held() const { return held_; }

 private:
  UniqueFd fd_;  // closing it gives the lock back
  bool held_ = false;
};

}  // namespace drrik::hub
