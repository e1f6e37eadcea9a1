#pragma once
// safetensors: reading mapped files and sharded checkpoints, and writing.
//
// Layout: u64 little-endian header length N, N bytes of JSON, then the tensors' bytes without
// holes. Validation is the reference library's: see parse_safetensors.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/io/named_tensor.h"
#include "drrik/tensor/tensor.h"

namespace drrik {

/// One tensor as its file describes it.
struct SafetensorsEntry {
  std::string name;                 ///< Any UTF-8.
  std::string dtype_text;           ///< As written: "F32", "BF16", "F8_E8M0", …
  std::optional<DType> dtype;       ///< Nothing for a valid type that Tensor cannot hold.
  std::vector<std::int64_t> shape;  ///< Rank 0 and sizes of 0 are legal.
  std::uint64_t offset = 0;         ///< Bytes from the start of the file.
  std::uint64_t bytes = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  ///< By offset, then name.
  std::map<std::string, std::string> metadata;
};

/// Parses the header of a whole file in memory and checks it against the file's size: header at
/// most 100 MB, valid UTF-8 JSON starting with '{', no duplicate names, tensors back to back from
/// offset 0 to the end of the file, byte counts equal to shape × dtype without overflow.
/// Throws Error(data) naming the tensor. Does no I/O and no allocation beyond the header's size.
SafetensorsHeader parse_safetensors(std::span<const std::byte> file);

/// One mapped safetensors file. Const and safe to use from several threads.
class SafetensorsFile {
 public:
  /// Throws Error(io), or Error(data) starting with the path.
  static SafetensorsFile open(const std::filesystem::path& path);

  const std::vector<SafetensorsEntry>& entries() const { return header_.entries; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  const std::filesystem::path& path() const { return file_->path(); }
  bool contains(std::string_view name) const { return find_entry(name) != nullptr; }
  /// Null when absent.
  const SafetensorsEntry* find_entry(std::string_view name) const;
  /// Borrows the mapped bytes (nothing is copied; perhaps unaligned: Tensor::aligned()). Throws
  /// Error(data) when absent (with the nearest name) or of a type that Tensor cannot hold.
  Tensor get(std::string_view name) const;
  /// Nothing when absent; otherwise as get().
  std::optional<Tensor> find(std::string_view name) const;

 private:
  std::shared_ptr<const MappedFile> file_;
  SafetensorsHeader header_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

/// The tensors of a checkpoint, one file or many, under one roof. Const and safe to use from
/// several threads.
class SafetensorsIndex {
 public:
  /// `path` is a folder with `model.safetensors` or `model.safetensors.index.json` (the single
  /// file wins, as in the reference), or one of such files itself. Shard names must be plain file
  /// names beside the index. Every shard is opened and every name of the index looked up, so that
  /// an incomplete download is told at once. Throws Error(io); Error(data) naming shard and tensor.
  static SafetensorsIndex open(const std::filesystem::path& path);

  /// All names in ascending order.
  std::vector<std::string> names() const;
  bool contains(std::string_view name) const { return where_.find(name) != where_.end(); }
  const SafetensorsEntry* find_entry(std::string_view name) const;
  Tensor get(std::string_view name) const;
  std::optional<Tensor> find(std::string_view name) const;
  /// The file that holds `name`; throws Error(data) when absent.
  const std::filesystem::path& shard_of(std::string_view name) const;
  const std::vector<SafetensorsFile>& shards() const { return shards_; }
  /// Sum over all tensors.
  std::uint64_t total_bytes() const;

 private:
  [[noreturn]] void throw_absent(std::string_view name) const;
  std::filesystem::path path_;
  std::vector<SafetensorsFile> shards_;
  std::map<std::string, std::size_t, std::less<>> where_;  ///< name -> shard
};

/// The bytes are a function of the arguments alone, equal to those of the reference library's
/// writer (which, with several metadata entries, has no fixed order of its own; here they are
/// sorted). Atomic. Throws Error(io); Error(usage) for a repeated or reserved name, or for two
/// names with the same bytes in memory (tied tensors are written once, as the reference demands).
void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace drrik
