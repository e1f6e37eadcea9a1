#pragma once
// The cache on disk, in the layout of huggingface_hub: what is in it, and taking things out of it.
//
//   CACHEDIR.TAG
//   .locks/models--org--name/<etag>.lock
//   models--org--name/blobs/<etag>            content; <etag>.incomplete while it arrives
//   models--org--name/refs/<revision>         the commit a branch or tag stood at
//   models--org--name/snapshots/<commit>/...  links to the blobs
//   models--org--name/.no_exist/<commit>/...  empty: files known to be absent
//   models--org--name/trees/<commit>.json     the repository's list of files
// Source: docs/hub.md.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "drrik/hub/repo.h"

namespace drrik {

struct CachedFile {
  std::string path;            ///< In the repository.
  std::filesystem::path blob;  ///< Where its bytes are.
  std::uint64_t bytes = 0;
};

struct CachedRevision {
  std::string commit;
  std::vector<std::string> refs;  ///< Branches and tags that stood here when last asked.
  std::vector<CachedFile> files;  ///< By path.
  std::uint64_t bytes = 0;        ///< Of its blobs, each counted once.
};

struct CachedRepo {
  RepoType type = RepoType::kModel;
  std::string id;
  std::filesystem::path folder;
  std::vector<CachedRevision> revisions;  ///< By commit.
  std::uint64_t bytes = 0;                ///< On disk: every blob once, incomplete ones too.
  std::uint64_t incomplete_bytes = 0;     ///< Of downloads that were cut short.
  std::size_t files = 0;                  ///< Blobs that some revision names.
  double last_used = 0;                   ///< Seconds since 1970, of the blob read last.
  double last_changed = 0;
};

struct CacheScan {
  std::vector<CachedRepo> repos;      ///< By type and id.
  std::vector<std::string> problems;  ///< What could not be understood, one line each.
};

/// Reads the whole cache; a folder that is not there is an empty cache. Throws Error(io).
CacheScan scan_cache(const std::filesystem::path& cache_dir);

struct CacheDeletion {
  std::vector<std::filesystem::path> paths;  ///< What goes.
  std::uint64_t bytes = 0;                   ///< What that frees.
};

/// What deleting `repo` (all of it), or one revision (a commit, or a branch or tag of `repo`),
/// takes away: its snapshot, its refs, and the blobs no other revision of the repository names.
/// Throws Error(usage) naming what there is when nothing matches.
CacheDeletion plan_deletion(const CacheScan& scan, const CachedRepo& repo);
CacheDeletion plan_deletion(const CacheScan& scan, const CachedRepo& repo,
                            const CachedRevision& revision);
/// Carries it out, links before what they lead to. Throws Error(io) naming what stays.
void delete_cached(const CacheDeletion& deletion);

struct CacheProblem {
  std::filesystem::path path;
  std::string what;  ///< "sha256 is …, wanted …"
};

struct CacheCheck {
  std::size_t blobs = 0;    ///< Whose checksum was compared.
  std::uint64_t bytes = 0;  ///< Read for it.
  std::vector<CacheProblem> problems;
};

/// Reads every blob of `repo` and compares it with its name; finds links that lead nowhere.
/// Progress on standard error. Stops with Error(interrupted) at Ctrl-C.
CacheCheck verify_cached(const CachedRepo& repo);

}  // namespace drrik
