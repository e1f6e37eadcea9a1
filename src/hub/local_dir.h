#pragma once
// Files of a repository as plain files in a folder of the user's, with what was known of them in
// .cache/huggingface/download/<path>.metadata (commit, etag, time), as huggingface_hub does.

#include <filesystem>
#include <string>

#include "drrik/hub/repo.h"
#include "hub/layout.h"
#include "hub/session.h"
#include "hub/transfer.h"

namespace drrik::hub {

class LocalDir {
 public:
  explicit LocalDir(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// Brings one file to the state of `repo.revision`, a commit; nothing is fetched for one that is
  /// up to date, or that the cache has. Thread-safe.
  void place(Session& session, const Layout& cache, const Repo& repo, const std::string& path,
             Transfer& transfer, bool force) const;

 private:
  std::filesystem::path folder_;
};

}  // namespace drrik::hub
