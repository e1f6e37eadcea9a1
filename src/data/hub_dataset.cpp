#include "data/hub_dataset.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <set>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "drrik/hub/client.h"
#include "io/json.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr const char* kExport = "refs/convert/parquet";
constexpr std::size_t kMaxShards = 100'000;
constexpr std::uint64_t kMaxReadme = std::uint64_t{16} << 20;

// A folder's name on the branch of Parquet files.
bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         std::ranges::none_of(name, [](char c) {
           return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20;
         });
}

// The files of one dataset, at one commit.
class HubDataset {
 public:
  explicit HubDataset(const DatasetOptions& options)
      : options_(options),
        client_(std::make_shared<const HubClient>()),
        repo_{RepoType::kDataset, options.path, options.revision} {}

  DataFiles files() {
    // Of another revision the Hub has made none; an old one would be the wrong one.
    if (options_.revision == "main") {
      if (auto exported = exported_files()) return *std::move(exported);
    }
    return own_files();
  }

 private:
  DataFile file_of(const Repo& at, const std::string& path, std::uint64_t bytes,
                   const DataFormat* format) const {
    DataFile file{"hf://datasets/" + at.id + "/" + path, format, {}};
    file.bytes = bytes;
    file.fetch = [client = client_, at, path] { return client->download_file(at, path); };
    return file;
  }

  // The export's configurations; nothing when there is no export that can be used.
  std::optional<std::vector<ParquetConfig>> export_list() const {
    try {
      const std::string what = "the Hub's list of Parquet files of " + repo_.text();
      auto list =
          parse_parquet_list(client_->get("/api/datasets/" + repo_.id + "/parquet", repo_), what);
      if (!list.empty()) return list;
    } catch (const HubError& error) {
      if (error.failure() == HubFailure::kOffline) return std::nullopt;
      log_debug("no Parquet files of ", repo_.text(), ": ", error.what());
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::kInterrupted) throw;
      log_debug("no Parquet files of ", repo_.text(), ": ", error.what());
    }
    return std::nullopt;
  }

  std::optional<RepoListing> export_tree() const {
    try {
      return client_->list_files({RepoType::kDataset, repo_.id, kExport});
    } catch (const HubError& error) {
      log_debug("no list of Parquet files of ", repo_.text(), ": ", error.what());
    }
    return std::nullopt;
  }

  // What the branch's folders say, where the Hub cannot be asked.
  static std::vector<ParquetConfig> list_of(const RepoListing& tree) {
    std::vector<ParquetConfig> list;
    for (const RepoFile& file : tree.files) {
      const std::size_t first = file.path.find('/');
      const std::size_t second = file.path.find('/', first + 1);
      if (first == std::string::npos || second == std::string::npos) continue;
      if (!file.path.ends_with(".parquet")) continue;
      const std::string config = file.path.substr(0, first);
      const std::string split = file.path.substr(first + 1, second - first - 1);
      if (list.empty() || list.back().name != config) list.push_back({config, {}});
      auto& splits = list.back().splits;
      if (splits.empty() || splits.back().first != split) splits.emplace_back(split, 0);
      ++splits.back().second;
    }
    return list;
  }

  std::optional<DataFiles> exported_files() {
    auto list = export_list();
    if (!list && !client_->options().offline) return std::nullopt;
    const auto tree = export_tree();
    if (!list && tree) list = list_of(*tree);
    if (!list || list->empty()) return std::nullopt;
    const ParquetConfig* chosen = choose_config(*list);
    if (chosen == nullptr) return std::nullopt;
    const ParquetConfig& config = *chosen;
    Layout layout;
    for (const auto& [split, shards] : config.splits) {
      LayoutSplit& made = layout.splits.emplace_back(LayoutSplit{split, {}});
      for (std::size_t i = 0; i < shards; ++i) {
        char name[32];
        std::snprintf(name, sizeof name, "%04zu.parquet", i);
        made.files.push_back(config.name + "/" + split + "/" + name);
      }
    }
    sort_splits(layout.splits);
    DataFiles out;
    for (const ParquetConfig& each : *list) out.configs.push_back(each.name);
    for (const LayoutSplit& split : layout.splits) out.splits.push_back(split.name);
    Repo at{RepoType::kDataset, repo_.id, tree ? tree->commit : kExport};
    const DataFormat* parquet = find_format("x.parquet");
    for (const std::string& path : files_of_split(layout)) {
      const auto found = tree ? find(tree->files, path) : std::nullopt;
      // Only a part of a large dataset is converted, under another name ("partial-train").
      if (tree && !found) {
        log_info(repo_.text(), ": the Parquet files are not complete; reading its own files");
        return std::nullopt;
      }
      out.files.push_back(file_of(at, path, found.value_or(0), parquet));
    }
    return out;
  }

  // Null when only the repository's own files have the one that is asked for.
  const ParquetConfig* choose_config(const std::vector<ParquetConfig>& list) {
    std::string wanted = options_.config;
    if (wanted.empty() && list.size() == 1) return &list.front();
    const auto named = [&](const std::string& name) {
      return std::ranges::find(list, name, &ParquetConfig::name);
    };
    if (wanted.empty()) wanted = readme_config();
    if (wanted.empty()) wanted = "default";
    if (const auto found = named(wanted); found != list.end()) return &*found;
    std::vector<std::string> names;
    names.reserve(list.size());
    for (const ParquetConfig& config : list) names.push_back(config.name);
    if (options_.config.empty()) {
      throw_data("dataset '", repo_.id,
                 "' has several configurations; --dataset-config names one of ", join(names));
    }
    if (readme_config() == wanted) return nullptr;
    throw_data("dataset '", repo_.id, "' has no configuration '", wanted, "'; there are ",
               join(names), did_you_mean(wanted, names));
  }

  // The configuration of README.md that is asked for, or that is the default one.
  std::string readme_config() {
    try {
      return own_layout(own_candidates()).config;
    } catch (const HubError& error) {
      log_debug(error.what());
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::kInterrupted) throw;
      log_debug(error.what());  // several and no default: our own list is the better message
    }
    return "";
  }

  struct Candidates {
    Repo at;
    std::map<std::string, std::vector<DataFile>> files;
    LayoutFiles names;
    std::set<std::string> others;  ///< Endings of files in formats that are not read.
  };

  Candidates own_candidates() {
    const RepoListing listing = client_->list_files(repo_);
    Candidates out;
    out.at = {RepoType::kDataset, repo_.id, listing.commit};
    for (const RepoFile& file : listing.files) {
      const fs::path path = file.path;
      const std::string name = path.filename().string();
      if (file.path == "README.md") out.names.readme = text_of(out.at, file.path);
      if (file.path == ".huggingface.yaml") {
        out.names.huggingface_yaml = text_of(out.at, file.path);
      }
      if (beside_data(name) || is_hidden(path)) continue;
      const DataFormat* format = find_format(path);
      if (format == nullptr && path.extension() == ".zip") {
        // What is inside only the archive itself tells; it is fetched for that.
        auto inside = classify_file(client_->download_file(out.at, file.path));
        if (!inside.empty()) out.files.emplace(file.path, std::move(inside));
      } else if (format == nullptr) {
        out.others.insert(path.extension().string());
      } else if (format->in_folders) {
        out.files[file.path].push_back(file_of(out.at, file.path, file.bytes, format));
      }
    }
    return out;
  }

  Layout own_layout(Candidates candidates) const {
    for (const auto& [path, files] : candidates.files) candidates.names.paths.push_back(path);
    return resolve_layout(candidates.names, options_.config);
  }

  DataFiles own_files() {
    Candidates candidates = own_candidates();
    if (candidates.files.empty()) {
      candidates.others.erase("");
      const std::vector<std::string> others(candidates.others.begin(), candidates.others.end());
      throw_data("dataset '", repo_.id, "' holds no data files that are read",
                 others.empty() ? "" : "; it has " + join(others));
    }
    return arrange_files("dataset '" + repo_.id + "'", std::move(candidates.files),
                         std::move(candidates.names), options_);
  }

  std::string text_of(const Repo& at, const std::string& path) const {
    return read_file(client_->download_file(at, path), kMaxReadme);
  }

  static bool is_hidden(const fs::path& path) {
    return std::ranges::any_of(path, [](const fs::path& part) {
      const std::string name = part.string();
      return name.starts_with(".") || name.starts_with("__");
    });
  }

  static std::optional<std::uint64_t> find(const std::vector<RepoFile>& files,
                                           const std::string& path) {
    const auto found = std::ranges::lower_bound(files, path, {}, &RepoFile::path);
    if (found == files.end() || found->path != path) return std::nullopt;
    return found->bytes;
  }

  // As `datasets` has them: train, validation, test, then the others as they come.
  static void sort_splits(std::vector<LayoutSplit>& splits) {
    std::ranges::stable_sort(splits, {}, [](const LayoutSplit& split) {
      return split.name == "train"        ? 0
             : split.name == "validation" ? 1
             : split.name == "test"       ? 2
                                          : 3;
    });
  }

  std::vector<std::string> files_of_split(const Layout& layout) const {
    try {
      return split_files(layout, options_.split);
    } catch (Error& error) {
      throw error.add_context("dataset '" + repo_.id + "'");
    }
  }

  const DatasetOptions& options_;
  std::shared_ptr<const HubClient> client_;
  Repo repo_;
};

}  // namespace

DataFiles hub_dataset_files(const DatasetOptions& options) {
  try {
    return HubDataset(options).files();
  } catch (HubError& error) {
    error.add_context("dataset '" + options.path +
                      "' is no local file or folder, and from the Hub");
    throw;
  }
}

std::vector<ParquetConfig> parse_parquet_list(std::string_view text, std::string_view what) {
  const Json json = parse_json(text, what, {.max_depth = 8});
  std::vector<ParquetConfig> list;
  std::size_t shards = 0;
  const auto check = [&](const std::string& name) {
    if (!is_name(name)) throw_data(what, ": '", name.substr(0, 100), "' is no name");
  };
  for (const auto& [config, splits] : expect_object(json, what).items()) {
    check(config);
    ParquetConfig& made = list.emplace_back(ParquetConfig{config, {}});
    for (const auto& [split, urls] : expect_object(splits, what).items()) {
      check(split);
      const std::size_t n = expect_array(urls, what).size();
      shards += n;
      if (shards > kMaxShards) throw_data(what, ": more than ", kMaxShards, " files");
      if (n > 0) made.splits.emplace_back(split, n);
    }
    if (made.splits.empty()) list.pop_back();
  }
  return list;
}

}  // namespace drrik
