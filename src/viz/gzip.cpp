#include "viz/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <memory>

#include "drrik/base/error.h"

namespace drrik::detail {
namespace {

constexpr int kGzipWindow = 15 + 16;
constexpr std::size_t kPiece = std::size_t{1} << 20;  // zlib counts in 32 bits

// zlib only reads it; its interface lacks the const.
Bytef* input(std::string_view text) {
  return const_cast<Bytef*>(reinterpret_cast<const Bytef*>(text.data()));
}

}  // namespace

bool is_gzip(std::string_view bytes) {
  return bytes.size() >= 2 && bytes[0] == '\x1f' && bytes[1] == '\x8b';
}

std::string gzip(std::string_view text) {
  z_stream stream{};
  if (deflateInit2(&stream, 6, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    throw_data("gzip: not enough memory");
  }
  const std::unique_ptr<z_stream, int (*)(z_stream*)> ends(&stream, deflateEnd);
  std::string out;
  int result = Z_OK;
  std::size_t taken = 0;
  std::string piece(kPiece, '\0');
  while (result != Z_STREAM_END) {
    if (stream.avail_in == 0 && taken < text.size()) {
      const std::size_t size = std::min(kPiece, text.size() - taken);
      stream.next_in = input(text.substr(taken));
      stream.avail_in = static_cast<uInt>(size);
      taken += size;
    }
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = static_cast<uInt>(piece.size());
    result = deflate(&stream, taken == text.size() ? Z_FINISH : Z_NO_FLUSH);
    out.append(piece.data(), piece.size() - stream.avail_out);
  }
  return out;
}

std::string gunzip(std::string_view bytes, std::uint64_t max_bytes) {
  z_stream stream{};
  if (inflateInit2(&stream, kGzipWindow) != Z_OK) throw_data("gzip: not enough memory");
  const std::unique_ptr<z_stream, int (*)(z_stream*)> ends(&stream, inflateEnd);
  std::string out;
  std::string piece(kPiece, '\0');
  std::size_t taken = 0;
  for (;;) {
    if (stream.avail_in == 0 && taken < bytes.size()) {
      const std::size_t size = std::min(kPiece, bytes.size() - taken);
      stream.next_in = input(bytes.substr(taken));
      stream.avail_in = static_cast<uInt>(size);
      taken += size;
    }
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = static_cast<uInt>(piece.size());
    const int result = inflate(&stream, Z_NO_FLUSH);
    out.append(piece.data(), piece.size() - stream.avail_out);
    if (out.size() > max_bytes) throw_data("gzip: more than ", max_bytes, " bytes");
    if (result == Z_STREAM_END) {
      if (stream.avail_in == 0 && taken == bytes.size()) return out;
      inflateReset(&stream);  // the next member
    } else if (result != Z_OK) {
      throw_data("gzip: ", stream.avail_in == 0 && taken == bytes.size() ? "cut short" : "damaged");
    }
  }
}

}  // namespace drrik::detail
