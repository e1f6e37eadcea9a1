#include "drrik/hub/repo.h"

#include <algorithm>
#include <vector>

#include "drrik/base/error.h"
#include "hub/url.h"

namespace drrik {
namespace {

constexpr std::size_t kMaxId = 96;
constexpr std::size_t kMaxRevision = 250;

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool is_name(std::string_view part) {
  if (part.empty()) return false;
  const auto inner = [](char c) { return is_word(c) || c == '-' || c == '.'; };
  return std::ranges::all_of(part, inner) && is_word(part.front()) && is_word(part.back());
}

// What git allows in a reference's name, less what a path on disk may not be.
bool is_revision(std::string_view revision) {
  if (revision.size() > kMaxRevision || !hub::is_safe_path(revision)) return false;
  return revision.find_first_of(" ~^:?*[") == std::string_view::npos &&
         revision.find("..") == std::string_view::npos && revision.find("@{") == revision.npos;
}

}  // namespace

RepoType parse_repo_type(std::string_view name) {
  const std::vector<std::string> names = {"model", "dataset", "space"};
  if (name == names[0]) return RepoType::kModel;
  if (name == names[1]) return RepoType::kDataset;
  if (name == names[2]) return RepoType::kSpace;
  throw_usage("repository type '", name, "': wanted ", join(names), did_you_mean(name, names));
}

std::string_view repo_type_name(RepoType type) {
  switch (type) {
    case RepoType::kDataset:
      return "dataset";
    case RepoType::kSpace:
      return "space";
    case RepoType::kModel:
      break;
  }
  return "model";
}

void Repo::validate() const {
  if (!is_repo_id(id)) {
    throw_usage("'", id,
                "' is no name of a repository on the Hub; wanted 'name' or 'owner/name' of "
                "letters, digits, '-', '_' and '.'");
  }
  if (!is_revision(revision)) {
    throw_usage("revision '", revision,
                "': wanted a branch, a tag, a commit (40 hexadecimal digits) or refs/pr/N");
  }
}

std::string Repo::text() const {
  return str(repo_type_name(type), " '", id, "'",
             revision == "main" ? "" : str(" at revision '", revision, "'"));
}

bool is_repo_id(std::string_view id) {
  if (id.empty() || id.size() > kMaxId) return false;
  if (id.find("--") != id.npos || id.find("..") != id.npos || id.ends_with(".git")) return false;
  const std::size_t slash = id.find('/');
  if (slash == std::string_view::npos) return is_name(id);
  return is_name(id.substr(0, slash)) && is_name(id.substr(slash + 1));
}

bool is_commit(std::string_view revision) {
  return revision.size() == 40 && std::ranges::all_of(revision, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace drrik
