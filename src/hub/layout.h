#pragma once
// Paths and single steps of the cache's layout; drrik/hub/cache.h has the picture.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "drrik/hub/repo.h"
#include "hub/api.h"

namespace drrik::hub {

/// "models--org--name".
std::string repo_folder_name(const Repo& repo);

class Layout {
 public:
  /// `cache_dir` as the options have it.
  Layout(std::filesystem::path cache_dir, const Repo& repo);

  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path snapshot(const std::string& commit) const;
  std::filesystem::path pointer(const std::string& commit, const std::string& path) const;
  /// Throws HubError(kServer) for an etag that is no plain file name.
  std::filesystem::path blob(const std::string& etag) const;
  std::filesystem::path lock(const std::string& etag) const;

  /// The commit that a revision stood at, as last written; a commit is its own.
  std::optional<std::string> find_commit(const std::string& revision) const;
  /// Writes it when it differs. A cache that cannot be written is left as it is.
  void write_ref(const std::string& revision, const std::string& commit) const;

  /// The file in a snapshot, when its bytes are there.
  std::optional<std::filesystem::path> find(const std::string& commit,
                                            const std::string& path) const;
  bool known_absent(const std::string& commit, const std::string& path) const;
  /// A cache that cannot be written is left as it is.
  void note_absent(const std::string& commit, const std::string& path) const;

  std::optional<std::vector<TreeEntry>> read_tree(const std::string& commit) const;
  void write_tree(const std::string& commit, const std::vector<TreeEntry>& entries) const;
  /// The files of a snapshot on disk, sorted.
  std::vector<std::string> snapshot_files(const std::string& commit) const;

  /// blobs/, and CACHEDIR.TAG for programs that make backups. Throws Error(io).
  void create() const;
  /// Makes the snapshot's file from the blob: a link, or with `symlinks` false, or where the file
  /// system has none, the file itself (moved when `new_blob`, else copied). Throws Error(io).
  void link(const std::string& commit, const std::string& path, const std::string& etag,
            bool symlinks, bool new_blob) const;

 private:
  std::filesystem::path cache_dir_;
  std::filesystem::path folder_;
  std::string name_;
};

}  // namespace drrik::hub
