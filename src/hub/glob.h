#pragma once
// Patterns over the paths of a repository.

#include <string_view>
#include <vector>

namespace drrik::hub {

/// As Python's fnmatchcase: '*' any text ('/' too), '?' one character, [abc], [a-z], [!abc].
/// Time at most proportional to the product of the lengths.
bool fnmatch(std::string_view pattern, std::string_view text);

/// As snapshot_download's allow_patterns and ignore_patterns; "folder/" means all below it.
bool wanted(std::string_view path, const std::vector<std::string_view>& include,
            const std::vector<std::string_view>& exclude);

}  // namespace drrik::hub
