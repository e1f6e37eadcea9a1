#pragma once
// A dataset on the Hub as a list of files, each fetched when its rows are needed.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "data/files.h"

namespace drrik {

/// The files of options.path, a repository on the Hub: the Parquet files that the Hub made of it,
/// or, for another revision than main and where there are none, the repository's own. Throws
/// HubError; Error(data) naming the configurations or splits there are.
DataFiles hub_dataset_files(const DatasetOptions& options);

/// One configuration of GET /api/datasets/{id}/parquet.
struct ParquetConfig {
  std::string name;
  std::vector<std::pair<std::string, std::size_t>> splits;  ///< With their number of files.
};
/// Throws Error(data). A name that is no plain folder's name is refused.
std::vector<ParquetConfig> parse_parquet_list(std::string_view text, std::string_view what);

}  // namespace drrik
