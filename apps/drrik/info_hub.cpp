// drrik info: what the headers of safetensors files on the Hub say of a model's weights.

#include <algorithm>
#include <span>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/hub/client.h"
#include "drrik/io/safetensors.h"
#include "hub/api.h"
#include "hub/transfer.h"
#include "info.h"

namespace drrik::cli {
namespace {

// Most headers are shorter than this, so that one request is enough.
constexpr std::size_t kFirst = std::size_t{64} << 10;
// A header has some hundred bytes a tensor; all shards' together stay below this by far.
constexpr std::uint64_t kMaxHeader = std::uint64_t{16} << 20;
constexpr std::size_t kMaxShards = 1000;
constexpr std::uint64_t kMaxIndex = std::uint64_t{64} << 20;

SafetensorsHeader read_header(const HubClient& client, const Repo& repo, const RepoFile& file) {
  try {
    std::string start = client.read_start(repo, file.path, kFirst);
    const auto bytes = [&] { return std::as_bytes(std::span(start)); };
    const std::uint64_t end = safetensors_header_end(bytes());
    if (end > kMaxHeader) throw_data("a header of ", end, " bytes; at most ", kMaxHeader);
    if (end > start.size()) {
      start = client.read_start(repo, file.path, static_cast<std::size_t>(end));
    }
    return parse_safetensors(bytes(), file.bytes);
  } catch (Error& error) {
    error.add_context(file.path);
    throw;
  }
}

}  // namespace

StoredWeights remote_weights(const std::string& id) {
  const HubClient client;
  Repo repo{.id = id};
  const RepoListing listing = client.list_files(repo);
  // All from one commit, whatever is pushed in the meantime.
  repo.revision = listing.commit;
  const auto find = [&](const std::string& path) -> const RepoFile* {
    const auto found = std::ranges::find(listing.files, path, &RepoFile::path);
    return found == listing.files.end() ? nullptr : &*found;
  };
  StoredWeights out;
  for (const char* name : {"model.safetensors", "pytorch_model.bin"}) {
    const std::string index = str(name, ".index.json");
    if (find(name) != nullptr) {
      out.files = {name};
    } else if (find(index) != nullptr) {
      const std::filesystem::path path = client.download_file(repo, index);
      out.files = hub::parse_weight_index(read_file(path, kMaxIndex), path.string());
    }
    if (out.files.empty()) continue;
    out.safetensors = std::string_view(name) == "model.safetensors";
    break;
  }
  if (out.files.empty()) throw_io(repo.text(), " has no weights that can be read");
  if (out.files.size() > kMaxShards) throw_data(out.files.size(), " shards; at most ", kMaxShards);
  std::vector<RepoFile> shards;
  for (const std::string& name : out.files) {
    const RepoFile* file = find(name);
    if (file == nullptr) throw_data("its index names '", name, "', which is not there");
    shards.push_back(*file);
  }
  if (!out.safetensors) {
    // A PyTorch file's list of tensors stands at its end.
    for (const RepoFile& file : shards) out.bytes += file.bytes;
    return out;
  }
  std::vector<SafetensorsHeader> headers(shards.size());
  hub::for_each_parallel(shards.size(), client.options().workers,
                         [&](std::size_t i) { headers[i] = read_header(client, repo, shards[i]); });
  for (const SafetensorsHeader& header : headers) {
    out.tensors += header.entries.size();
    for (const SafetensorsEntry& entry : header.entries) {
      out.bytes += entry.bytes;
      out.bytes_by_type[std::string(entry.dtype ? dtype_name(*entry.dtype) : entry.dtype_text)] +=
          entry.bytes;
      if (entry.dtype && is_floating(*entry.dtype)) out.parameters += shape_elements(entry.shape);
    }
  }
  return out;
}

}  // namespace drrik::cli
