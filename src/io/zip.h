#pragma once
// ZIP archives, as .npz and PyTorch's files use them: entries stored or deflated, zip64 read and
// written. Every number of the archive is checked against its size before use.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/base/file.h"

namespace drrik {

struct ZipEntry {
  std::string name;
  std::uint16_t method = 0;  ///< 0 stored, 8 deflated.
  std::uint32_t crc = 0;
  std::uint64_t compressed_size = 0;
  std::uint64_t size = 0;
  std::uint64_t header_offset = 0;
};

/// The central directory of an archive in memory. The bytes must outlive the reader.
class ZipReader {
 public:
  /// Throws Error(data) for what is not a whole archive of one disk, is encrypted, names an entry
  /// twice, or has more than `max_entries`.
  explicit ZipReader(std::span<const std::byte> file, std::size_t max_entries = 1'000'000);

  const std::vector<ZipEntry>& entries() const { return entries_; }
  /// Null when absent. Logarithmic.
  const ZipEntry* find(std::string_view name) const;
  /// The entry's bytes as they lie in the archive. Throws Error(data).
  std::span<const std::byte> raw(const ZipEntry& entry) const;
  /// The entry's content, inflated if need be, its CRC-32 checked when asked. Throws Error(data).
  std::vector<std::byte> read(const ZipEntry& entry, bool check_crc = true) const;

 private:
  std::span<const std::byte> file_;
  std::vector<ZipEntry> entries_;
  std::vector<std::size_t> by_name_;
};

/// Writes stored entries to a file; finish() writes the directory and leaves commit() to the owner.
class ZipWriter {
 public:
  explicit ZipWriter(AtomicFile& file) : file_(file) {}
  /// The content starts at a multiple of `alignment` (a power of two) in the file.
  void add(std::string_view name, std::span<const std::byte> content, std::size_t alignment = 1);
  void finish();

 private:
  AtomicFile& file_;
  std::vector<ZipEntry> entries_;
};

}  // namespace drrik
