#include "drrik/hub/client.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <utility>

#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "hub/api.h"
#include "hub/glob.h"
#include "hub/hash.h"
#include "hub/layout.h"
#include "hub/local_dir.h"
#include "hub/lock.h"
#include "hub/model_files.h"
#include "hub/session.h"
#include "hub/transfer.h"
#include "hub/url.h"

namespace drrik {

namespace fs = std::filesystem;
using hub::Layout;
using hub::RemoteFile;
using hub::Session;
using hub::Transfer;
using hub::TreeEntry;

namespace {

constexpr std::size_t kMaxFiles = 1'000'000;
constexpr int kMaxPages = 10'000;
constexpr std::uint64_t kMaxIndex = std::uint64_t{256} << 20;

// What the cache may stand in for. Where the Hub says that the revision is not there, an old copy
// would be a lie.
bool cache_may_serve(const HubError& error) {
  return error.failure() != HubFailure::kRevisionNotFound &&
         error.failure() != HubFailure::kEntryNotFound;
}

void check_file_path(const std::string& path) {
  if (!hub::is_safe_path(path)) {
    throw_usage("'", path, "' is no path inside a repository; wanted one like data/train.csv");
  }
}

std::vector<RepoFile> repo_files(const std::vector<TreeEntry>& entries) {
  std::vector<RepoFile> files;
  files.reserve(entries.size());
  for (const TreeEntry& entry : entries) {
    files.push_back({entry.path, entry.lfs_sha256.empty() ? entry.bytes : entry.lfs_bytes});
  }
  return files;
}

}  // namespace

struct HubClient::Impl {
  explicit Impl(HubOptions given) : options(std::move(given)), session(options) {
    if (options.workers < 1 || options.workers > 64) {
      throw_usage("Hub: ", options.workers, " workers, wanted 1 to 64");
    }
    if (options.retries < 0) throw_usage("Hub: ", options.retries, " retries, wanted 0 or more");
  }

  HubOptions options;
  mutable Session session;

  Layout layout(const Repo& repo) const { return {options.cache_dir, repo}; }
  static Repo at(const Repo& repo, const std::string& commit) {
    return {repo.type, repo.id, commit};
  }

  [[noreturn]] void throw_offline(const Repo& repo, const std::string& what) const {
    throw HubError(HubFailure::kOffline,
                   str(what, repo.text(), " is not in the cache '", options.cache_dir.string(),
                       "', and offline mode (--offline, HF_HUB_OFFLINE) lets nothing be fetched"));
  }

  hub::RepoInfo info(const Repo& repo, int retries) const {
    const auto answer = session.get(
        hub::api_path(repo) + "/revision/" + hub::percent_encode(repo.revision), repo, retries);
    return hub::parse_repo_info(answer.response.body, "the Hub's answer about " + repo.text());
  }

  // The commit, and the files where the Hub was asked and said them.
  hub::RepoInfo resolve(const Repo& repo) const {
    repo.validate();
    if (is_commit(repo.revision)) return {repo.revision, {}};
    const Layout paths = layout(repo);
    const auto cached = paths.find_commit(repo.revision);
    if (options.offline) {
      if (cached) return {*cached, {}};
      throw_offline(repo, "");
    }
    try {
      return info(repo, cached ? 0 : options.retries);
    } catch (const HubError& error) {
      if (!cached || !cache_may_serve(error)) throw;
      log_warning(error.what(), "; going on with the copy in the cache (commit ",
                  cached->substr(0, 8), ")");
      return {*cached, {}};
    }
  }

  std::vector<TreeEntry> fetch_tree(const Repo& repo) const {
    const std::string what = "the Hub's list of files of " + repo.text();
    std::vector<TreeEntry> entries;
    std::string page = hub::api_path(repo) + "/tree/" + hub::percent_encode(repo.revision) +
                       "?recursive=true&expand=false";
    for (int pages = 0;; ++pages) {
      const auto answer = session.get(page, repo, options.retries);
      for (TreeEntry& entry : hub::parse_tree_page(answer.response.body, what)) {
        entries.push_back(std::move(entry));
      }
      if (entries.size() > kMaxFiles || pages == kMaxPages) throw_data(what, ": too many files");
      const auto next = hub::next_page(answer.response.find("link").value_or(""));
      if (!next) break;
      page = hub::resolve_location(answer.url, *next);
      if (hub::origin_of(page) != hub::origin_of(answer.url)) {
        throw_data(what, ": the next page is at another host");
      }
    }
    std::ranges::sort(entries, {}, &TreeEntry::path);
    return entries;
  }

  // `repo.revision` is a commit.
  std::vector<TreeEntry> tree(const Repo& repo) const {
    const Layout paths = layout(repo);
    if (auto known = paths.read_tree(repo.revision)) return *known;
    std::string trouble;
    if (!options.offline) {
      try {
        auto entries = fetch_tree(repo);
        paths.write_tree(repo.revision, entries);
        return entries;
      } catch (const HubError& error) {
        if (!cache_may_serve(error) || paths.snapshot_files(repo.revision).empty()) throw;
        trouble = error.what();
      }
    }
    std::vector<TreeEntry> entries;
    for (const std::string& path : paths.snapshot_files(repo.revision)) {
      std::error_code ignored;
      TreeEntry entry;
      entry.path = path;
      entry.bytes = fs::file_size(paths.pointer(repo.revision, path), ignored);
      entries.push_back(std::move(entry));
    }
    if (entries.empty()) throw_offline(repo, "");
    if (!trouble.empty()) log_warning(trouble, "; going on with what the cache has");
    return entries;
  }

  // The bytes of a file whose metadata are known into the cache, and its name into the snapshot.
  fs::path place(const Repo& repo, const RemoteFile& file, Transfer& transfer, bool force) const {
    const Layout paths = layout(repo);
    fs::path pointer = paths.pointer(file.commit, file.path);
    if (!force && paths.find(file.commit, file.path)) return pointer;
    const fs::path blob = paths.blob(file.etag);
    paths.create();
    const hub::FileLock lock(paths.lock(file.etag));
    // Another process may have been at work while we waited.
    if (!force && paths.find(file.commit, file.path)) return pointer;
    std::error_code error;
    bool there = !force && fs::is_regular_file(blob, error);
    if (there && file.bytes && fs::file_size(blob, error) != *file.bytes) {
      log_warning("'", blob.string(), "' has not the ", *file.bytes,
                  " bytes it should have and is fetched again");
      there = false;
    }
    if (!there) {
      fs::path incomplete = blob;
      incomplete += ".incomplete";
      hub::fetch(session, repo, file, incomplete, transfer);
      if (::rename(incomplete.c_str(), blob.c_str()) != 0) {
        throw_io("cannot rename to '", blob.string(),
                 "': ", std::generic_category().message(errno));
      }
    }
    paths.link(file.commit, file.path, file.etag, options.symlinks, !there);
    return pointer;
  }

  std::optional<fs::path> find_file(const Repo& repo, const std::string& path) const {
    repo.validate();
    check_file_path(path);
    const Layout paths = layout(repo);
    const auto commit = paths.find_commit(repo.revision);
    auto cached = commit ? paths.find(*commit, path) : std::nullopt;
    const bool absent = commit && paths.known_absent(*commit, path);
    if (is_commit(repo.revision) && (cached || absent)) return cached;
    if (options.offline) {
      if (cached || absent) return cached;
      throw_offline(repo, str("file '", path, "' of "));
    }
    RemoteFile file;
    try {
      file = hub::ask(session, repo, path, cached || absent ? 0 : options.retries);
    } catch (const HubError& error) {
      if (!(cached || absent) || !cache_may_serve(error)) throw;
      log_warning(error.what(), "; going on with the copy in the cache");
      return cached;
    }
    if (file.absent) {
      if (is_commit(file.commit)) {
        paths.note_absent(file.commit, path);
        paths.write_ref(repo.revision, file.commit);
      }
      return std::nullopt;
    }
    Transfer transfer("Downloading " + path, options.progress);
    transfer.expect(file.bytes.value_or(0));
    fs::path placed = place(repo, file, transfer, false);
    paths.write_ref(repo.revision, file.commit);
    return placed;
  }

  // Files that must be there, at a commit, in parallel.
  void place_all(const Repo& repo, const std::vector<std::string>& files, Transfer& transfer,
                 bool force) const {
    const Layout paths = layout(repo);
    std::vector<std::string> missing;
    for (const std::string& path : files) {
      if (force || !paths.find(repo.revision, path)) missing.push_back(path);
    }
    if (missing.empty()) return;
    if (options.offline) throw_offline(repo, str("file '", missing.front(), "' of "));
    std::vector<RemoteFile> remote(missing.size());
    hub::for_each_parallel(missing.size(), options.workers, [&](std::size_t i) {
      remote[i] = hub::ask(session, repo, missing[i], options.retries);
      if (remote[i].absent) {
        throw HubError(HubFailure::kEntryNotFound,
                       str("file '", missing[i], "' of ", repo.text(), " does not exist"));
      }
    });
    // The largest first, so that none of them is left for the end.
    std::ranges::stable_sort(remote, std::greater(),
                             [](const RemoteFile& f) { return f.bytes.value_or(0); });
    for (const RemoteFile& file : remote) transfer.expect(file.bytes.value_or(0));
    hub::for_each_parallel(remote.size(), options.workers,
                           [&](std::size_t i) { place(repo, remote[i], transfer, force); });
  }

  // The folder, when the cache has every file that the model needs; else what is missing.
  std::optional<fs::path> cached_model(const Repo& repo, const std::string& commit, ModelPart part,
                                       std::string& missing) const {
    const Layout paths = layout(repo);
    const auto has = [&](const std::string& path) { return paths.find(commit, path).has_value(); };
    const hub::ModelFiles files = hub::choose_model_files(has);
    if (part == ModelPart::kTokenizer) {
      missing = "tokenizer.json";
      return files.has_tokenizer ? std::optional(paths.snapshot(commit)) : std::nullopt;
    }
    if (!has("config.json")) {
      missing = "config.json";
      return std::nullopt;
    }
    if (files.weights.empty() && files.index.empty()) {
      missing = "model.safetensors";
      return std::nullopt;
    }
    for (const std::string& shard : shards_of(paths, commit, files)) {
      if (has(shard)) continue;
      missing = shard;
      return std::nullopt;
    }
    return paths.snapshot(commit);
  }

  static std::vector<std::string> shards_of(const Layout& paths, const std::string& commit,
                                            const hub::ModelFiles& files) {
    if (files.index.empty()) return files.weights;
    const fs::path index = paths.pointer(commit, files.index);
    std::vector<std::string> shards =
        hub::parse_weight_index(read_file(index, kMaxIndex), index.string());
    const auto slash = files.index.rfind('/');
    if (slash != std::string::npos) {
      for (std::string& shard : shards) shard.insert(0, files.index, 0, slash + 1);
    }
    return shards;
  }
};

HubClient::HubClient(HubOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
HubClient::~HubClient() = default;
HubClient::HubClient(HubClient&&) noexcept = default;
HubClient& HubClient::operator=(HubClient&&) noexcept = default;

const HubOptions& HubClient::options() const { return impl_->options; }

std::string HubClient::resolve_commit(const Repo& repo) const {
  return impl_->resolve(repo).commit;
}

RepoListing HubClient::list_files(const Repo& repo) const {
  const std::string commit = impl_->resolve(repo).commit;
  const auto entries = impl_->tree(Impl::at(repo, commit));
  impl_->layout(repo).write_ref(repo.revision, commit);
  return {commit, repo_files(entries)};
}

std::optional<fs::path> HubClient::find_file(const Repo& repo, const std::string& path) const {
  return impl_->find_file(repo, path);
}

fs::path HubClient::download_file(const Repo& repo, const std::string& path) const {
  if (auto file = impl_->find_file(repo, path)) return *file;
  throw HubError(HubFailure::kEntryNotFound,
                 str("file '", path, "' of ", repo.text(), " does not exist"));
}

std::string HubClient::read_start(const Repo& repo, const std::string& path,
                                  std::size_t bytes) const {
  repo.validate();
  check_file_path(path);
  return hub::fetch_start(impl_->session, repo, path, bytes);
}

std::string HubClient::get(const std::string& path, const Repo& about) const {
  return impl_->session.get(path, about, impl_->options.retries).response.body;
}

Snapshot HubClient::download_snapshot(const Repo& repo, const SnapshotOptions& wanted) const {
  Snapshot out;
  for (const std::string& path : wanted.files) check_file_path(path);
  if (wanted.force && impl_->options.offline) {
    throw_usage("offline mode lets nothing be fetched again (--force)");
  }
  const hub::RepoInfo info = impl_->resolve(repo);
  out.commit = info.commit;
  const Repo at = Impl::at(repo, out.commit);
  if (!wanted.files.empty()) {
    out.files = wanted.files;
    std::ranges::sort(out.files);
    out.files.erase(std::unique(out.files.begin(), out.files.end()), out.files.end());
    for (const std::string& path : out.files) {
      if (info.files.empty() || std::ranges::binary_search(info.files, path)) continue;
      throw HubError(HubFailure::kEntryNotFound,
                     str("file '", path, "' of ", repo.text(), " does not exist",
                         did_you_mean(path, info.files)));
    }
  } else {
    const std::vector<std::string_view> include(wanted.include.begin(), wanted.include.end());
    const std::vector<std::string_view> exclude(wanted.exclude.begin(), wanted.exclude.end());
    for (const TreeEntry& entry : impl_->tree(at)) {
      if (hub::wanted(entry.path, include, exclude)) out.files.push_back(entry.path);
    }
    if (out.files.empty()) throw_usage("no file of ", repo.text(), " matches the patterns");
  }
  Transfer transfer("Downloading " + repo.id, impl_->options.progress);
  if (wanted.local_dir.empty()) {
    impl_->place_all(at, out.files, transfer, wanted.force);
    out.folder = impl_->layout(repo).snapshot(out.commit);
  } else {
    hub::LocalDir local(wanted.local_dir);
    hub::for_each_parallel(out.files.size(), impl_->options.workers, [&](std::size_t i) {
      local.place(impl_->session, impl_->layout(repo), at, out.files[i], transfer, wanted.force);
    });
    out.folder = wanted.local_dir;
  }
  // Last, so that a branch never leads to a snapshot that was not whole.
  if (wanted.local_dir.empty()) impl_->layout(repo).write_ref(repo.revision, out.commit);
  return out;
}

fs::path HubClient::download_model(const Repo& repo, ModelPart part) const {
  const Layout paths = impl_->layout(repo);
  repo.validate();
  std::string missing;
  const auto cached_commit = paths.find_commit(repo.revision);
  const auto cached = [&](const std::string& commit) {
    return impl_->cached_model(repo, commit, part, missing);
  };
  if (impl_->options.offline) {
    if (!cached_commit) impl_->throw_offline(repo, "");
    if (const auto folder = cached(*cached_commit)) return *folder;
    impl_->throw_offline(repo, str("file '", missing, "' of "));
  }
  hub::RepoInfo info;
  try {
    const auto there = cached_commit ? cached(*cached_commit) : std::nullopt;
    if (there && is_commit(repo.revision)) return *there;  // a commit never changes
    info = impl_->info(repo, there ? 0 : impl_->options.retries);
  } catch (const HubError& error) {
    const auto folder = cached_commit ? cached(*cached_commit) : std::nullopt;
    if (!folder || !cache_may_serve(error)) throw;
    log_warning(error.what(), "; going on with the copy in the cache (commit ",
                cached_commit->substr(0, 8), ")");
    return *folder;
  }
  const Repo at = Impl::at(repo, info.commit);
  const hub::ModelFiles files = hub::choose_model_files(
      [&](const std::string& path) { return std::ranges::binary_search(info.files, path); });
  const bool whole = part == ModelPart::kWhole;
  if (whole && !std::ranges::binary_search(info.files, "config.json")) {
    throw HubError(HubFailure::kEntryNotFound,
                   str(repo.text(),
                       " has no config.json, so it is no model in the format of "
                       "transformers"));
  }
  if (whole && files.weights.empty() && files.index.empty()) {
    throw HubError(HubFailure::kEntryNotFound,
                   str(repo.text(),
                       " has no weights that can be read; wanted model.safetensors or "
                       "pytorch_model.bin, whole or in shards with an index"));
  }
  Transfer transfer("Downloading " + repo.id, impl_->options.progress);
  std::vector<std::string> first = files.small;
  if (whole && !files.index.empty()) first.push_back(files.index);
  if (whole) first.insert(first.end(), files.weights.begin(), files.weights.end());
  impl_->place_all(at, first, transfer, false);
  if (whole && !files.index.empty()) {
    impl_->place_all(at, Impl::shards_of(paths, info.commit, files), transfer, false);
  }
  for (const std::string& path : files.absent) paths.note_absent(info.commit, path);
  paths.write_ref(repo.revision, info.commit);
  return paths.snapshot(info.commit);
}

}  // namespace drrik
