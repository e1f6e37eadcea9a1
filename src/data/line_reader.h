#pragma once
// Lines of a byte stream, in bounded memory.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/byte_stream.h"

namespace drrik {

enum class Newlines {
  kUnix,      ///< \n ends a line; a \r before it is cut off.
  kUniversal  ///< \n, \r\n and \r end a line, as in Python's text mode.
};

class LineReader {
 public:
  /// Bytes that may be read (not used) beyond the end of every line, which simdjson asks for.
  static constexpr std::size_t kPadding = 64;

  LineReader(std::unique_ptr<ByteStream> stream, Newlines newlines, std::size_t max_bytes);
  /// The next line without its end; false at the end of the stream. The view is valid until the
  /// next call. A byte-order mark at the beginning is left out. Throws Error(data) for a line of
  /// more than max_bytes, and what the stream throws.
  bool next(std::string_view& line);
  /// Number of the line that next() gave last, from 1.
  std::int64_t line_number() const { return line_number_; }
  const ByteStream& stream() const { return *stream_; }

 private:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  [[noreturn]] void refuse_long_line() const;
  bool refill();
  std::size_t find_end(std::size_t& length);

  std::unique_ptr<ByteStream> stream_;
  Newlines newlines_;
  std::size_t max_bytes_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;        ///< Of the current line.
  std::size_t end_ = 0;          ///< Of the bytes read.
  std::size_t scanned_ = 0;      ///< No \n lies in [begin_, scanned_) ...
  std::size_t newline_ = kNone;  ///< ... or the first one is here.
  bool at_end_ = false;
  bool started_ = false;
  std::int64_t line_number_ = 0;
};

}  // namespace drrik
