#pragma once
// Bytes of a file in order, decompressed on the way: memory does not depend on the file's size.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace drrik {

class ByteStream {
 public:
  virtual ~ByteStream() = default;
  /// Fills a part of `to` (not empty) and returns its size; 0 only at the end. Throws Error(io),
  /// Error(data) for damaged compressed data.
  virtual std::size_t read(std::span<char> to) = 0;
  /// Bytes taken from the underlying file so far (compressed ones).
  virtual std::uint64_t consumed() const = 0;
};

/// Opens a file, or undoes gzip (several members too) or zstd when it begins so. Throws Error(io);
/// Error(data) naming the format for compressions and binary formats that are not read.
std::unique_ptr<ByteStream> open_byte_stream(const std::filesystem::path& path);
/// The same for bytes in memory, which must outlive the stream.
std::unique_ptr<ByteStream> open_byte_stream(std::span<const std::byte> bytes);

}  // namespace drrik
