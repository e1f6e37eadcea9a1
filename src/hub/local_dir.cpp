#include "hub/local_dir.h"

#include <sys/stat.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <sstream>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "hub/hash.h"
#include "hub/lock.h"

namespace drrik::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxMetadata = 4096;

struct Known {
  std::string commit;
  std::string etag;
};

// What was written of the file, unless the file was changed since.
std::optional<Known> read_known(const fs::path& metadata, const fs::path& file) {
  std::error_code error;
  if (!fs::is_regular_file(metadata, error) || !fs::is_regular_file(file, error)) {
    return std::nullopt;
  }
  std::istringstream lines(read_file(metadata, kMaxMetadata));
  Known known;
  double when = 0;
  struct stat status {};
  if (!(lines >> known.commit >> known.etag >> when)) return std::nullopt;
  if (::stat(file.c_str(), &status) != 0) return std::nullopt;
  // A second for clocks that are coarse, as huggingface_hub allows.
  if (static_cast<double>(status.st_mtime) - 1 > when) return std::nullopt;
  return known;
}

void write_known(const fs::path& metadata, const RemoteFile& file) {
  struct timespec now {};
  clock_gettime(CLOCK_REALTIME, &now);
  char when[64];
  std::snprintf(when, sizeof when, "%lld.%06ld", static_cast<long long>(now.tv_sec),
                now.tv_nsec / 1000);
  write_file_atomic(metadata, str(file.commit, "\n", file.etag, "\n", when, "\n"));
}

}  // namespace

void LocalDir::place(Session& session, const Layout& cache, const Repo& repo,
                     const std::string& path, Transfer& transfer, bool force) const {
  const fs::path file = folder_ / path;
  const fs::path notes = folder_ / ".cache" / "huggingface" / "download";
  const fs::path metadata = notes / (path + ".metadata");
  const auto known = force ? std::nullopt : read_known(metadata, file);
  if (known && known->commit == repo.revision) return;
  RemoteFile remote;
  try {
    remote = ask(session, repo, path, session.options().retries);
  } catch (const HubError& error) {
    std::error_code ignored;
    const auto copy = cache.find(repo.revision, path);
    if (force || (!copy && !fs::is_regular_file(file, ignored))) throw;
    if (!fs::is_regular_file(file, ignored)) {
      create_folders(file.parent_path());
      fs::copy_file(*copy, file);
    }
    log_warning(error.what(), "; '", file.string(), "' stays as it is");
    return;
  }
  if (remote.absent) {
    throw HubError(HubFailure::kEntryNotFound,
                   str("file '", path, "' of ", repo.text(), " does not exist"));
  }
  const fs::path blob = cache.blob(remote.etag);  // refuses an etag that is no name
  create_folders(file.parent_path());
  create_folders(metadata.parent_path());
  fs::path lock_path = metadata;
  lock_path.replace_extension(".lock");
  const FileLock lock(lock_path);
  std::error_code error;
  const auto kind = hash_kind(remote.etag);
  const bool there = !force && fs::is_regular_file(file, error);
  const bool same = there && ((known && known->etag == remote.etag) ||
                              (kind && file_digest(file, *kind) == remote.etag));
  if (!same) {
    const fs::path incomplete =
        metadata.parent_path() / (metadata.filename().string() + "." + remote.etag + ".incomplete");
    if (!force && fs::is_regular_file(blob, error)) {
      fs::copy_file(blob, incomplete, fs::copy_options::overwrite_existing, error);
      if (error) throw_io("cannot write '", incomplete.string(), "': ", error.message());
    } else {
      transfer.expect(remote.bytes.value_or(0));
      fetch(session, repo, remote, incomplete, transfer);
    }
    if (::rename(incomplete.c_str(), file.c_str()) != 0) {
      throw_io("cannot rename to '", file.string(), "': ", std::generic_category().message(errno));
    }
  }
  write_known(metadata, remote);
}

}  // namespace drrik::hub
