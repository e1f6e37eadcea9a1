#include "hub/glob.h"

#include <algorithm>
#include <optional>
#include <string>

namespace drrik::hub {
namespace {

// The end of a "[...]" that begins at `at`, or nothing when it is not closed and so stands for
// itself.
std::optional<std::size_t> class_end(std::string_view pattern, std::size_t at) {
  std::size_t i = at + 1;
  if (i < pattern.size() && pattern[i] == '!') ++i;
  if (i < pattern.size() && pattern[i] == ']') ++i;  // the first one is a member
  i = pattern.find(']', i);
  if (i == std::string_view::npos) return std::nullopt;
  return i;
}

bool in_class(std::string_view members, char c) {
  const bool inverted = members.starts_with('!');
  if (inverted) members.remove_prefix(1);
  bool found = false;
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (i + 2 < members.size() && members[i + 1] == '-') {
      found = found || (members[i] <= c && c <= members[i + 2]);
      i += 2;
    } else {
      found = found || members[i] == c;
    }
  }
  return found != inverted;
}

// One item of the pattern against one character; answers the item's length, or 0.
std::size_t match_one(std::string_view pattern, std::size_t at, char c) {
  if (pattern[at] == '?') return 1;
  if (pattern[at] == '[') {
    if (const auto end = class_end(pattern, at)) {
      return in_class(pattern.substr(at + 1, *end - at - 1), c) ? *end - at + 1 : 0;
    }
  }
  return pattern[at] == c ? 1 : 0;
}

}  // namespace

bool fnmatch(std::string_view pattern, std::string_view text) {
  std::size_t p = 0;
  std::size_t t = 0;
  std::optional<std::size_t> star;  // the last one, and where its text ended so far
  std::size_t star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
      continue;
    }
    const std::size_t length = p < pattern.size() ? match_one(pattern, p, text[t]) : 0;
    if (length > 0) {
      p += length;
      ++t;
    } else if (star) {
      p = *star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool wanted(std::string_view path, const std::vector<std::string_view>& include,
            const std::vector<std::string_view>& exclude) {
  const auto matches = [&](std::string_view pattern) {
    return pattern.ends_with('/') ? fnmatch(std::string(pattern) + "*", path)
                                  : fnmatch(pattern, path);
  };
  if (!include.empty() && std::ranges::none_of(include, matches)) return false;
  return std::ranges::none_of(exclude, matches);
}

}  // namespace drrik::hub
