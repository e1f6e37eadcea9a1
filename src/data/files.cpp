#include "data/files.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "drrik/base/error.h"
#include "drrik/base/log.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr std::array<DataFormat, 9> kFormats = {{
    {".jsonl", "json", open_json_lines, true},
    {".ndjson", "json", open_json_lines, true},
    {".json", "json", open_json, true},
    {".csv", "csv", open_csv, true},
    {".tsv", "csv", open_tsv, true},
    {".txt", "text", open_text, true},
    {".text", "text", open_text, true},
    {".md", "text", open_text, false},
    {".log", "text", open_text, false},
}};

// Files that lie beside a dataset's data: HuggingFace `datasets` leaves these out as well.
constexpr std::array<std::string_view, 4> kNotData = {"config.json", "dataset_info.json",
                                                      "dataset_infos.json", "dataset_dict.json"};

constexpr std::size_t kMaxFiles = 1'000'000;

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

bool has_glob(const std::string& text) { return text.find_first_of("*?[") != std::string::npos; }

bool hidden(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.empty() || name[0] == '.' || name.rfind("__", 0) == 0;
}

// Children in order of name; folders that may not be read are an error, not a gap.
std::vector<fs::path> children(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    out.push_back(it->path());
    if (out.size() > kMaxFiles) throw_data("'", folder.string(), "' has too many files");
  }
  if (error) throw_io("cannot read folder '", folder.string(), "': ", error.message());
  std::sort(out.begin(), out.end());
  return out;
}

void walk(const fs::path& folder, std::vector<fs::path>& out) {
  for (const fs::path& path : children(folder)) {
    if (hidden(path)) continue;
    std::error_code error;
    if (fs::is_directory(path, error)) {
      // A link to a folder may lead in a circle.
      if (!fs::is_symlink(path, error)) walk(path, out);
    } else {
      out.push_back(path);
    }
  }
}

bool matches(const std::string& pattern, const fs::path& path) {
  // As in a shell: a wildcard does not stand for a leading dot.
  return fnmatch(pattern.c_str(), path.filename().c_str(), FNM_PERIOD) == 0;
}

void expand(const fs::path& at, const std::vector<std::string>& parts, std::size_t i,
            std::vector<fs::path>& out) {
  if (out.size() > kMaxFiles) throw_data("the pattern matches too many files");
  std::error_code error;
  if (i == parts.size()) {
    if (fs::exists(at, error)) out.push_back(at);
    return;
  }
  const bool known = !at.empty();
  const fs::path folder = known ? at : fs::path(".");
  const auto child = [&](const fs::path& path) { return known ? path : path.filename(); };
  if (!has_glob(parts[i])) {
    expand(known ? at / parts[i] : fs::path(parts[i]), parts, i + 1, out);
    return;
  }
  if (!fs::is_directory(folder, error)) return;
  const bool deep = parts[i] == "**";
  if (deep) expand(at, parts, i + 1, out);
  for (const fs::path& path : children(folder)) {
    if (deep) {
      const bool enter = fs::is_directory(path, error) && !fs::is_symlink(path, error);
      if (enter && !hidden(path)) expand(child(path), parts, i, out);
      // `a/**` alone means every file below.
      if (i + 1 == parts.size() && !enter && !hidden(path)) out.push_back(child(path));
    } else if (matches(parts[i], path)) {
      expand(child(path), parts, i + 1, out);
    }
  }
}

std::string read_formats() {
  std::vector<std::string> names;
  for (const DataFormat& format : kFormats) names.emplace_back(format.extension);
  return join(names) + ", each also .gz or .zst";
}

[[noreturn]] void throw_unknown(const fs::path& path) {
  throw_data("'", path.string(), "': format not known by its name; read are ", read_formats(),
             "; convert other formats (Parquet, Arrow) to JSON Lines");
}

[[noreturn]] void throw_not_found(const std::string& path) {
  const auto slash = path.find('/');
  const bool hub = !path.empty() && path.find_first_of(" \\") == std::string::npos &&
                   path.front() != '/' && path.front() != '.' &&
                   (slash == std::string::npos || path.find('/', slash + 1) == std::string::npos) &&
                   find_format(path) == nullptr;
  throw_io("dataset '", path, "': no such file or folder",
           hub ? "; if it is a dataset on the Hub: this build reads local data, so download it "
                 "first (hf download " +
                     path +
                     " --repo-type dataset --local-dir DIR) and pass "
                     "the folder"
               : "");
}

// HuggingFace's words for the usual splits.
std::vector<std::string> split_words(const std::string& split) {
  if (split == "train") return {"train", "training"};
  if (split == "validation") return {"validation", "valid", "dev", "val"};
  if (split == "test") return {"test", "testing", "eval", "evaluation"};
  return {split};
}

// A word counts when nothing but a separator or digit touches it, in a folder's or the file's name.
bool has_word(const std::string& path, const std::string& word) {
  constexpr std::string_view kAround = "/-._ 0123456789";
  for (std::size_t at = path.find(word); at != std::string::npos; at = path.find(word, at + 1)) {
    const bool before = at == 0 || kAround.find(path[at - 1]) != std::string_view::npos;
    const std::size_t end = at + word.size();
    const bool after = end == path.size() || kAround.find(path[end]) != std::string_view::npos;
    if (before && after) return true;
  }
  return false;
}

bool in_split(const std::string& path, const std::string& split) {
  const auto words = split_words(split);
  return std::any_of(words.begin(), words.end(),
                     [&](const std::string& word) { return has_word(path, word); });
}

void keep_split(std::vector<DataFile>& files, const fs::path& folder, const std::string& split) {
  if (split.empty() || split == "all") return;
  const auto relative = [&](const DataFile& file) {
    return lower(file.path.lexically_relative(folder).string());
  };
  const auto is_in = [&](const DataFile& file) { return in_split(relative(file), split); };
  if (std::none_of(files.begin(), files.end(), is_in)) {
    // Data that names no split at all is one, called train.
    const bool any = std::any_of(files.begin(), files.end(), [&](const DataFile& file) {
      return in_split(relative(file), "train") || in_split(relative(file), "validation") ||
             in_split(relative(file), "test");
    });
    if (split == "train" && !any) return;
    throw_data("'", folder.string(), "' has no files of split '", split, "' (no name of ",
               files.size(), " data files says so)");
  }
  files.erase(std::remove_if(files.begin(), files.end(),
                             [&](const DataFile& file) { return !is_in(file); }),
              files.end());
}

std::vector<DataFile> folder_files(const fs::path& folder, const std::string& split) {
  std::vector<fs::path> paths;
  walk(folder, paths);
  std::vector<DataFile> files;
  std::map<std::string_view, std::size_t> families;
  for (const fs::path& path : paths) {
    const DataFormat* format = find_format(path);
    const std::string name = path.filename().string();
    if (format == nullptr || !format->in_folders ||
        std::find(kNotData.begin(), kNotData.end(), name) != kNotData.end()) {
      continue;
    }
    files.push_back({path, format});
    ++families[format->family];
  }
  if (files.empty()) {
    throw_data("'", folder.string(), "' holds no data files; read are ", read_formats());
  }
  // As in HuggingFace `datasets`, the most frequent kind is the dataset; on a tie the table's
  // order decides.
  std::string_view family;
  for (const DataFormat& format : kFormats) {
    if (families[format.family] > families[family]) family = format.family;
  }
  const std::size_t all = files.size();
  files.erase(std::remove_if(files.begin(), files.end(),
                             [&](const DataFile& f) { return f.format->family != family; }),
              files.end());
  if (files.size() < all) {
    log_info("dataset '", folder.string(), "': reading ", files.size(), " ", family,
             " files, leaving out ", all - files.size(), " of other kinds");
  }
  keep_split(files, folder, split);
  return files;
}

}  // namespace

const DataFormat* find_format(const std::filesystem::path& path) {
  fs::path name = lower(path.filename().string());
  while (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
  const std::string extension = name.extension().string();
  const auto found = std::find_if(kFormats.begin(), kFormats.end(), [&](const DataFormat& format) {
    return format.extension == extension;
  });
  return found == kFormats.end() ? nullptr : &*found;
}

std::vector<std::filesystem::path> expand_glob(const std::string& pattern) {
  std::vector<std::string> parts;
  fs::path root;
  for (const fs::path& part : fs::path(pattern)) {
    if (part == "/") {
      root = part;
    } else if (!part.empty()) {
      parts.push_back(part.string());
    }
  }
  std::vector<fs::path> out;
  expand(root, parts, 0, out);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

std::vector<DataFile> find_data_files(const std::string& path, const std::string& split) {
  std::error_code error;
  if (path.empty()) throw_usage("dataset: no path given");
  if (fs::is_directory(path, error)) return folder_files(path, split);
  if (fs::exists(path, error)) {
    const DataFormat* format = find_format(path);
    if (format == nullptr) throw_unknown(path);
    return {{path, format}};
  }
  if (!has_glob(path)) throw_not_found(path);
  std::vector<DataFile> files;
  for (const fs::path& found : expand_glob(path)) {
    if (fs::is_directory(found, error)) continue;
    const DataFormat* format = find_format(found);
    if (format == nullptr) throw_unknown(found);
    files.push_back({found, format});
  }
  if (files.empty()) throw_io("dataset '", path, "': no file matches");
  return files;
}

}  // namespace drrik
