#include "data/layout.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "drrik/base/error.h"

namespace drrik {
namespace {

using Names = std::vector<std::string>;

constexpr std::size_t kMaxConfigs = 10'000;
constexpr std::string_view kSeparators = "-._ 0-9";

struct SplitWords {
  const char* split;
  std::vector<const char*> words;
};
const std::array<SplitWords, 3>& split_words() {
  static const std::array<SplitWords, 3> words = {
      {{"train", {"train", "training"}},
       {"validation", {"validation", "valid", "dev", "val"}},
       {"test", {"test", "testing", "eval", "evaluation"}}}};
  return words;
}

Names parts_of(std::string_view path) {
  Names parts;
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t slash = std::min(path.find('/', at), path.size());
    if (slash > at && path.substr(at, slash - at) != ".") {
      parts.emplace_back(path.substr(at, slash - at));
    }
    at = slash + 1;
  }
  return parts;
}

// Whether `c` is in the set that begins after '[' at `at`, which is moved behind its ']'. A '['
// without its ']' is itself.
std::optional<bool> in_set(std::string_view pattern, std::size_t& at, char c) {
  const bool negated =
      at + 1 < pattern.size() && (pattern[at + 1] == '!' || pattern[at + 1] == '^');
  const std::size_t first = at + (negated ? 2 : 1);
  const std::size_t close = pattern.find(']', first + 1);
  if (close == std::string_view::npos) return std::nullopt;
  bool found = false;
  for (std::size_t i = first; i < close; ++i) {
    if (i + 2 < close && pattern[i + 1] == '-') {
      found = found || (pattern[i] <= c && c <= pattern[i + 2]);
      i += 2;
    } else {
      found = found || pattern[i] == c;
    }
  }
  at = close + 1;
  return found != negated;
}

// One part of a path. Remembers the last star only: linear for all but nested stars, never worse
// than the product of the lengths.
bool part_matches(std::string_view pattern, std::string_view text) {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;
  std::size_t star_text = 0;
  while (t < text.size()) {
    bool matched = false;
    std::size_t next = p;
    if (p < pattern.size()) {
      if (pattern[p] == '*') {
        star = p++;
        star_text = t;
        continue;
      }
      next = p + 1;
      matched = pattern[p] == '?' || pattern[p] == text[t];
      if (pattern[p] == '[') {
        std::size_t end = p;
        if (const auto in = in_set(pattern, end, text[t])) {
          matched = *in;
          next = end;
        }
      }
    }
    if (matched) {
      p = next;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool parts_match(const Names& pattern, const Names& path) {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t deep = Names::size_type(-1);
  std::size_t deep_at = 0;
  while (t < path.size()) {
    if (p < pattern.size() && pattern[p] == "**") {
      deep = p++;
      deep_at = t;
    } else if (p < pattern.size() && part_matches(pattern[p], path[t])) {
      ++p;
      ++t;
    } else if (deep != Names::size_type(-1)) {
      p = deep + 1;
      t = ++deep_at;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == "**") ++p;
  return p == pattern.size();
}

// Hidden files and __folders count only when the pattern names as many of them.
std::pair<std::size_t, std::size_t> special(const Names& parts) {
  std::size_t hidden = 0;
  std::size_t folders = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const bool dots = parts[i].find_first_not_of('.') == std::string::npos;
    hidden += parts[i][0] == '.' && !dots ? 1 : 0;
    folders += i + 1 < parts.size() && parts[i].rfind("__", 0) == 0 ? 1 : 0;
  }
  return {hidden, folders};
}

struct Paths {
  std::vector<std::string> names;
  std::vector<Names> parts;
};

void add_matches(const Paths& paths, const std::string& pattern, std::set<std::string>& seen,
                 Names& out) {
  const Names wanted = parts_of(pattern);
  for (std::size_t i = 0; i < paths.names.size(); ++i) {
    if (special(paths.parts[i]) != special(wanted) || !parts_match(wanted, paths.parts[i]))
      continue;
    if (seen.insert(paths.names[i]).second) out.push_back(paths.names[i]);
  }
}

Names matches(const Paths& paths, const Names& patterns) {
  Names out;
  std::set<std::string> seen;
  for (const std::string& pattern : patterns) add_matches(paths, pattern, seen, out);
  return out;
}

Names folder_patterns(const std::string& word) {
  const std::string set = str("[", kSeparators, "]");
  return {str("**/", word, "/**"), str("**/", word, set, "*/**"), str("**/*", set, word, "/**"),
          str("**/*", set, word, set, "*/**")};
}

Names file_patterns(const std::string& word) {
  const std::string set = str("[", kSeparators, "]");
  return {str("**/", word, set, "*"), str("**/*", set, word, set, "*")};
}

template <typename Patterns>
void add_by_word(const Paths& paths, const Patterns& patterns, std::vector<LayoutSplit>& out) {
  for (const SplitWords& words : split_words()) {
    if (std::any_of(out.begin(), out.end(),
                    [&](const LayoutSplit& split) { return split.name == words.split; })) {
      continue;
    }
    Names all;
    for (const char* word : words.words) {
      for (std::string& pattern : patterns(word)) all.push_back(std::move(pattern));
    }
    Names files = matches(paths, all);
    if (!files.empty()) out.push_back({words.split, std::move(files)});
  }
}

int rank(const std::string& split) {
  const auto& words = split_words();
  const auto found = std::find_if(words.begin(), words.end(),
                                  [&](const SplitWords& w) { return split == w.split; });
  return static_cast<int>(found - words.begin());
}

void sort_splits(std::vector<LayoutSplit>& splits) {
  std::stable_sort(splits.begin(), splits.end(), [](const LayoutSplit& a, const LayoutSplit& b) {
    const int ra = rank(a.name);
    const int rb = rank(b.name);
    return ra != rb ? ra < rb : ra == 3 && a.name < b.name;
  });
}

// data/{split}-00000-of-00001.parquet and the like, as push_to_hub writes.
std::vector<LayoutSplit> sharded_splits(const Paths& paths) {
  const std::string number = "-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]*.*";
  std::vector<LayoutSplit> out;
  for (std::size_t i = 0; i < paths.names.size(); ++i) {
    const Names& parts = paths.parts[i];
    if (parts.size() != 2 || parts[0] != "data" || !part_matches("*" + number, parts[1])) continue;
    std::size_t at = parts[1].size();
    while (at > 0 && !part_matches(number, parts[1].substr(at))) --at;
    const std::string split = parts[1].substr(0, at);
    auto found =
        std::find_if(out.begin(), out.end(), [&](const LayoutSplit& s) { return s.name == split; });
    if (found == out.end()) found = out.insert(out.end(), {split, {}});
    found->files.push_back(paths.names[i]);
  }
  sort_splits(out);
  return out;
}

std::vector<LayoutSplit> default_splits(const Paths& paths) {
  std::vector<LayoutSplit> out = sharded_splits(paths);
  if (!out.empty()) return out;
  // `datasets` takes what the folders' names say, else what the files' do. Here a split that no
  // folder names may still be one that files do.
  add_by_word(paths, folder_patterns, out);
  add_by_word(paths, file_patterns, out);
  if (out.empty()) out.push_back({"train", matches(paths, {"**"})});
  sort_splits(out);
  return out;
}

bool split_name(const std::string& name) {
  // ^\w+(\.\w+)*$, with bytes of other scripts taken for letters.
  bool letter = false;
  for (const char c : name) {
    if (c == '.' && letter) {
      letter = false;
      continue;
    }
    const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '_' || static_cast<unsigned char>(c) >= 0x80;
    if (!word) return false;
    letter = true;
  }
  return letter;
}

[[noreturn]] void bad_metadata(const std::string& why) {
  throw_data("README.md: ", why,
             "; wanted configs: a list of {config_name, data_files}, data_files a path, a list of "
             "paths, or a list of {split, path}");
}

std::string scalar(const YAML::Node& node, const char* what) {
  if (!node.IsScalar()) bad_metadata(str("'", what, "' is no string"));
  return node.Scalar();
}

Names strings(const YAML::Node& node, const char* what) {
  if (node.IsScalar()) return {node.Scalar()};
  if (!node.IsSequence()) bad_metadata(str("'", what, "' is neither a path nor a list"));
  Names out;
  for (const YAML::Node& each : node) out.push_back(scalar(each, what));
  return out;
}

struct NamedPatterns {
  std::string split;
  Names patterns;
};

std::vector<NamedPatterns> data_files_of(const YAML::Node& node) {
  std::vector<NamedPatterns> out;
  const bool with_splits = node.IsSequence() && node.size() > 0 && node[0].IsMap();
  if (!with_splits) return {{"train", strings(node, "data_files")}};
  for (const YAML::Node& each : node) {
    if (!each.IsMap() || !each["split"] || !each["path"]) {
      bad_metadata("an entry of data_files lacks 'split' or 'path'");
    }
    NamedPatterns one{scalar(each["split"], "split"), strings(each["path"], "path")};
    if (!split_name(one.split)) bad_metadata(str("split '", one.split, "' is no name"));
    for (const NamedPatterns& other : out) {
      if (other.split == one.split) bad_metadata(str("split '", one.split, "' appears twice"));
    }
    out.push_back(std::move(one));
  }
  return out;
}

std::string front_matter(const std::string& readme) {
  std::string_view text = readme;
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  std::string block;
  bool inside = false;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line == "---") {
      if (inside) return block;
      inside = true;
    } else if (!inside) {
      return {};
    } else {
      block.append(line);
      block += '\n';
    }
  }
  return {};  // Without its end it is none.
}

YAML::Node configs_in(const std::string& yaml) {
  if (yaml.empty()) return {};
  const YAML::Node root = YAML::Load(yaml);
  if (!root.IsMap() || !root["configs"]) return {};
  return root["configs"];
}

// The default: the only one, one called "default", or one flagged so.
std::size_t choose_config(const YAML::Node& configs, const Names& names,
                          const std::string& wanted) {
  if (!wanted.empty()) {
    const auto found = std::find(names.begin(), names.end(), wanted);
    if (found == names.end()) {
      throw_data("no configuration '", wanted, "'; there are: ", join(names),
                 did_you_mean(wanted, names));
    }
    return static_cast<std::size_t>(found - names.begin());
  }
  std::optional<std::size_t> chosen;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const YAML::Node flag = configs[i]["default"];
    const bool flagged = flag && flag.IsScalar() && flag.as<bool>(false);
    if (names.size() > 1 && names[i] != "default" && !flagged) continue;
    if (chosen) {
      bad_metadata(
          str("several default configurations: '", names[*chosen], "' and '", names[i], "'"));
    }
    chosen = i;
  }
  if (!chosen) {
    throw_data("several configurations; choose one (--dataset-config): ", join(names));
  }
  return *chosen;
}

void read_config(const YAML::Node& config, const Paths& paths, Layout& layout) {
  const YAML::Node folder = config["data_dir"];
  const std::string base = folder ? scalar(folder, "data_dir") + "/" : std::string();
  for (const char* key : {"sep", "delimiter"}) {
    if (!config[key]) continue;
    const std::string sep = scalar(config[key], key);
    if (sep.size() != 1 || sep.find_first_of("\"\r\n") == 0)
      throw_data("README.md: separator '", sep, "', wanted one character, no quote or newline");
    layout.delimiter = sep[0];
  }
  if (!config["data_files"]) {
    // The usual patterns inside the folder.
    Paths inside;
    const Names prefix = parts_of(base);
    for (std::size_t i = 0; i < paths.names.size(); ++i) {
      const Names& parts = paths.parts[i];
      if (parts.size() <= prefix.size() ||
          !std::equal(prefix.begin(), prefix.end(), parts.begin())) {
        continue;
      }
      inside.names.push_back(paths.names[i]);
      inside.parts.emplace_back(parts.begin() + static_cast<std::ptrdiff_t>(prefix.size()),
                                parts.end());
    }
    layout.splits = default_splits(inside);
    return;
  }
  for (const NamedPatterns& named : data_files_of(config["data_files"])) {
    Names patterns;
    for (const std::string& pattern : named.patterns) patterns.push_back(base + pattern);
    Names files = matches(paths, patterns);
    if (files.empty()) {
      throw_data("README.md: no file matches ", join(patterns), " of split '", named.split, "'");
    }
    layout.splits.push_back({named.split, std::move(files)});
  }
}

}  // namespace

bool glob_match(std::string_view pattern, std::string_view path) {
  return parts_match(parts_of(pattern), parts_of(path));
}

Layout resolve_layout(const LayoutFiles& files, const std::string& config) {
  Paths paths;
  for (const std::string& path : files.paths) {
    paths.names.push_back(path);
    paths.parts.push_back(parts_of(path));
  }
  Layout layout;
  try {
    YAML::Node configs = configs_in(files.huggingface_yaml);
    if (!configs || configs.IsNull()) configs = configs_in(front_matter(files.readme));
    if (configs && !configs.IsNull()) {
      if (!configs.IsSequence()) bad_metadata("'configs' is no list");
      if (configs.size() > kMaxConfigs) bad_metadata("too many configurations");
      for (const YAML::Node& each : configs) {
        if (!each.IsMap() || !each["config_name"])
          bad_metadata("a configuration has no config_name");
        layout.configs.push_back(scalar(each["config_name"], "config_name"));
      }
    }
    if (!layout.configs.empty()) {
      const std::size_t chosen = choose_config(configs, layout.configs, config);
      layout.config = layout.configs[chosen];
      read_config(configs[chosen], paths, layout);
      return layout;
    }
  } catch (const YAML::Exception& error) {
    throw_data("README.md: its front matter is no valid YAML (", error.what(), ")");
  }
  if (!config.empty() && config != "default") {
    throw_data("no configuration '", config, "': README.md names none");
  }
  layout.by_name = true;
  layout.splits = default_splits(paths);
  return layout;
}

std::vector<std::string> split_files(const Layout& layout, const std::string& split) {
  Names out;
  if (split.empty() || split == "all") {
    std::set<std::string> seen;
    for (const LayoutSplit& each : layout.splits) {
      for (const std::string& file : each.files) {
        if (seen.insert(file).second) out.push_back(file);
      }
    }
    return out;
  }
  Names names;
  for (const LayoutSplit& each : layout.splits) {
    if (each.name == split) return each.files;
    names.push_back(each.name);
  }
  for (const SplitWords& words : split_words()) {
    const bool means = std::any_of(words.words.begin(), words.words.end(),
                                   [&](const char* word) { return split == word; });
    if (!means || std::find(names.begin(), names.end(), words.split) == names.end()) continue;
    return split_files(layout, words.split);
  }
  throw_data("no files of split '", split, "'; its splits are ", join(names),
             split.find('[') == std::string::npos
                 ? did_you_mean(split, names)
                 : "; for a part of one use --skip and --num-samples");
}

}  // namespace drrik
