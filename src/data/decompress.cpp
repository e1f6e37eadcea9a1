#include "data/decompress.h"

#include <bzlib.h>
#include <lz4frame.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "drrik/base/error.h"

namespace drrik {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 16;
// A file chooses how much memory its decompression takes; the highest levels of the usual programs
// stay below this (xz -9: 65 MiB; zstd --ultra --long=27: 128 MiB).
constexpr std::uint64_t kMaxXzMemory = std::uint64_t{256} << 20;
constexpr const char* kCutOff = ": the data ends in the middle; incomplete download?";
constexpr const char* kJunk = ": unknown bytes after the data";

// What all share: compressed input in chunks.
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
  /// Tries to have `count` bytes at hand (at most kChunk).
  void gather(std::size_t count) {
    if (end_ - at_ >= count) return;
    std::copy(in_.begin() + static_cast<std::ptrdiff_t>(at_),
              in_.begin() + static_cast<std::ptrdiff_t>(end_), in_.begin());
    end_ -= at_;
    at_ = 0;
    while (end_ < count) {
      const std::size_t n = from_->read(std::span(in_).subspan(end_));
      if (n == 0) break;
      end_ += n;
    }
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
        if (!between_) throw_data("gzip", kCutOff);
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
        if (in_[at_] != 0) throw_data("gzip", kJunk);
        ++at_;
      }
      done_ = true;
      return false;
    }
    if (in_[at_] != '\x1f') throw_data("gzip", kJunk);
    inflateReset(&stream_);
    between_ = false;
    return true;
  }
  z_stream stream_{};
  bool between_ = false;
  bool done_ = false;
};

class Bzip2Stream final : public Decompressor {
 public:
  explicit Bzip2Stream(std::unique_ptr<ByteStream> from) : Decompressor(std::move(from)) {
    start();
  }
  ~Bzip2Stream() override { BZ2_bzDecompressEnd(&stream_); }
  Bzip2Stream(const Bzip2Stream&) = delete;
  Bzip2Stream& operator=(const Bzip2Stream&) = delete;

  std::size_t read(std::span<char> to) override {
    const auto room = static_cast<unsigned>(std::min<std::size_t>(to.size(), UINT32_MAX / 2));
    stream_.next_out = to.data();
    stream_.avail_out = room;
    while (stream_.avail_out == room) {
      const bool more = refill();
      if (between_) {
        if (!more) break;
        // Parallel compressors write many streams one after another.
        if (in_[at_] != 'B') throw_data("bzip2", kJunk);
        BZ2_bzDecompressEnd(&stream_);
        start();
        stream_.next_out = to.data();
        stream_.avail_out = room;
        between_ = false;
      }
      stream_.next_in = in_.data() + at_;
      stream_.avail_in = static_cast<unsigned>(end_ - at_);
      const int status = BZ2_bzDecompress(&stream_);
      at_ = end_ - stream_.avail_in;
      if (status == BZ_STREAM_END) {
        between_ = true;
      } else if (status != BZ_OK) {
        throw_data("bzip2: damaged data");
      } else if (!more && stream_.avail_out == room) {
        throw_data("bzip2", kCutOff);
      }
    }
    return room - stream_.avail_out;
  }

 private:
  void start() {
    stream_ = {};
    if (BZ2_bzDecompressInit(&stream_, /*verbosity=*/0, /*small=*/0) != BZ_OK) {
      throw_data("bzip2: out of memory");
    }
  }
  bz_stream stream_{};
  bool between_ = false;
};

class XzStream final : public Decompressor {
 public:
  explicit XzStream(std::unique_ptr<ByteStream> from) : Decompressor(std::move(from)) {
    if (lzma_stream_decoder(&stream_, kMaxXzMemory, LZMA_CONCATENATED) != LZMA_OK) {
      throw_data("xz: out of memory");
    }
  }
  ~XzStream() override { lzma_end(&stream_); }
  XzStream(const XzStream&) = delete;
  XzStream& operator=(const XzStream&) = delete;

  std::size_t read(std::span<char> to) override {
    stream_.next_out = reinterpret_cast<std::uint8_t*>(to.data());
    stream_.avail_out = to.size();
    while (stream_.avail_out == to.size() && !done_) {
      const bool more = refill();
      stream_.next_in = reinterpret_cast<const std::uint8_t*>(in_.data() + at_);
      stream_.avail_in = end_ - at_;
      const lzma_ret status = lzma_code(&stream_, more ? LZMA_RUN : LZMA_FINISH);
      at_ = end_ - stream_.avail_in;
      if (status == LZMA_STREAM_END) {
        done_ = true;
      } else if (status == LZMA_BUF_ERROR && !more) {
        throw_data("xz", kCutOff);
      } else if (status == LZMA_MEMLIMIT_ERROR) {
        throw_data("xz: needs more than ", kMaxXzMemory >> 20, " MiB of memory to undo");
      } else if (status != LZMA_OK && status != LZMA_BUF_ERROR) {
        throw_data("xz: damaged data");
      }
    }
    return to.size() - stream_.avail_out;
  }

 private:
  lzma_stream stream_ = LZMA_STREAM_INIT;
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
        if (unfinished_) throw_data("zstd", kCutOff);
        break;
      }
      if (!unfinished_) begin_frame();
      ZSTD_inBuffer in{in_.data(), end_, at_};
      const std::size_t before = out.pos;
      const std::size_t status = ZSTD_decompressStream(context_.get(), &out, &in);
      if (ZSTD_isError(status) != 0U) {
        throw_data("zstd: damaged data (", ZSTD_getErrorName(status), ")");
      }
      at_ = in.pos;
      unfinished_ = status != 0;
      size_ += out.pos - before;
      // The library notices this in some ways of being called only.
      if (!unfinished_ && wanted_size_ && size_ != *wanted_size_) {
        throw_data("zstd: damaged data (a frame of ", size_, " bytes says that it has ",
                   *wanted_size_, ")");
      }
    }
    return out.pos;
  }

 private:
  void begin_frame() {
    constexpr std::size_t kMaxHeader = 18;
    gather(kMaxHeader);
    const std::uint64_t size = ZSTD_getFrameContentSize(in_.data() + at_, end_ - at_);
    const bool known = size != ZSTD_CONTENTSIZE_UNKNOWN && size != ZSTD_CONTENTSIZE_ERROR;
    wanted_size_ = known ? std::optional(size) : std::nullopt;
    size_ = 0;
  }
  std::optional<std::uint64_t> wanted_size_;  // of the frame, as its header has it
  std::uint64_t size_ = 0;
  std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context_;
  bool unfinished_ = false;
};

class Lz4Stream final : public Decompressor {
 public:
  explicit Lz4Stream(std::unique_ptr<ByteStream> from)
      : Decompressor(std::move(from)), context_(nullptr, LZ4F_freeDecompressionContext) {
    LZ4F_dctx* context = nullptr;
    if (LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)) != 0U) {
      throw_data("lz4: out of memory");
    }
    context_.reset(context);
  }
  std::size_t read(std::span<char> to) override {
    for (;;) {
      const bool more = refill();
      std::size_t out = to.size();
      std::size_t in = end_ - at_;
      const std::size_t status =
          LZ4F_decompress(context_.get(), to.data(), &out, in_.data() + at_, &in, nullptr);
      if (LZ4F_isError(status) != 0U) {
        throw_data("lz4: damaged data (", LZ4F_getErrorName(status), ")");
      }
      at_ += in;
      // The context may still hold decoded bytes when the input has ended.
      if (in > 0) unfinished_ = status != 0;
      if (out > 0) return out;
      if (!more) {
        if (unfinished_) throw_data("lz4", kCutOff);
        return 0;
      }
    }
  }

 private:
  std::unique_ptr<LZ4F_dctx, LZ4F_errorCode_t (*)(LZ4F_dctx*)> context_;
  bool unfinished_ = false;
};

class ZipMember final : public Decompressor {
 public:
  ZipMember(std::unique_ptr<ByteStream> from, bool deflated, std::uint32_t crc, std::uint64_t size)
      : Decompressor(std::move(from)), deflated_(deflated), wanted_crc_(crc), wanted_size_(size) {
    if (inflateInit2(&stream_, -MAX_WBITS) != Z_OK) throw_data("zip: cannot start zlib");
  }
  ~ZipMember() override { inflateEnd(&stream_); }
  ZipMember(const ZipMember&) = delete;
  ZipMember& operator=(const ZipMember&) = delete;

  std::size_t read(std::span<char> to) override {
    if (done_) return 0;
    const std::size_t n = deflated_ ? inflate_some(to) : copy_some(to);
    crc_ = static_cast<std::uint32_t>(crc32_z(crc_, reinterpret_cast<const Bytef*>(to.data()), n));
    size_ += n;
    if (size_ > wanted_size_) throw_data("zip: the file is larger than the archive says");
    if (n == 0 || done_) {
      done_ = true;
      if (size_ != wanted_size_ || crc_ != wanted_crc_) {
        throw_data("zip: damaged data (size or CRC-32 is not what the archive says)");
      }
    }
    return n;
  }

 private:
  std::size_t copy_some(std::span<char> to) {
    if (!refill()) return 0;
    const std::size_t n = std::min(to.size(), end_ - at_);
    std::copy_n(in_.data() + at_, n, to.data());
    at_ += n;
    return n;
  }
  std::size_t inflate_some(std::span<char> to) {
    const auto room = static_cast<uInt>(std::min<std::size_t>(to.size(), UINT32_MAX / 2));
    stream_.next_out = reinterpret_cast<Bytef*>(to.data());
    stream_.avail_out = room;
    while (stream_.avail_out == room && !done_) {
      const bool more = refill();
      stream_.next_in = reinterpret_cast<Bytef*>(in_.data() + at_);
      stream_.avail_in = static_cast<uInt>(end_ - at_);
      const int status = inflate(&stream_, Z_NO_FLUSH);
      at_ = end_ - stream_.avail_in;
      if (status == Z_STREAM_END) {
        done_ = true;
      } else if (!more && stream_.avail_out == room) {
        throw_data("zip", kCutOff);
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        throw_data("zip: damaged data (", stream_.msg != nullptr ? stream_.msg : "?", ")");
      }
    }
    return room - stream_.avail_out;
  }

  z_stream stream_{};
  bool deflated_;
  std::uint32_t wanted_crc_;
  std::uint64_t wanted_size_;
  std::uint32_t crc_ = 0;
  std::uint64_t size_ = 0;
  bool done_ = false;
};

}  // namespace

std::unique_ptr<ByteStream> decompress(Magic magic, std::unique_ptr<ByteStream> from) {
  switch (magic) {
    case Magic::kGzip:
      return std::make_unique<GzipStream>(std::move(from));
    case Magic::kBzip2:
      return std::make_unique<Bzip2Stream>(std::move(from));
    case Magic::kXz:
      return std::make_unique<XzStream>(std::move(from));
    case Magic::kZstd:
      return std::make_unique<ZstdStream>(std::move(from));
    case Magic::kLz4:
      return std::make_unique<Lz4Stream>(std::move(from));
    default:
      return from;
  }
}

std::unique_ptr<ByteStream> inflate_member(std::unique_ptr<ByteStream> from, bool deflated,
                                           std::uint32_t crc, std::uint64_t size) {
  return std::make_unique<ZipMember>(std::move(from), deflated, crc, size);
}

}  // namespace drrik
