#include "drrik/hub/cache.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/progress.h"
#include "hub/hash.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxRefBytes = 4096;

std::vector<fs::path> children(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    out.push_back(it->path());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    throw_io("cannot read folder '", folder.string(), "': ", error.message());
  }
  std::ranges::sort(out);
  return out;
}

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    std::error_code ignored;
    if (it->is_symlink(ignored) || it->is_regular_file(ignored)) out.push_back(it->path());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    throw_io("cannot read folder '", folder.string(), "': ", error.message());
  }
  std::ranges::sort(out);
  return out;
}

// "models--org--name" -> what it is, or nothing.
std::optional<CachedRepo> repo_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  const std::size_t dashes = name.find("--");
  if (dashes == std::string::npos) return std::nullopt;
  const std::string type = name.substr(0, dashes);
  CachedRepo repo;
  if (type == "models") {
    repo.type = RepoType::kModel;
  } else if (type == "datasets") {
    repo.type = RepoType::kDataset;
  } else if (type == "spaces") {
    repo.type = RepoType::kSpace;
  } else {
    return std::nullopt;
  }
  repo.id = name.substr(dashes + 2);
  const std::size_t slash = repo.id.find("--");
  if (slash != std::string::npos) repo.id.replace(slash, 2, "/");
  repo.folder = folder;
  return repo;
}

struct Blob {
  std::uint64_t bytes = 0;
  double read = 0;
  double written = 0;
};

double seconds(const struct timespec& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// The first thing a link leads to: a blob may be a link itself, into the store that repositories
// share in recent versions of huggingface_hub.
fs::path blob_of(const fs::path& file) {
  std::error_code error;
  const fs::path target = fs::read_symlink(file, error);
  if (error) return file;
  return (file.parent_path() / target).lexically_normal();
}

class Scanner {
 public:
  explicit Scanner(CacheScan& scan) : scan_(scan) {}

  void repo(const fs::path& folder) {
    auto found = repo_of(folder);
    std::error_code ignored;
    if (!found || !fs::is_directory(folder, ignored)) {
      scan_.problems.push_back(str("'", folder.string(), "' is no part of a cache"));
      return;
    }
    CachedRepo repo = std::move(*found);
    std::map<std::string, std::vector<std::string>> refs = read_refs(folder / "refs");
    std::map<fs::path, Blob> blobs;
    for (const fs::path& snapshot : children(folder / "snapshots")) {
      CachedRevision revision;
      revision.commit = snapshot.filename().string();
      revision.refs = refs[revision.commit];
      refs.erase(revision.commit);
      std::set<fs::path> counted;
      for (const fs::path& path : files_below(snapshot)) {
        const fs::path blob = blob_of(path);
        struct stat status {};
        if (::stat(path.c_str(), &status) != 0) {
          scan_.problems.push_back(str("'", path.string(), "' leads to nothing"));
          continue;
        }
        const auto bytes = static_cast<std::uint64_t>(status.st_size);
        blobs[blob] = {bytes, seconds(status.st_atim), seconds(status.st_mtim)};
        if (counted.insert(blob).second) revision.bytes += bytes;
        revision.files.push_back({path.lexically_relative(snapshot).generic_string(), blob, bytes});
      }
      repo.revisions.push_back(std::move(revision));
    }
    repo.files = blobs.size();
    for (const auto& [path, blob] : blobs) {
      repo.bytes += blob.bytes;
      repo.last_used = std::max(repo.last_used, blob.read);
      repo.last_changed = std::max(repo.last_changed, blob.written);
    }
    for (const fs::path& path : children(folder / "blobs")) {
      if (blobs.contains(path)) continue;
      std::error_code error;
      const auto bytes = fs::file_size(path, error);
      if (error) continue;
      repo.bytes += bytes;
      if (path.extension() == ".incomplete") repo.incomplete_bytes += bytes;
    }
    for (const auto& [commit, names] : refs) {
      if (names.empty()) continue;
      scan_.problems.push_back(str(repo_type_name(repo.type), " '", repo.id, "': ", join(names),
                                   " stands at a commit that is not here"));
    }
    scan_.repos.push_back(std::move(repo));
  }

 private:
  static std::map<std::string, std::vector<std::string>> read_refs(const fs::path& folder) {
    std::map<std::string, std::vector<std::string>> refs;
    for (const fs::path& path : files_below(folder)) {
      std::string commit = read_file(path, kMaxRefBytes);
      while (!commit.empty() && (commit.back() == '\n' || commit.back() == '\r')) commit.pop_back();
      refs[commit].push_back(path.lexically_relative(folder).generic_string());
    }
    return refs;
  }

  CacheScan& scan_;
};

// Bytes freed by taking these paths away: a link frees none.
std::uint64_t bytes_of(const fs::path& path) {
  std::error_code error;
  if (fs::is_symlink(path, error)) return 0;
  const auto bytes = fs::file_size(path, error);
  return error ? 0 : bytes;
}

}  // namespace

CacheScan scan_cache(const fs::path& cache_dir) {
  CacheScan scan;
  Scanner scanner(scan);
  for (const fs::path& path : children(cache_dir)) {
    const std::string name = path.filename().string();
    // "blobs" is the store that repositories share in recent versions of huggingface_hub.
    if (name.starts_with(".") || name == "CACHEDIR.TAG" || name == "blobs" ||
        name == "version.txt") {
      continue;
    }
    scanner.repo(path);
  }
  std::ranges::sort(scan.repos, {}, [](const CachedRepo& repo) {
    return std::pair(repo_type_name(repo.type), repo.id);
  });
  return scan;
}

CacheDeletion plan_deletion(const CacheScan&, const CachedRepo& repo) {
  CacheDeletion plan;
  plan.paths.push_back(repo.folder);
  for (const fs::path& path : files_below(repo.folder)) plan.bytes += bytes_of(path);
  const fs::path locks = repo.folder.parent_path() / ".locks" / repo.folder.filename();
  std::error_code error;
  if (fs::exists(locks, error)) plan.paths.push_back(locks);
  return plan;
}

CacheDeletion plan_deletion(const CacheScan& scan, const CachedRepo& repo,
                            const CachedRevision& revision) {
  if (repo.revisions.size() == 1) return plan_deletion(scan, repo);
  CacheDeletion plan;
  plan.paths.push_back(repo.folder / "snapshots" / revision.commit);
  for (const std::string& ref : revision.refs) plan.paths.push_back(repo.folder / "refs" / ref);
  for (const fs::path& path : {repo.folder / ".no_exist" / revision.commit,
                               repo.folder / "trees" / (revision.commit + ".json")}) {
    std::error_code error;
    if (fs::exists(path, error)) plan.paths.push_back(path);
  }
  std::set<fs::path> kept;
  for (const CachedRevision& other : repo.revisions) {
    if (other.commit == revision.commit) continue;
    for (const CachedFile& file : other.files) kept.insert(file.blob);
  }
  std::set<fs::path> going;
  for (const CachedFile& file : revision.files) {
    if (!kept.contains(file.blob)) going.insert(file.blob);
  }
  for (const fs::path& blob : going) {
    plan.bytes += bytes_of(blob);
    // Without links the blob is the file in the snapshot, which goes already.
    if (blob.parent_path() == repo.folder / "blobs") plan.paths.push_back(blob);
  }
  return plan;
}

void delete_cached(const CacheDeletion& deletion) {
  for (const fs::path& path : deletion.paths) {
    std::error_code error;
    fs::remove_all(path, error);  // follows no links
    if (error) throw_io("cannot delete '", path.string(), "': ", error.message());
  }
}

CacheCheck verify_cached(const CachedRepo& repo) {
  CacheCheck check;
  std::map<fs::path, std::uint64_t> blobs;
  for (const CachedRevision& revision : repo.revisions) {
    for (const CachedFile& file : revision.files) blobs.emplace(file.blob, file.bytes);
    for (const fs::path& path : files_below(repo.folder / "snapshots" / revision.commit)) {
      std::error_code error;
      if (!fs::exists(path, error)) check.problems.push_back({path, "leads to nothing"});
    }
  }
  std::uint64_t total = 0;
  for (const auto& [path, bytes] : blobs) total += bytes;
  Progress progress("Checking " + repo.id, static_cast<std::int64_t>(total), "bytes");
  for (const auto& [path, bytes] : blobs) {
    // A snapshot without links does not say what its files' checksums are.
    const auto kind = hub::hash_kind(path.filename().string());
    if (kind && path.parent_path() == repo.folder / "blobs") {
      const std::string found = hub::file_digest(path, *kind);
      ++check.blobs;
      check.bytes += bytes;
      if (found != path.filename().string()) {
        check.problems.push_back(
            {path, str(*kind == hub::HashKind::kSha256 ? "sha256" : "git sha1", " is ", found)});
      }
    }
    progress.advance(static_cast<std::int64_t>(bytes));
  }
  return check;
}

}  // namespace drrik
