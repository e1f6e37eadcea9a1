#include "data/byte_stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <system_error>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/file.h"

namespace drrik {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 16;
constexpr std::size_t kMagicBytes = 8;

class FileStream final : public ByteStream {
 public:
  explicit FileStream(const std::filesystem::path& path)
      : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    struct stat status {};
    if (fd_.get() < 0 || fstat(fd_.get(), &status) != 0) fail("cannot open");
    if (S_ISDIR(status.st_mode)) throw_io("'", path_.string(), "' is a folder, wanted a file");
    // Advice only: rows are read once, from front to back.
    if (S_ISREG(status.st_mode)) posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  }
  std::size_t read(std::span<char> to) override {
    for (;;) {
      const ssize_t n = ::read(fd_.get(), to.data(), to.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail("cannot read");
      consumed_ += static_cast<std::uint64_t>(n);
      return static_cast<std::size_t>(n);
    }
  }
  std::uint64_t consumed() const override { return consumed_; }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw_io(what, " '", path_.string(),
             "': ", std::error_code(errno, std::generic_category()).message());
  }
  std::filesystem::path path_;
  UniqueFd fd_;
  std::uint64_t consumed_ = 0;
};

class MemoryStream final : public ByteStream {
 public:
  explicit MemoryStream(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::size_t read(std::span<char> to) override {
    const std::size_t n = std::min(to.size(), bytes_.size() - at_);
    if (n > 0) std::memcpy(to.data(), bytes_.data() + at_, n);
    at_ += n;
    return n;
  }
  std::uint64_t consumed() const override { return at_; }

 private:
  std::span<const std::byte> bytes_;
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
  std::uint64_t consumed() const override { return rest_->consumed() - (head_.size() - at_); }

 private:
  std::string head_;
  std::size_t at_ = 0;
  std::unique_ptr<ByteStream> rest_;
};

// What gzip and zstd share: compressed input in chunks.
class Decompressor : public ByteStream {
 public:
  explicit Decompressor(std::unique_ptr<ByteStream> from) : from_(std::move(from)), in_(kChunk) {}
  std::uint64_t consumed() const override { return from_->consumed() - (end_ - at_); }

 protected:
  /// False at the end of the file.
  bool refill() {
    if (at_ < end_) return true;
    at_ = 0;
    end_ = from_->read(in_);
    return end_ > 0;
  }
  std::unique_ptr<ByteStream> from_;
  std::vector<char> in_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;
};

class GzipStream final : public Decompressor {
 public:
  explicit GzipStream(std::unique_ptr<ByteStream> from) : Decompressor(std::move(from)) {
    if (inflateInit2(&stream_, MAX_WBITS + 16) != Z_OK) throw_data("gzip: cannot start zlib");
  }
  ~GzipStream() override { inflateEnd(&stream_); }
  GzipStream(const GzipStream&) = delete;
  GzipStream& operator=(const GzipStream&) = delete;

  std::size_t read(std::span<char> to) override {
    stream_.next_out = reinterpret_cast<Bytef*>(to.data());
    const auto room = static_cast<uInt>(std::min<std::size_t>(to.size(), UINT32_MAX / 2));
    stream_.avail_out = room;
    while (stream_.avail_out == room && !done_) {
      if (!refill()) {
        if (!between_) throw_data("gzip: the data ends in the middle; incomplete download?");
        break;
      }
      if (between_) {
        if (begins_next_member()) continue;
        break;
      }
      stream_.next_in = reinterpret_cast<Bytef*>(in_.data() + at_);
      stream_.avail_in = static_cast<uInt>(end_ - at_);
      const int status = inflate(&stream_, Z_NO_FLUSH);
      at_ = end_ - stream_.avail_in;
      if (status == Z_STREAM_END) {
        between_ = true;
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        throw_data("gzip: damaged data (", stream_.msg != nullptr ? stream_.msg : "?", ")");
      }
    }
    return room - stream_.avail_out;
  }

 private:
  // Members follow each other directly; zeros may pad the end, as gzip itself allows.
  bool begins_next_member() {
    if (in_[at_] == 0) {
      while (refill()) {
        if (in_[at_] != 0) throw_data("gzip: unknown bytes after the data");
        ++at_;
      }
      done_ = true;
      return false;
    }
    if (in_[at_] != '\x1f') throw_data("gzip: unknown bytes after the data");
    inflateReset(&stream_);
    between_ = false;
    return true;
  }
  z_stream stream_{};
  bool between_ = false;
  bool done_ = false;
};

class ZstdStream final : public Decompressor {
 public:
  explicit ZstdStream(std::unique_ptr<ByteStream> from)
      : Decompressor(std::move(from)), context_(ZSTD_createDCtx(), ZSTD_freeDCtx) {
    if (context_ == nullptr) throw_data("zstd: out of memory");
  }
  std::size_t read(std::span<char> to) override {
    ZSTD_outBuffer out{to.data(), to.size(), 0};
    while (out.pos == 0) {
      if (!refill()) {
        if (unfinished_) throw_data("zstd: the data ends in the middle; incomplete download?");
        break;
      }
      ZSTD_inBuffer in{in_.data(), end_, at_};
      const std::size_t status = ZSTD_decompressStream(context_.get(), &out, &in);
      if (ZSTD_isError(status) != 0U) {
        throw_data("zstd: damaged data (", ZSTD_getErrorName(status), ")");
      }
      at_ = in.pos;
      unfinished_ = status != 0;
    }
    return out.pos;
  }

 private:
  std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context_;
  bool unfinished_ = false;
};

struct Refused {
  std::string_view magic;
  const char* what;
};
constexpr std::array<Refused, 8> kRefused = {{{"BZh", "bzip2 compression"},
                                              {std::string_view("\xFD"
                                                                "7zXZ",
                                                                5),
                                               "xz compression"},
                                              {"\x04\x22\x4D\x18", "lz4 compression"},
                                              {"PK\x03\x04", "a zip archive"},
                                              {"PAR1", "Parquet"},
                                              {"ARROW1", "Arrow"},
                                              {"\xFF\xFE", "UTF-16 text"},
                                              {"\xFE\xFF", "UTF-16 text"}}};

bool starts_with(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

std::unique_ptr<ByteStream> decode(std::unique_ptr<ByteStream> raw) {
  std::string head(kMagicBytes, '\0');
  std::size_t size = 0;
  while (size < head.size()) {
    const std::size_t n = raw->read(std::span(head).subspan(size));
    if (n == 0) break;
    size += n;
  }
  head.resize(size);
  for (const Refused& refused : kRefused) {
    if (starts_with(head, refused.magic)) {
      throw_data("the file is ", refused.what,
                 ", which is not read; wanted plain UTF-8, gzip or zstd");
    }
  }
  const bool gzip = starts_with(head, "\x1f\x8b");
  const bool zstd = starts_with(head, "\x28\xB5\x2F\xFD");
  auto whole = std::make_unique<RejoinedStream>(std::move(head), std::move(raw));
  if (gzip) return std::make_unique<GzipStream>(std::move(whole));
  if (zstd) return std::make_unique<ZstdStream>(std::move(whole));
  return whole;
}

}  // namespace

std::unique_ptr<ByteStream> open_byte_stream(const std::filesystem::path& path) {
  return decode(std::make_unique<FileStream>(path));
}

std::unique_ptr<ByteStream> open_byte_stream(std::span<const std::byte> bytes) {
  return decode(std::make_unique<MemoryStream>(bytes));
}

}  // namespace drrik
