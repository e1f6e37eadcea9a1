#include "hub/hash.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/interrupt.h"

namespace drrik::hub {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 20;

std::string reason() { return std::error_code(errno, std::generic_category()).message(); }

}  // namespace

std::optional<HashKind> hash_kind(std::string_view etag) {
  const bool hex = std::ranges::all_of(
      etag, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (!hex) return std::nullopt;
  if (etag.size() == 64) return HashKind::kSha256;
  if (etag.size() == 40) return HashKind::kGitSha1;
  return std::nullopt;
}

struct Hash::Impl {
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context{EVP_MD_CTX_new(), EVP_MD_CTX_free};
};

Hash::Hash(HashKind kind, std::uint64_t bytes) : impl_(std::make_unique<Impl>()) {
  const EVP_MD* method = kind == HashKind::kSha256 ? EVP_sha256() : EVP_sha1();
  if (impl_->context == nullptr || EVP_DigestInit_ex(impl_->context.get(), method, nullptr) != 1) {
    throw_io("OpenSSL offers no ", kind == HashKind::kSha256 ? "sha256" : "sha1");
  }
  if (kind == HashKind::kGitSha1) {
    std::string header = str("blob ", bytes);
    header += '\0';
    update(header);
  }
}
Hash::~Hash() = default;
Hash::Hash(Hash&&) noexcept = default;
Hash& Hash::operator=(Hash&&) noexcept = default;

void Hash::update(std::span<const char> bytes) {
  if (EVP_DigestUpdate(impl_->context.get(), bytes.data(), bytes.size()) != 1) {
    throw_io("OpenSSL failed to compute a checksum");
  }
}

std::string Hash::digest() {
  unsigned char raw[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (EVP_DigestFinal_ex(impl_->context.get(), raw, &size) != 1) {
    throw_io("OpenSSL failed to compute a checksum");
  }
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (unsigned i = 0; i < size; ++i) {
    out += kHex[raw[i] >> 4U];
    out += kHex[raw[i] & 15U];
  }
  return out;
}

std::uint64_t hash_file(Hash& hash, int fd, std::uint64_t bytes,
                        const std::filesystem::path& path) {
  std::vector<char> buffer(kChunk);
  std::uint64_t done = 0;
  while (done < bytes) {
    check_interrupt("computing a checksum");
    const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, bytes - done));
    const ssize_t n = ::pread(fd, buffer.data(), want, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_io("cannot read '", path.string(), "': ", reason());
    if (n == 0) break;
    hash.update(std::span(buffer.data(), static_cast<std::size_t>(n)));
    done += static_cast<std::uint64_t>(n);
  }
  return done;
}

std::string file_digest(const std::filesystem::path& path, HashKind kind) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (fd.get() < 0 || fstat(fd.get(), &status) != 0) {
    throw_io("cannot read '", path.string(), "': ", reason());
  }
  const auto bytes = static_cast<std::uint64_t>(status.st_size);
  Hash hash(kind, bytes);
  hash_file(hash, fd.get(), bytes, path);
  return hash.digest();
}

}  // namespace drrik::hub
