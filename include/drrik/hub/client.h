#pragma once
// HubClient: files of models and datasets on the Hub, through the cache.
//
// Everything fetched is checked (sha256 or git's sha1, as the Hub names it) before any snapshot
// links to it; what an interruption or a kill leaves behind is continued by the next call. When the
// network fails, what the cache has serves instead, with a warning.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/hub/options.h"
#include "drrik/hub/repo.h"

namespace drrik {

/// Why the Hub did not serve, for callers that can go another way.
enum class HubFailure {
  kNetwork,           ///< No connection, a timeout, a cut that repeated tries did not mend.
  kServer,            ///< 5xx, or an answer that is not a Hub's.
  kRateLimited,       ///< 429 for longer than we wait.
  kRepoNotFound,      ///< Or private and not ours to see.
  kRevisionNotFound,  ///< The repository is there, the branch, tag or commit is not.
  kEntryNotFound,     ///< The revision is there, the file is not.
  kGated,             ///< Terms have to be accepted first.
  kUnauthorized,      ///< The token is wrong or may not.
  kOffline,           ///< Not in the cache, and no request is allowed.
  kCorrupt            ///< The bytes are not what the Hub says they are.
};

/// Error(io) with its reason. Messages never hold a token, nor what may be one in a URL.
class HubError : public Error {
 public:
  HubError(HubFailure failure, std::string message)
      : Error(ErrorKind::kIo, std::move(message)), failure_(failure) {}
  HubFailure failure() const { return failure_; }

 private:
  HubFailure failure_;
};

struct RepoFile {
  std::string path;         ///< In the repository, '/' between its parts.
  std::uint64_t bytes = 0;  ///< 0 when the server did not say.
};

struct RepoListing {
  std::string commit;
  std::vector<RepoFile> files;  ///< By path.
};

struct Snapshot {
  std::filesystem::path folder;    ///< snapshots/<commit>, or the local folder asked for.
  std::string commit;              ///< Empty when a local folder served without the Hub.
  std::vector<std::string> files;  ///< Those asked for, sorted.
};

struct SnapshotOptions {
  /// Exact paths; empty: every file that the patterns allow.
  std::vector<std::string> files = {};
  /// As Python's fnmatch: '*' also matches '/'; "folder/" is everything below. Empty include: all.
  std::vector<std::string> include = {};
  std::vector<std::string> exclude = {};
  /// Puts plain files there instead of into the cache's snapshot folder.
  std::filesystem::path local_dir = {};
  /// Fetches again what is there already.
  bool force = false;
};

enum class ModelPart {
  kWhole,
  kTokenizer  ///< Configuration and tokenizer, no weights.
};

/// Thread-safe: calls may come from several threads.
class HubClient {
 public:
  explicit HubClient(HubOptions options = default_hub_options());
  ~HubClient();
  HubClient(HubClient&&) noexcept;
  HubClient& operator=(HubClient&&) noexcept;

  const HubOptions& options() const;

  /// The commit that the revision stands at; the cache's when the network fails. Throws HubError.
  std::string resolve_commit(const Repo& repo) const;

  /// The files at a revision; the cache's list when the network fails. Throws
  /// HubError; Error(data) for a list that is malformed or names a file outside the repository.
  RepoListing list_files(const Repo& repo) const;

  /// One file, from the cache or fetched: its path in the cache's snapshot. A file that the Hub
  /// says is absent is nothing, and remembered. Throws HubError; Error(io) when the disk is full;
  /// Error(usage) for a path that leads outside.
  std::optional<std::filesystem::path> find_file(const Repo& repo, const std::string& path) const;
  /// The same, but HubError(kEntryNotFound) when absent.
  std::filesystem::path download_file(const Repo& repo, const std::string& path) const;

  /// The first `bytes` of a file (all of a shorter one), fetched each time and not kept: for what a
  /// large file says of itself at its beginning. Throws HubError; Error(usage) for a path that
  /// leads outside.
  std::string read_start(const Repo& repo, const std::string& path, std::size_t bytes) const;

  /// Many files in parallel under one progress bar. Throws as download_file, and Error(usage) when
  /// no file matches.
  Snapshot download_snapshot(const Repo& repo, const SnapshotOptions& options = {}) const;

  /// What running a model needs, no more: configuration, tokenizer, and its weights, safetensors
  /// rather than PyTorch files and only those that the index names. Returns the snapshot's folder.
  std::filesystem::path download_model(const Repo& repo, ModelPart part = ModelPart::kWhole) const;

  /// The body of GET {endpoint}{path}, with the token where it may go and tries again as for files.
  /// Throws HubError. For the Hub's JSON interfaces.
  std::string get(const std::string& path, const Repo& about) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace drrik
