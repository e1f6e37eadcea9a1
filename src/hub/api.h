#pragma once
// What the Hub's interfaces answer, as text: parsed and checked here, and fuzzed.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace drrik::hub {

struct TreeEntry {
  std::string path;
  std::uint64_t bytes = 0;
  std::string blob_id;     ///< git's sha1.
  std::string lfs_sha256;  ///< Empty for small files.
  std::uint64_t lfs_bytes = 0;
  std::string xet_hash;
};

struct RepoInfo {
  std::string commit;
  std::vector<std::string> files;  ///< Paths, checked.
};

/// GET /api/models/{id}/revision/{revision}. Throws Error(data): malformed, no commit, a path that
/// leads outside.
RepoInfo parse_repo_info(std::string_view text, std::string_view what);

/// One page of GET /api/models/{id}/tree/{commit}?recursive=true; folders are left out.
std::vector<TreeEntry> parse_tree_page(std::string_view text, std::string_view what);

/// The address of the next page, from a header `Link: <…>; rel="next"`.
std::optional<std::string> next_page(std::string_view link);

/// trees/<commit>.json of the cache: huggingface_hub's format 1. Nothing for another format.
std::optional<std::vector<TreeEntry>> parse_tree_cache(std::string_view text,
                                                       std::string_view what);
std::string tree_cache_text(const std::vector<TreeEntry>& entries);

/// Files named by a weights index (`weight_map`), sorted, each once. Throws Error(data).
std::vector<std::string> parse_weight_index(std::string_view text, std::string_view what);

}  // namespace drrik::hub
