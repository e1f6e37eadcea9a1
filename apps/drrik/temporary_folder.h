#pragma once
// A folder for what a benchmark writes.

#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "drrik/base/error.h"

namespace drrik::cli {

/// Below the system's folder for such things (TMPDIR); removed by the destructor with all that is
/// in it. Throws Error(io).
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "drrik-bench-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw_io("cannot make a folder in ", name);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace drrik::cli
