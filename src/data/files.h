#pragma once
// Which files a dataset is, and in which format.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "data/row_reader.h"

namespace drrik {

struct DataFormat {
  std::string_view extension;  ///< ".csv"; compression endings may follow in the file's name.
  std::string_view family;     ///< Formats that one folder's dataset may mix.
  RowOpener open;
  bool in_folders;  ///< Taken when a folder is read (notes and logs are not).
};

struct DataFile {
  std::filesystem::path path;
  const DataFormat* format;
};

/// Null when the name tells no format that is read.
const DataFormat* find_format(const std::filesystem::path& path);

/// The files of a dataset in order of reading: see DatasetOptions::path and ::split. Throws
/// Error(usage), Error(data).
std::vector<DataFile> find_data_files(const std::string& path, const std::string& split);

/// Paths that match a glob with * ? [] inside and ** for any depth, sorted.
std::vector<std::filesystem::path> expand_glob(const std::string& pattern);

}  // namespace drrik
