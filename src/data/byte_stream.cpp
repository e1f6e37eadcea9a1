#include "data/byte_stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "data/decompress.h"
#include "drrik/base/error.h"
#include "io/zip.h"

namespace drrik {
namespace {

constexpr std::size_t kMaxZipEntries = 1'000'000;
constexpr std::uint16_t kStored = 0;
constexpr std::uint16_t kDeflated = 8;

std::string system_message() { return std::error_code(errno, std::generic_category()).message(); }

class FileStream final : public ByteStream {
 public:
  explicit FileStream(const std::filesystem::path& path)
      : path_(path), fd_(open_regular_file(path)) {
    // Advice only: rows are read once, from front to back.
    posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  }
  std::size_t read(std::span<char> to) override {
    for (;;) {
      const ssize_t n = ::read(fd_.get(), to.data(), to.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw_io("cannot read '", path_.string(), "': ", system_message());
      consumed_ += static_cast<std::uint64_t>(n);
      return static_cast<std::size_t>(n);
    }
  }
  std::uint64_t consumed() const override { return consumed_; }

 private:
  std::filesystem::path path_;
  UniqueFd fd_;
  std::uint64_t consumed_ = 0;
};

class MemoryStream final : public ByteStream {
 public:
  explicit MemoryStream(std::span<const std::byte> bytes,
                        std::shared_ptr<const MappedFile> owner = nullptr)
      : bytes_(bytes), owner_(std::move(owner)) {}
  std::size_t read(std::span<char> to) override {
    const std::size_t n = std::min(to.size(), bytes_.size() - at_);
    if (n > 0) std::memcpy(to.data(), bytes_.data() + at_, n);
    at_ += n;
    return n;
  }
  std::uint64_t consumed() const override { return at_; }

 private:
  std::span<const std::byte> bytes_;
  std::shared_ptr<const MappedFile> owner_;
  std::size_t at_ = 0;
};

// The bytes looked at to tell the format, then the rest.
class RejoinedStream final : public ByteStream {
 public:
  RejoinedStream(std::string head, std::unique_ptr<ByteStream> rest)
      : head_(std::move(head)), rest_(std::move(rest)) {}
  std::size_t read(std::span<char> to) override {
    if (at_ == head_.size()) return rest_->read(to);
    const std::size_t n = std::min(to.size(), head_.size() - at_);
    std::memcpy(to.data(), head_.data() + at_, n);
    at_ += n;
    return n;
  }
  std::uint64_t consumed() const override {
    // Of a compressed file, what the head took is not known; its beginning is near enough.
    const std::uint64_t rest = rest_->consumed();
    return rest - std::min<std::uint64_t>(rest, head_.size() - at_);
  }

 private:
  std::string head_;
  std::size_t at_ = 0;
  std::unique_ptr<ByteStream> rest_;
};

struct Known {
  Magic magic;
  std::string_view bytes;
  std::string_view name;
};
constexpr std::array<Known, 14> kKnown = {{
    {Magic::kGzip, "\x1f\x8b", "gzip"},
    {Magic::kBzip2, "BZh", "bzip2"},
    {Magic::kXz,
     std::string_view("\xFD"
                      "7zXZ\0",
                      6),
     "xz"},
    {Magic::kZstd, "\x28\xB5\x2F\xFD", "zstd"},
    {Magic::kLz4, "\x04\x22\x4D\x18", "lz4"},
    {Magic::kZip, "PK\x03\x04", "zip"},
    {Magic::kZip, "PK\x05\x06", "zip"},  // An empty one.
    {Magic::kParquet, "PAR1", "Parquet"},
    {Magic::kEncryptedParquet, "PARE", "encrypted Parquet"},
    {Magic::kArrowFile, "ARROW1", "Arrow"},
    {Magic::kArrowStream, "\xFF\xFF\xFF\xFF", "Arrow stream"},
    {Magic::kFeather1, "FEA1", "Feather version 1"},
    {Magic::kUtf16, "\xFF\xFE", "UTF-16 text"},
    {Magic::kUtf16, "\xFE\xFF", "UTF-16 text"},
}};

// Streams from before Arrow 0.15 begin with the length of a schema message, which is a multiple of
// 8 less 4, and the offset of its root: four bytes no text has.
bool old_arrow_stream(std::string_view head) {
  std::uint32_t length = 0;
  std::uint32_t root = 0;
  if (head.size() < 8) return false;
  std::memcpy(&length, head.data(), 4);
  std::memcpy(&root, head.data() + 4, 4);
  return length >= 16 && length < (1U << 24) && root >= 4 && root < 64 && root % 2 == 0;
}

bool begins_bzip2(std::string_view head) {
  if (head.size() < 8 || head[3] < '1' || head[3] > '9') return false;
  const std::string_view mark = head.substr(4, 4);
  return mark == "1AY&" || mark == "\x17\x72\x45\x38";  // A block, or none: an empty file.
}

std::string read_head(ByteStream& stream) {
  std::string head(kMagicBytes, '\0');
  std::size_t size = 0;
  while (size < head.size()) {
    const std::size_t n = stream.read(std::span(head).subspan(size));
    if (n == 0) break;
    size += n;
  }
  head.resize(size);
  return head;
}

void refuse_binary(Magic magic) {
  if (magic == Magic::kNone || is_compression(magic)) return;
  throw_data("the file is ", magic_name(magic), ", wanted plain UTF-8, perhaps compressed",
             magic == Magic::kParquet                                     ? "; name it .parquet"
             : magic == Magic::kArrowFile || magic == Magic::kArrowStream ? "; name it .arrow"
                                                                          : "");
}

bool hidden_member(std::string_view name) {
  for (std::size_t at = 0; at < name.size();) {
    const std::size_t slash = std::min(name.find('/', at), name.size());
    const std::string_view part = name.substr(at, slash - at);
    if (part.empty() || part[0] == '.' || part.substr(0, 2) == "__") return true;
    at = slash + 1;
  }
  return name.empty() || name.back() == '/';
}

std::vector<std::string> members_of(const ZipReader& zip) {
  std::vector<std::string> names;
  for (const ZipEntry& entry : zip.entries()) {
    if (!hidden_member(entry.name)) names.push_back(entry.name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::unique_ptr<ByteStream> open_member(std::span<const std::byte> bytes,
                                        std::shared_ptr<const MappedFile> owner,
                                        const std::string* wanted) {
  const ZipReader zip(bytes, kMaxZipEntries);
  const std::vector<std::string> names = members_of(zip);
  if (wanted == nullptr && names.size() != 1) {
    throw_data("a zip archive of ", names.size(), " files, wanted one",
               names.empty() ? "" : "; name the archive .zip and its files after their formats");
  }
  const ZipEntry* entry = zip.find(wanted == nullptr ? names.front() : *wanted);
  if (entry == nullptr) throw_data("zip: no file '", *wanted, "' in the archive");
  if (entry->method != kStored && entry->method != kDeflated) {
    throw_data("zip: '", entry->name, "' has compression method ", entry->method,
               "; read are stored and deflated files");
  }
  return inflate_member(std::make_unique<MemoryStream>(zip.raw(*entry), std::move(owner)),
                        entry->method == kDeflated, entry->crc, entry->size);
}

std::shared_ptr<const MappedFile> map(const std::filesystem::path& path) {
  open_regular_file(path);
  return MappedFile::open(path);
}

std::unique_ptr<ByteStream> decode(std::unique_ptr<ByteStream> raw, Magic magic,
                                   BinaryFormats binary) {
  if (binary == BinaryFormats::kRefuse) refuse_binary(magic);
  if (!is_compression(magic)) return raw;
  auto stream = decompress(magic, std::move(raw));
  if (binary == BinaryFormats::kAllow) return stream;
  Magic inside = Magic::kNone;
  stream = look_inside(std::move(stream), inside);
  refuse_binary(inside);
  return stream;
}

}  // namespace

Magic find_magic(std::span<const std::byte> head) {
  const std::string_view text(reinterpret_cast<const char*>(head.data()),
                              std::min(head.size(), kMagicBytes));
  for (const Known& known : kKnown) {
    if (text.substr(0, known.bytes.size()) != known.bytes) continue;
    // A text may begin with the three letters; level and block mark follow them in a file.
    if (known.magic == Magic::kBzip2 && !begins_bzip2(text)) continue;
    return known.magic;
  }
  return old_arrow_stream(text) ? Magic::kArrowStream : Magic::kNone;
}

Magic find_magic(const std::filesystem::path& path) {
  FileStream file(path);
  const std::string head = read_head(file);
  return find_magic(std::as_bytes(std::span(head)));
}

bool is_compression(Magic magic) { return magic >= Magic::kGzip && magic <= Magic::kZip; }

std::string_view magic_name(Magic magic) {
  const auto found = std::find_if(kKnown.begin(), kKnown.end(),
                                  [&](const Known& known) { return known.magic == magic; });
  return found == kKnown.end() ? "plain" : found->name;
}

std::unique_ptr<ByteStream> look_inside(std::unique_ptr<ByteStream> stream, Magic& magic) {
  std::string head = read_head(*stream);
  magic = find_magic(std::as_bytes(std::span(head)));
  return std::make_unique<RejoinedStream>(std::move(head), std::move(stream));
}

std::unique_ptr<ByteStream> open_byte_stream(const std::filesystem::path& path,
                                             BinaryFormats binary) {
  Magic magic = Magic::kNone;
  auto stream = look_inside(std::make_unique<FileStream>(path), magic);
  if (magic == Magic::kZip) {
    const auto file = map(path);
    return open_member(file->bytes(), file, nullptr);
  }
  return decode(std::move(stream), magic, binary);
}

std::unique_ptr<ByteStream> open_byte_stream(std::span<const std::byte> bytes,
                                             BinaryFormats binary) {
  const Magic magic = find_magic(bytes);
  if (magic == Magic::kZip) return open_member(bytes, nullptr, nullptr);
  return decode(std::make_unique<MemoryStream>(bytes), magic, binary);
}

std::unique_ptr<ByteStream> open_zip_member(const std::filesystem::path& path,
                                            const std::string& member) {
  const auto file = map(path);
  Magic magic = Magic::kNone;
  auto stream = look_inside(open_member(file->bytes(), file, &member), magic);
  if (magic == Magic::kZip) throw_data("zip: '", member, "' is an archive again; unpack it first");
  return decode(std::move(stream), magic, BinaryFormats::kRefuse);
}

std::vector<std::string> zip_members(const std::filesystem::path& path) {
  return members_of(ZipReader(map(path)->bytes(), kMaxZipEntries));
}

UniqueFd open_regular_file(const std::filesystem::path& path) {
  // Not to wait for a pipe's writer; no effect on regular files.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (fd.get() < 0 || fstat(fd.get(), &status) != 0) {
    throw_io("cannot open '", path.string(), "': ", system_message());
  }
  if (S_ISDIR(status.st_mode)) throw_io("'", path.string(), "' is a folder, wanted a file");
  if (!S_ISREG(status.st_mode)) {
    throw_io("'", path.string(), "' is a ",
             S_ISFIFO(status.st_mode)   ? "pipe"
             : S_ISSOCK(status.st_mode) ? "socket"
                                        : "device",
             ", wanted a regular file; write its content to a file first");
  }
  return fd;
}

}  // namespace drrik
