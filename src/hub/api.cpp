#include "hub/api.h"

#include <algorithm>
#include <set>

#include "drrik/base/error.h"
#include "drrik/hub/repo.h"
#include "hub/url.h"
#include "io/json.h"

namespace drrik::hub {
namespace {

constexpr JsonParseOptions kShallow = {.max_depth = 64};

std::uint64_t size_of(const Json& json, std::string_view key, std::string_view what) {
  const auto value = find_int(json, key, what);
  return value && *value > 0 ? static_cast<std::uint64_t>(*value) : 0;
}

}  // namespace

RepoInfo parse_repo_info(std::string_view text, std::string_view what) {
  const Json json = parse_json(text, what, kShallow);
  expect_object(json, what);
  RepoInfo info;
  info.commit = get_string(json, "sha", what);
  if (!is_commit(info.commit)) {
    throw_data(what, ": 'sha' is no commit; wanted 40 hexadecimal digits");
  }
  if (const Json* siblings = find_member(json, "siblings", what)) {
    for (const Json& sibling : expect_array(*siblings, what)) {
      std::string path = get_string(expect_object(sibling, what), "rfilename", what);
      check_path(path, what);
      info.files.push_back(std::move(path));
    }
  }
  std::ranges::sort(info.files);
  return info;
}

std::vector<TreeEntry> parse_tree_page(std::string_view text, std::string_view what) {
  const Json json = parse_json(text, what, kShallow);
  std::vector<TreeEntry> entries;
  for (const Json& item : expect_array(json, what)) {
    expect_object(item, what);
    if (get_string(item, "type", what) != "file") continue;
    TreeEntry entry;
    entry.path = get_string(item, "path", what);
    check_path(entry.path, what);
    entry.bytes = size_of(item, "size", what);
    entry.blob_id = get_string(item, "oid", what, "");
    if (const Json* lfs = find_member(item, "lfs", what)) {
      expect_object(*lfs, what);
      entry.lfs_sha256 = get_string(*lfs, "oid", what, "");
      entry.lfs_bytes = size_of(*lfs, "size", what);
    }
    entry.xet_hash = get_string(item, "xetHash", what, "");
    entries.push_back(std::move(entry));
  }
  return entries;
}

std::optional<std::string> next_page(std::string_view link) {
  for (std::size_t begin = link.find('<'); begin != std::string_view::npos;
       begin = link.find('<', begin + 1)) {
    const std::size_t end = link.find('>', begin);
    if (end == std::string_view::npos) return std::nullopt;
    const std::string_view after = link.substr(end, link.find('<', end) - end);
    if (after.find("rel=\"next\"") != std::string_view::npos) {
      return std::string(link.substr(begin + 1, end - begin - 1));
    }
  }
  return std::nullopt;
}

std::optional<std::vector<TreeEntry>> parse_tree_cache(std::string_view text,
                                                       std::string_view what) {
  const Json json = parse_json(text, what, kShallow);
  expect_object(json, what);
  const Json* version = find_member(json, "format_version", what);
  if (version == nullptr || *version != 1) return std::nullopt;
  std::vector<TreeEntry> entries;
  for (const auto& [path, info] : expect_object(get_member(json, "files", what), what).items()) {
    expect_object(info, what);
    check_path(path, what);
    TreeEntry entry;
    entry.path = path;
    entry.bytes = size_of(info, "size", what);
    entry.blob_id = get_string(info, "blob_id", what, "");
    entry.lfs_sha256 = get_string(info, "lfs_sha256", what, "");
    entry.lfs_bytes = size_of(info, "lfs_size", what);
    entry.xet_hash = get_string(info, "xet_hash", what, "");
    entries.push_back(std::move(entry));
  }
  std::ranges::sort(entries, {}, &TreeEntry::path);
  return entries;
}

std::string tree_cache_text(const std::vector<TreeEntry>& entries) {
  Json files = Json::object();
  for (const TreeEntry& entry : entries) {
    Json info{{"size", entry.bytes}, {"blob_id", entry.blob_id}};
    if (!entry.lfs_sha256.empty()) {
      info["lfs_sha256"] = entry.lfs_sha256;
      info["lfs_size"] = entry.lfs_bytes;
    }
    if (!entry.xet_hash.empty()) info["xet_hash"] = entry.xet_hash;
    files[entry.path] = std::move(info);
  }
  return json_text(Json{{"format_version", 1}, {"files", std::move(files)}}, 1);
}

std::vector<std::string> parse_weight_index(std::string_view text, std::string_view what) {
  const Json json = parse_json(text, what, kShallow);
  std::set<std::string> files;
  const Json& map = expect_object(get_member(expect_object(json, what), "weight_map", what), what);
  for (const auto& [tensor, file] : map.items()) {
    files.insert(json_string(file, str(what, ": weight_map: ", tensor)));
  }
  for (const std::string& file : files) check_path(file, what);
  return {files.begin(), files.end()};
}

}  // namespace drrik::hub
