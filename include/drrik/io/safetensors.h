#pragma once
// safetensors: reading mapped files, and writing. Checkpoints of several files: weight_files.h.
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
  std::string_view dtype_text;      ///< As written: "F32", "BF16", "F8_E8M0", …; never dangles.
  std::optional<DType> dtype;       ///< Nothing for a valid type that Tensor cannot hold.
  std::vector<std::int64_t> shape;  ///< Rank 0 and sizes of 0 are legal.
  std::uint64_t offset = 0;         ///< Bytes from the start of the file.
  std::uint64_t bytes = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  ///< By offset, then name.
  std::vector<std::uint32_t> by_name;     ///< Positions in `entries`, names ascending.
  std::map<std::string, std::string> metadata;

  /// Null when absent. Logarithmic.
  const SafetensorsEntry* find(std::string_view name) const;
};

/// Parses the header of a whole file in memory and checks it against the file's size: header at
/// most 100 MB, valid UTF-8 JSON starting with '{', no duplicate names, tensors back to back from
/// offset 0 to the end of the file, byte counts equal to shape × dtype without overflow; at most 64
/// axes. Throws Error(data) naming the tensor. Does no I/O; what it allocates is what it returns, a
/// small multiple of the header's size.
SafetensorsHeader parse_safetensors(std::span<const std::byte> file);
/// The same from a file's first bytes, which hold the whole header, and its size.
SafetensorsHeader parse_safetensors(std::span<const std::byte> start, std::uint64_t file_bytes);
/// Where the header ends, from a file's first 8 bytes (and what follows, of use when it is none).
/// Throws Error(data) as parse_safetensors().
std::uint64_t safetensors_header_end(std::span<const std::byte> start);

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
  const SafetensorsEntry* find_entry(std::string_view name) const { return header_.find(name); }
  /// Borrows the mapped bytes (nothing is copied; perhaps unaligned: Tensor::aligned()). Throws
  /// Error(data) when absent (with the nearest name) or of a type that Tensor cannot hold.
  Tensor get(std::string_view name) const;
  /// Nothing when absent; otherwise as get().
  std::optional<Tensor> find(std::string_view name) const;

 private:
  std::shared_ptr<const MappedFile> file_;
  SafetensorsHeader header_;
};

/// The bytes are a function of the arguments alone, equal to those of the reference library's
/// writer (which, with several metadata entries, has no fixed order of its own; here they are
/// sorted). Atomic. Throws Error(io); Error(usage) for a repeated or reserved name, or for two
/// names with the same bytes in memory (tied tensors are written once, as the reference demands).
void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace drrik
