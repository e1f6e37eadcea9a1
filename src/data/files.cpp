#include "data/files.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "data/hub_dataset.h"
#include "data/layout.h"
#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "drrik/hub/repo.h"
#include "io/json.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

// Where several kinds are equally many in a folder, the first here is the dataset.
constexpr std::array<DataFormat, 16> kFormats = {{
    {".parquet", "parquet", nullptr, true},
    {".geoparquet", "parquet", nullptr, true},
    {".gpq", "parquet", nullptr, true},
    {".arrow", "arrow", nullptr, true},
    {".arrows", "arrow", nullptr, true},
    {".ipc", "arrow", nullptr, true},
    {".feather", "arrow", nullptr, true},
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

constexpr std::array<std::string_view, 6> kCompressed = {".gz",  ".bz2", ".xz",
                                                         ".zst", ".lz4", ".zip"};

// Files that lie beside a dataset's data: HuggingFace `datasets` leaves these out as well.
constexpr std::array<std::string_view, 5> kNotData = {
    "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"};

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
  return join(names) + ", text formats also with .gz, .bz2, .xz, .zst, .lz4 or .zip";
}

[[noreturn]] void throw_unknown(const fs::path& path) {
  throw_data("'", path.string(), "': format not known by its name; read are ", read_formats());
}

Layout named_layout(const std::string& where, const LayoutFiles& files, const std::string& config) {
  try {
    return resolve_layout(files, config);
  } catch (Error& error) {
    throw error.add_context(where);
  }
}

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Results of earlier map() and filter() calls, which the `datasets` library keeps beside its data.
bool cached_result(const std::string& name) {
  return name.rfind("cache-", 0) == 0 && ends_with(name, ".arrow");
}

// A file that the user named: its bytes may tell what its name does not.
std::vector<DataFile> named_file(const fs::path& path) {
  std::vector<DataFile> files = classify_file(path);
  if (!files.empty()) return files;
  const Magic magic = find_magic(path);
  if (magic == Magic::kParquet) return {{path, find_format("x.parquet"), {}}};
  if (magic == Magic::kArrowFile || magic == Magic::kArrowStream) {
    return {{path, find_format("x.arrow"), {}}};
  }
  throw_unknown(path);
}

std::string read_small(const fs::path& path) {
  constexpr std::size_t kMaxBytes = std::size_t{16} << 20;
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return {};
  const auto stream = open_byte_stream(path, BinaryFormats::kAllow);
  std::string out;
  char buffer[1 << 14];
  while (const std::size_t n = stream->read(buffer)) {
    out.append(buffer, n);
    if (out.size() > kMaxBytes) throw_data("'", path.string(), "' is too large");
  }
  return out;
}

// What save_to_disk() wrote: state.json names the files in order.
std::vector<DataFile> saved_files(const fs::path& folder) {
  const std::string what = (folder / "state.json").string();
  const Json state = parse_json(read_small(folder / "state.json"), what);
  expect_object(state, what);
  if (const Json* indices = find_member(state, "_indices_files", what)) {
    if (!expect_array(*indices, what).empty()) {
      throw_data(what,
                 ": the dataset was saved with a selection of rows (_indices_files), which is "
                 "not read; save it again after flatten_indices()");
    }
  }
  std::vector<DataFile> files;
  for (const Json& entry : expect_array(get_member(state, "_data_files", what), what)) {
    const std::string name = get_string(expect_object(entry, what), "filename", what);
    const fs::path relative = name;
    if (relative.is_absolute() || *relative.lexically_normal().begin() == "..") {
      throw_data(what, ": file '", name, "' lies outside the folder");
    }
    files.push_back({folder / relative, find_format("x.arrow"), {}});
  }
  return files;
}

// A folder of save_to_disk(): one split, or several that dataset_dict.json names.
std::optional<DataFiles> saved_dataset(const fs::path& folder, const std::string& split) {
  std::error_code error;
  DataFiles out;
  const bool any = split.empty() || split == "all";
  if (fs::exists(folder / "dataset_dict.json", error)) {
    const std::string what = (folder / "dataset_dict.json").string();
    const Json dict = parse_json(read_small(folder / "dataset_dict.json"), what);
    Layout layout;
    for (const std::string& name : get_strings(expect_object(dict, what), "splits", what)) {
      if (name.find('/') != std::string::npos || name == ".." || name.empty()) {
        throw_data(what, ": split '", name, "' is no name");
      }
      layout.splits.push_back({name, {name}});
      out.splits.push_back(name);
    }
    for (const std::string& name : split_files(layout, split)) {
      for (DataFile& file : saved_files(folder / name)) out.files.push_back(std::move(file));
    }
    return out;
  }
  if (!fs::exists(folder / "state.json", error)) return std::nullopt;
  const Json state =
      parse_json(read_small(folder / "state.json"), (folder / "state.json").string());
  if (!state.is_object() || !state.contains("_data_files")) return std::nullopt;
  const std::string own = find_string(state, "_split", "state.json").value_or("train");
  if (!any && split != own && split != "train") {
    throw_data("'", folder.string(), "' has no files of split '", split, "'; it is split '", own,
               "'");
  }
  out.files = saved_files(folder);
  out.splits = {own};
  return out;
}

DataFiles folder_files(const fs::path& folder, const DatasetOptions& options) {
  if (auto saved = saved_dataset(folder, options.split)) {
    if (!options.config.empty()) {
      throw_usage("dataset '", options.path, "': got configuration '", options.config,
                  "'; a saved dataset has none");
    }
    return *std::move(saved);
  }
  std::vector<fs::path> paths;
  walk(folder, paths);
  std::map<std::string, std::vector<DataFile>> known;  // by relative path
  LayoutFiles layout_files;
  for (const fs::path& path : paths) {
    if (beside_data(path.filename().string())) continue;
    std::vector<DataFile> files = classify_file(path);
    if (files.empty() || !files.front().format->in_folders) continue;
    known.emplace(path.lexically_relative(folder).string(), std::move(files));
  }
  if (known.empty()) {
    throw_data("'", folder.string(), "' holds no data files; read are ", read_formats());
  }
  layout_files.readme = read_small(folder / "README.md");
  layout_files.huggingface_yaml = read_small(folder / ".huggingface.yaml");
  return arrange_files(folder.string(), std::move(known), std::move(layout_files), options);
}

}  // namespace

bool beside_data(const std::string& name) {
  return std::find(kNotData.begin(), kNotData.end(), name) != kNotData.end() || cached_result(name);
}

std::vector<DataFile> classify_file(const fs::path& path) {
  const DataFormat* format = find_format(path);
  if (lower(path.extension().string()) != ".zip") {
    if (format == nullptr) return {};
    return {{path, format, {}}};
  }
  std::vector<DataFile> files;
  for (const std::string& member : zip_members(path)) {
    const DataFormat* inside = find_format(member);
    if (inside == nullptr || !inside->in_folders ||
        beside_data(fs::path(member).filename().string())) {
      continue;
    }
    files.push_back({path, inside, member});
  }
  if (files.empty() && format != nullptr) files.push_back({path, format, {}});
  return files;
}

DataFiles arrange_files(const std::string& where,
                        std::map<std::string, std::vector<DataFile>> known,
                        LayoutFiles layout_files, const DatasetOptions& options) {
  std::map<std::string_view, std::size_t> families;
  for (const auto& [path, files] : known) ++families[files.front().format->family];
  for (const auto& [path, files] : known) layout_files.paths.push_back(path);
  Layout layout = named_layout(where, layout_files, options.config);
  std::string_view family;
  if (layout.by_name) {
    // As in HuggingFace `datasets`, the most frequent kind is the dataset.
    for (const DataFormat& format : kFormats) {
      if (families[format.family] > families[family]) family = format.family;
    }
    const std::size_t all = known.size();
    std::erase_if(known, [&](const auto& k) { return k.second[0].format->family != family; });
    if (known.size() < all) {
      log_info("dataset '", where, "': reading ", known.size(), " ", family, " files, leaving out ",
               all - known.size(), " of other kinds");
    }
    layout_files.paths.clear();
    for (const auto& [path, files] : known) layout_files.paths.push_back(path);
    layout = named_layout(where, layout_files, options.config);
  }
  DataFiles out;
  out.configs = layout.configs;
  out.delimiter = layout.delimiter;
  for (const LayoutSplit& split : layout.splits) out.splits.push_back(split.name);
  const bool any = options.split.empty() || options.split == "all";
  std::vector<std::string> chosen;
  if (any && layout.by_name) {
    chosen = layout_files.paths;  // Those that no split names as well.
  } else {
    try {
      chosen = split_files(layout, options.split);
    } catch (Error& error) {
      throw error.add_context(where);
    }
  }
  for (const std::string& path : chosen) {
    for (const DataFile& file : known.at(path)) out.files.push_back(file);
  }
  return out;
}

const DataFormat* find_format(const std::filesystem::path& path) {
  fs::path name = lower(path.filename().string());
  while (std::find(kCompressed.begin(), kCompressed.end(), name.extension().string()) !=
         kCompressed.end()) {
    name = name.stem();
  }
  const std::string extension = name.extension().string();
  const auto found = std::find_if(kFormats.begin(), kFormats.end(), [&](const DataFormat& format) {
    return format.extension == extension;
  });
  return found == kFormats.end() ? nullptr : &*found;
}

std::unique_ptr<RowReader> open_rows(const DataFile& file, const RowOptions& options) {
  if (file.format->open == nullptr) {
    if (!file.member.empty()) {
      throw_data("Parquet and Arrow files inside a zip archive are not read; unpack it first");
    }
    return open_columnar(file.path, options);
  }
  return file.format->open(
      file.member.empty() ? open_byte_stream(file.path) : open_zip_member(file.path, file.member),
      options);
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

DataFiles find_data_files(const DatasetOptions& options) {
  std::error_code error;
  const std::string& path = options.path;
  DataFiles out;
  const auto add = [&](const fs::path& file) {
    for (DataFile& each : named_file(file)) out.files.push_back(std::move(each));
  };
  if (!options.files.empty()) {
    for (const std::string& file : options.files) add(file);
    return out;
  }
  if (path.empty()) throw_usage("dataset: no path given");
  if (fs::is_directory(path, error)) return folder_files(path, options);
  const bool there = fs::exists(path, error);
  // A name that ends as a data file's does is meant as one.
  if (!there && is_repo_id(path) && find_format(path) == nullptr) {
    return hub_dataset_files(options);
  }
  if (!options.config.empty()) {
    throw_usage("dataset '", path, "': got configuration '", options.config,
                "'; a single file has none, folders and datasets from the Hub may");
  }
  if (there) {
    add(path);
    return out;
  }
  if (!has_glob(path)) throw_io("dataset '", path, "': no such file or folder");
  for (const fs::path& found : expand_glob(path)) {
    if (!fs::is_directory(found, error)) add(found);
  }
  if (out.files.empty()) throw_io("dataset '", path, "': no file matches");
  return out;
}

}  // namespace drrik
