#include "data/line_reader.h"

#include <algorithm>
#include <cstring>

#include "drrik/base/error.h"

namespace drrik {
namespace {

constexpr std::size_t kFirstBuffer = std::size_t{1} << 16;

}  // namespace

LineReader::LineReader(std::unique_ptr<ByteStream> stream, Newlines newlines, std::size_t max_bytes)
    : stream_(std::move(stream)), newlines_(newlines), max_bytes_(max_bytes) {
  buffer_.resize(kFirstBuffer + kPadding);
}

// In the same words wherever the stream's pieces end.
void LineReader::refuse_long_line() const {
  throw_data("line ", line_number_ + 1, " has more than ", max_bytes_, " bytes");
}

bool LineReader::refill() {
  if (at_end_) return false;
  const std::size_t kept = end_ - begin_;
  if (kept > max_bytes_ + 1) refuse_long_line();  // the one more may be the \r of a \r\n
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, kept);
    scanned_ -= begin_;
    if (newline_ != kNone) newline_ -= begin_;
    end_ = kept;
    begin_ = 0;
  }
  if (buffer_.size() - kPadding == end_) buffer_.resize(2 * end_ + kPadding);
  const std::size_t n =
      stream_->read(std::span(buffer_).subspan(end_, buffer_.size() - kPadding - end_));
  end_ += n;
  at_end_ = n == 0;
  return n > 0;
}

// Returns how many bytes end the line and sets its length; 0 when its end is not in the buffer.
std::size_t LineReader::find_end(std::size_t& length) {
  const char* data = buffer_.data();
  if (newline_ == kNone && scanned_ < end_) {
    const void* found = std::memchr(data + scanned_, '\n', end_ - scanned_);
    if (found != nullptr) {
      newline_ = static_cast<std::size_t>(static_cast<const char*>(found) - data);
    }
    scanned_ = newline_ == kNone ? end_ : newline_;
  }
  if (newlines_ == Newlines::kUniversal) {
    const std::size_t limit = newline_ == kNone ? end_ : newline_;
    const void* found = limit > begin_ ? std::memchr(data + begin_, '\r', limit - begin_) : nullptr;
    if (found != nullptr) {
      const auto at = static_cast<std::size_t>(static_cast<const char*>(found) - data);
      if (at + 1 == end_ && !at_end_) return 0;  // Is a \n next?
      length = at - begin_;
      return at + 1 < end_ && data[at + 1] == '\n' ? 2 : 1;
    }
  }
  if (newline_ == kNone) return 0;
  length = newline_ - begin_;
  if (newlines_ == Newlines::kUnix && length > 0 && data[newline_ - 1] == '\r') {
    --length;
    return 2;
  }
  return 1;
}

bool LineReader::next(std::string_view& line) {
  if (!started_) {
    started_ = true;
    while (end_ < 3 && refill()) {
    }
    if (end_ >= 3 && std::memcmp(buffer_.data(), "\xEF\xBB\xBF", 3) == 0) begin_ = scanned_ = 3;
  }
  std::size_t length = 0;
  std::size_t ending = find_end(length);
  while (ending == 0 && refill()) ending = find_end(length);
  if (ending == 0) ending = find_end(length);  // A \r at the very end of the file.
  if (ending == 0) {
    if (begin_ == end_) return false;
    length = end_ - begin_;
  }
  if (length > max_bytes_) refuse_long_line();
  line = {buffer_.data() + begin_, length};
  begin_ += length + ending;
  if (newline_ != kNone && newline_ < begin_) newline_ = kNone;
  scanned_ = std::max(scanned_, begin_);
  ++line_number_;
  return true;
}

}  // namespace drrik
