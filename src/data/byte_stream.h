#pragma once
// Bytes of a file in order, decompressed on the way: memory does not depend on the file's size.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/base/file.h"

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

/// What a file's first bytes say it is.
enum class Magic {
  kNone,
  // Compressions.
  kGzip,
  kBzip2,
  kXz,
  kZstd,
  kLz4,
  kZip,
  // Binary formats.
  kParquet,
  kEncryptedParquet,
  kArrowFile,
  kArrowStream,
  kFeather1,
  kUtf16
};
/// At least this many bytes tell.
inline constexpr std::size_t kMagicBytes = 8;
Magic find_magic(std::span<const std::byte> head);
/// Opens the file and looks. Throws Error(io).
Magic find_magic(const std::filesystem::path& path);
bool is_compression(Magic magic);
/// "gzip", "Parquet", …
std::string_view magic_name(Magic magic);

enum class BinaryFormats {
  kRefuse,  ///< What is no text (Parquet, Arrow, UTF-16) is Error(data).
  kAllow
};

/// Opens a file, or undoes its compression, told by its first bytes: gzip, bzip2, xz, zstd and lz4
/// (several members or frames too), or a zip archive of one file. Throws Error(io), also for what
/// is no regular file; Error(data) naming the format.
std::unique_ptr<ByteStream> open_byte_stream(const std::filesystem::path& path,
                                             BinaryFormats binary = BinaryFormats::kRefuse);
/// The same for bytes in memory, which must outlive the stream.
std::unique_ptr<ByteStream> open_byte_stream(std::span<const std::byte> bytes,
                                             BinaryFormats binary = BinaryFormats::kRefuse);
/// One file of a zip archive, by its whole name inside.
std::unique_ptr<ByteStream> open_zip_member(const std::filesystem::path& path,
                                            const std::string& member);
/// Names of the files in a zip archive, in order of name; hidden ones and those of __folders left
/// out. Throws Error(io), Error(data).
std::vector<std::string> zip_members(const std::filesystem::path& path);

/// Says what the stream's first bytes are; the stream returned still begins with them.
std::unique_ptr<ByteStream> look_inside(std::unique_ptr<ByteStream> stream, Magic& magic);

/// Opens for reading what must be a regular file: a pipe would wait for a writer, a device never
/// end. Throws Error(io).
UniqueFd open_regular_file(const std::filesystem::path& path);

}  // namespace drrik
