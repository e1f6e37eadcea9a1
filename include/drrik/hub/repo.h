#pragma once
// The name of a repository on the Hub.

#include <string>
#include <string_view>

namespace drrik {

enum class RepoType { kModel, kDataset, kSpace };
/// "model", "dataset", "space"; throws Error(usage) otherwise.
RepoType parse_repo_type(std::string_view name);
std::string_view repo_type_name(RepoType type);

struct Repo {
  RepoType type = RepoType::kModel;
  std::string id;                 ///< "gpt2" or "org/name".
  std::string revision = "main";  ///< Branch, tag, 40-digit commit or "refs/pr/N".

  /// Throws Error(usage) for an id or revision that the Hub does not allow.
  void validate() const;
  /// "dataset org/name@refs/pr/1", for messages.
  std::string text() const;
};

/// Whether the Hub allows a repository of this name: one or two parts of letters, digits, '-', '_'
/// and '.'; no "--" or ".."; not ending in ".git".
bool is_repo_id(std::string_view id);

/// 40 hexadecimal digits in lower case: a commit, which never changes.
bool is_commit(std::string_view revision);

}  // namespace drrik
