// Compressed data of every kind: it gives bytes or Error(data), and the same bytes however they are
// asked for. What would grow without end is cut off, as a reader of rows does.

#include <algorithm>
#include <cstdlib>
#include <string>

#include "data/byte_stream.h"
#include "drrik/base/error.h"

namespace {

constexpr std::size_t kMost = std::size_t{4} << 20;

std::string read(std::span<const std::byte> bytes, std::size_t step) {
  std::string out;
  try {
    const auto stream = drrik::open_byte_stream(bytes, drrik::BinaryFormats::kAllow);
    std::string buffer(step, '\0');
    while (out.size() < kMost) {
      const std::size_t n = stream->read(std::span(buffer));
      if (n == 0) return out + ".";
      if (n > step || stream->consumed() > bytes.size()) std::abort();
      out.append(buffer, 0, n);
    }
    out.resize(kMost);
  } catch (const drrik::Error& error) {
    if (error.kind() != drrik::ErrorKind::kData) std::abort();
    out += "!";
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const std::string whole = read(bytes, 1 << 16);
  const std::string pieces = read(bytes, 61);
  // An error may come some bytes sooner when more is asked for at once.
  const std::size_t common = std::min(whole.size(), pieces.size()) - 1;
  if (whole.compare(0, common, pieces, 0, common) != 0) std::abort();
  if ((whole.back() == '.') != (pieces.back() == '.') && whole.size() < kMost) std::abort();
  return 0;
}
