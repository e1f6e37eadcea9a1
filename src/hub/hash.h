#pragma once
// Checksums as the Hub names its files: sha256 of large ones, git's sha1 of small ones.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace drrik::hub {

enum class HashKind { kSha256, kGitSha1 };

/// What an etag of 64 or 40 hexadecimal digits is; nothing for others, which cannot be checked.
std::optional<HashKind> hash_kind(std::string_view etag);

class Hash {
 public:
  /// git's sha1 begins with the length, so that `bytes`, the whole of what follows, is needed.
  Hash(HashKind kind, std::uint64_t bytes);
  ~Hash();
  Hash(Hash&&) noexcept;
  Hash& operator=(Hash&&) noexcept;

  void update(std::span<const char> bytes);
  /// In lower-case hexadecimal digits. Ends the hash.
  std::string digest();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Feeds the first `bytes` of the open file; answers how many there were. Throws Error(io).
std::uint64_t hash_file(Hash& hash, int fd, std::uint64_t bytes, const std::filesystem::path& path);

/// The checksum of a whole file. Throws Error(io), Error(interrupted).
std::string file_digest(const std::filesystem::path& path, HashKind kind);

}  // namespace drrik::hub
