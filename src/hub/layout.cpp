#include "hub/layout.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "drrik/hub/client.h"
#include "hub/url.h"

namespace drrik::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxRefBytes = 4096;
constexpr std::uint64_t kMaxTreeBytes = std::uint64_t{64} << 20;

// The text of the Cache Directory Tagging Specification's signature must be exactly this.
constexpr std::string_view kCacheTag =
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This file is a cache directory tag: what lies here can be fetched again.\n"
    "# For information about cache directory tags, see https://bford.info/cachedir/\n";

bool is_etag(const std::string& etag) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !etag.empty() && etag.size() <= 200 && etag.front() != '.' &&
         std::ranges::all_of(etag, plain) && !etag.ends_with(".incomplete");
}

fs::path beside(const fs::path& path) {
  static std::atomic<unsigned> counter{0};
  fs::path out = path;
  out += str(".tmp-", getpid(), "-", counter++);
  return out;
}

}  // namespace

std::string repo_folder_name(const Repo& repo) {
  std::string name = str(repo_type_name(repo.type), "s--", repo.id);
  const std::size_t slash = name.find('/');
  if (slash != std::string::npos) name.replace(slash, 1, "--");
  return name;
}

Layout::Layout(fs::path cache_dir, const Repo& repo)
    : cache_dir_(std::move(cache_dir)), name_(repo_folder_name(repo)) {
  if (cache_dir_.empty()) {
    throw_usage("no folder for files from the Hub; HF_HOME (or HOME, or --cache-dir) names one");
  }
  folder_ = cache_dir_ / name_;
}

fs::path Layout::snapshot(const std::string& commit) const {
  return folder_ / "snapshots" / commit;
}

fs::path Layout::pointer(const std::string& commit, const std::string& path) const {
  return snapshot(commit) / path;
}

fs::path Layout::blob(const std::string& etag) const {
  if (!is_etag(etag)) {
    throw HubError(HubFailure::kServer,
                   "the Hub names a file's content by what is no name (ETag of " +
                       std::to_string(etag.size()) + " characters); is HF_ENDPOINT a Hub?");
  }
  return folder_ / "blobs" / etag;
}

fs::path Layout::lock(const std::string& etag) const {
  return cache_dir_ / ".locks" / name_ / (etag + ".lock");
}

std::optional<std::string> Layout::find_commit(const std::string& revision) const {
  if (is_commit(revision)) return revision;
  const fs::path path = folder_ / "refs" / revision;
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return std::nullopt;
  const std::string commit(trim(read_file(path, kMaxRefBytes)));
  if (is_commit(commit)) return commit;
  log_warning("'", path.string(), "' holds no commit and is not used");
  return std::nullopt;
}

void Layout::write_ref(const std::string& revision, const std::string& commit) const {
  if (revision == commit) return;
  try {
    if (find_commit(revision) == commit) return;
    write_file_atomic(folder_ / "refs" / revision, commit);
  } catch (const Error& error) {
    log_debug("ref '", revision, "' is not noted: ", error.what());
  }
}

std::optional<fs::path> Layout::find(const std::string& commit, const std::string& path) const {
  fs::path file = pointer(commit, path);
  std::error_code error;
  if (fs::is_regular_file(file, error)) return file;
  return std::nullopt;
}

bool Layout::known_absent(const std::string& commit, const std::string& path) const {
  std::error_code error;
  return fs::is_regular_file(folder_ / ".no_exist" / commit / path, error);
}

void Layout::note_absent(const std::string& commit, const std::string& path) const {
  if (known_absent(commit, path)) return;
  try {
    write_file_atomic(folder_ / ".no_exist" / commit / path, std::string_view());
  } catch (const Error& error) {
    log_debug("absence of '", path, "' is not noted: ", error.what());
  }
}

std::optional<std::vector<TreeEntry>> Layout::read_tree(const std::string& commit) const {
  const fs::path path = folder_ / "trees" / (commit + ".json");
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return std::nullopt;
  try {
    return parse_tree_cache(read_file(path, kMaxTreeBytes), path.string());
  } catch (const Error& error) {
    log_warning("a list of files is not used: ", error.what());
    return std::nullopt;
  }
}

void Layout::write_tree(const std::string& commit, const std::vector<TreeEntry>& entries) const {
  try {
    write_file_atomic(folder_ / "trees" / (commit + ".json"), tree_cache_text(entries));
  } catch (const Error& error) {
    log_debug("the list of files is not kept: ", error.what());
  }
}

std::vector<std::string> Layout::snapshot_files(const std::string& commit) const {
  std::vector<std::string> files;
  const fs::path root = snapshot(commit);
  std::error_code error;
  for (fs::recursive_directory_iterator it(root, error), end; !error && it != end;
       it.increment(error)) {
    std::error_code ignored;
    if (fs::is_regular_file(it->path(), ignored)) {
      files.push_back(it->path().lexically_relative(root).generic_string());
    }
  }
  std::ranges::sort(files);
  return files;
}

void Layout::create() const {
  create_folders(folder_ / "blobs");
  const fs::path tag = cache_dir_ / "CACHEDIR.TAG";
  std::error_code error;
  if (fs::exists(tag, error)) return;
  try {
    write_file_atomic(tag, kCacheTag);
  } catch (const Error& failure) {
    log_debug(failure.what());
  }
}

void Layout::link(const std::string& commit, const std::string& path, const std::string& etag,
                  bool symlinks, bool new_blob) const {
  const fs::path from = blob(etag);
  const fs::path to = pointer(commit, path);
  create_folders(to.parent_path());
  if (symlinks) {
    // Up from the file's folder to snapshots/<commit>, and two more to the repository's.
    std::string target;
    for (const char c : path) {
      if (c == '/') target += "../";
    }
    target += "../../blobs/" + etag;
    if (::symlink(target.c_str(), to.c_str()) == 0) return;
    if (errno == EEXIST) {  // a link to nothing, or another process was faster
      const fs::path temporary = beside(to);
      if (::symlink(target.c_str(), temporary.c_str()) == 0) {
        if (::rename(temporary.c_str(), to.c_str()) == 0) return;
        ::unlink(temporary.c_str());
      }
    }
    log_debug("no link '", to.string(), "': ", std::generic_category().message(errno));
  }
  std::error_code error;
  if (new_blob) {
    fs::rename(from, to, error);
  } else {
    const fs::path temporary = beside(to);
    fs::copy_file(from, temporary, error);
    if (!error) fs::rename(temporary, to, error);
    std::error_code ignored;
    if (error) fs::remove(temporary, ignored);
  }
  if (error) throw_io("cannot write '", to.string(), "': ", error.message());
}

}  // namespace drrik::hub
