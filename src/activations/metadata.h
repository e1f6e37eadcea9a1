#pragma once
// metadata.json of an activation folder: structure, reading, writing.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/activations/store.h"
#include "io/json.h"

namespace drrik::detail {

inline constexpr const char* kMetadataFile = "metadata.json";
inline constexpr const char* kSingleFile = "activations.npy";

/// One array of a store and the samples whose rows it holds.
struct StoreFile {
  std::string file;          ///< Name inside the folder.
  std::string samples_file;  ///< Name of its samples' JSON lines; "" when they are inline.
  std::int64_t rows = 0;
  std::int64_t samples = 0;
  bool full = true;  ///< False when an interruption closed it early: resume rewrites it.
  ActivationWriter::Progress end;  ///< Where the extraction stood after its last sample.
};

struct StoreHead {
  ActivationMetadata metadata;  ///< Without samples.
  std::vector<StoreFile> files;
};

using SampleSink = std::function<void(SampleRecord)>;

/// What std::filesystem answers, its failures as Error(io) naming the path.
bool path_exists(const std::filesystem::path& path);
std::uint64_t file_bytes(const std::filesystem::path& path);

/// Reads and checks metadata.json; samples go to `sink` in order of rows when it is set, from
/// wherever the store keeps them, and fit their tokens. Rows that were saved without samples give
/// none. Throws Error(io), Error(data), the latter also after samples were handed out.
StoreHead read_store(const std::filesystem::path& folder, const SampleSink& sink = {});

/// Whether metadata.json is JSON that says it is a store's, of whatever version. Throws Error(io).
bool is_own_metadata(const std::filesystem::path& folder);

/// The configuration as JSON, with the described names.
Json config_to_json(const ExtractorOptions& options);

/// metadata.json up to its samples: an object whose closing brace was left out.
std::string head_text(const StoreHead& head);

/// One sample as a line of JSON without its newline.
std::string sample_line(const SampleRecord& sample);
SampleRecord parse_sample(const Json& json, std::string_view what);

/// What is wrong between a sample's rows and its tokens; "" when nothing is.
std::string sample_contradiction(const SampleRecord& sample, Positions positions);

/// "activations-00003.npy", "samples-00003.jsonl".
std::string shard_name(std::int64_t number);
std::string samples_name(std::int64_t number);
/// Whether a file name is one that a store's writer makes, temporary ones included.
bool is_store_file(std::string_view name);
/// The files of a folder that have such names, in order. Throws Error(io).
std::vector<std::filesystem::path> store_files(const std::filesystem::path& folder);

}  // namespace drrik::detail
