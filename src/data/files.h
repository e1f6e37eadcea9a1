#pragma once
// Which files a dataset is, and in which format.

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/layout.h"
#include "data/row_reader.h"

namespace drrik {

struct DataFormat {
  std::string_view extension;  ///< ".csv"; compression endings may follow in the file's name.
  std::string_view family;     ///< Formats that one folder's dataset may mix.
  RowOpener open;              ///< Null: read by open_columnar().
  bool in_folders;             ///< Taken when a folder is read (notes and logs are not).
};

struct DataFile {
  std::filesystem::path path;
  const DataFormat* format;
  std::string member;  ///< The file inside a zip archive; empty: the file itself.
  /// Of a file on the Hub: fetches it and says where it is; `path` is its address until then.
  std::function<std::filesystem::path()> fetch = nullptr;
  std::uint64_t bytes = 0;  ///< Of a file still to be fetched; 0 when unknown.

  /// Has to be called before the file is opened.
  void bring() {
    if (fetch) path = std::exchange(fetch, nullptr)();
  }

  std::string name() const { return path.string() + (member.empty() ? "" : "/" + member); }
};

struct DataFiles {
  std::vector<DataFile> files;  ///< In order of reading.
  std::vector<std::string> configs;
  std::vector<std::string> splits;
  char delimiter = 0;  ///< Of CSV, where the dataset's README.md names one.
};

/// Null when the name tells no format that is read.
const DataFormat* find_format(const std::filesystem::path& path);

/// The files of a dataset: see DatasetOptions. Throws Error(usage), Error(data), Error(io).
DataFiles find_data_files(const DatasetOptions& options);

/// The files of one split out of those that a folder or repository has (by relative path), as
/// HuggingFace `datasets` takes them. `where` names it in errors; `files.paths` is filled in here.
/// Throws Error(data).
DataFiles arrange_files(const std::string& where,
                        std::map<std::string, std::vector<DataFile>> known, LayoutFiles files,
                        const DatasetOptions& options);

/// Whether a file of this name lies beside a dataset's data and is none of it.
bool beside_data(const std::string& name);

/// The file, or those in a zip archive, by their names there. Nothing when no format is known.
std::vector<DataFile> classify_file(const std::filesystem::path& path);

/// Opens one of them. Throws Error(data), Error(io).
std::unique_ptr<RowReader> open_rows(const DataFile& file, const RowOptions& options);

/// Paths that match a glob with * ? [] inside and ** for any depth, sorted.
std::vector<std::filesystem::path> expand_glob(const std::string& pattern);

}  // namespace drrik
