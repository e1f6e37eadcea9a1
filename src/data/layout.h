#pragma once
// Which files of a folder or repository are which split, as HuggingFace `datasets` (5.2) decides:
// `configs` in the front matter of README.md, else patterns over names. Works on names alone, so
// that it serves folders on disk and lists from the Hub alike.

#include <string>
#include <string_view>
#include <vector>

namespace drrik {

struct LayoutSplit {
  std::string name;
  std::vector<std::string> files;  ///< In order of reading.
};

struct Layout {
  std::vector<std::string> configs;  ///< Named in README.md, in its order; may be empty.
  std::string config;                ///< The one taken; empty when README.md names none.
  std::vector<LayoutSplit> splits;   ///< train, validation, test, then others.
  char delimiter = 0;                ///< Of CSV files, where the configuration names one.
  bool by_name = false;              ///< Splits come from patterns, not from README.md.
};

struct LayoutFiles {
  /// Paths of all data files, relative, with '/', sorted.
  std::vector<std::string> paths;
  std::string readme;            ///< Content of README.md, or empty.
  std::string huggingface_yaml;  ///< Content of .huggingface.yaml, whose `configs` win.
};

/// Throws Error(data) for malformed front matter, an unknown configuration (naming those there
/// are) or one whose files are not there. Where several configurations have no default and none is
/// asked for, the error lists them.
Layout resolve_layout(const LayoutFiles& files, const std::string& config);

/// The files of one split, or of all when it is empty or "all". "dev", "valid", "eval", … find the
/// split they mean. Throws Error(data) naming the splits.
std::vector<std::string> split_files(const Layout& layout, const std::string& split);

/// Matches whole relative paths: * ? [] within a part, ** for any number of parts.
bool glob_match(std::string_view pattern, std::string_view path);

}  // namespace drrik
