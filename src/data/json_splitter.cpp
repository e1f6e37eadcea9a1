#include "data/json_splitter.h"

#include <cstring>
#include <string_view>

#include "drrik/base/error.h"

namespace drrik {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 16;

bool is_space(int c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

}  // namespace

JsonSplitter::JsonSplitter(std::unique_ptr<ByteStream> stream, std::size_t max_bytes)
    : stream_(std::move(stream)), max_bytes_(max_bytes), buffer_(kChunk) {}

void JsonSplitter::fail(const std::string& why) const { throw_data("line ", line_, ": ", why); }

void JsonSplitter::fill() {
  at_ = 0;
  end_ = stream_->read(buffer_);
}

int JsonSplitter::peek() {
  if (at_ == end_) fill();
  return end_ == 0 ? kEnd : static_cast<unsigned char>(buffer_[at_]);
}

// The next character that is not white space.
int JsonSplitter::peek_value() {
  for (;;) {
    const int c = peek();
    if (!is_space(c)) return c;
    if (c == '\n') ++line_;
    ++at_;
  }
}

void JsonSplitter::start() {
  // As much as fits: the beginning tells what the file is.
  while (end_ < buffer_.size()) {
    const std::size_t n = stream_->read(std::span(buffer_).subspan(end_));
    if (n == 0) break;
    end_ += n;
  }
  if (end_ >= 3 && std::memcmp(buffer_.data(), "\xEF\xBB\xBF", 3) == 0) at_ = 3;
  const int c = peek_value();
  if (c == '[') {
    ++at_;
    mode_ = Mode::kArray;
  } else if (c == '{' && wrapped_array()) {
    mode_ = Mode::kArray;
    wrapped_ = true;
  } else {
    mode_ = Mode::kValues;
  }
}

// {"data": [ {…}, … ] …}: a dataset in a wrapper, which may be larger than memory.
bool JsonSplitter::wrapped_array() {
  std::size_t i = at_;
  const auto skip = [&](std::string_view wanted) {
    while (i < end_ && is_space(buffer_[i])) ++i;
    if (std::string_view(buffer_.data() + i, end_ - i).substr(0, wanted.size()) != wanted) {
      return false;
    }
    i += wanted.size();
    return true;
  };
  if (!skip("{") || !skip("\"data\"") || !skip(":") || !skip("[")) return false;
  const std::size_t begin = i;
  if (!skip("{")) return false;
  for (std::size_t k = at_; k < begin; ++k) line_ += buffer_[k] == '\n' ? 1 : 0;
  at_ = begin;
  return true;
}

bool JsonSplitter::next_in_array(std::string& value) {
  int c = peek_value();
  if (!first_ && c != ']') {
    if (c != ',')
      fail(c == kEnd ? "the array has no end; incomplete download?"
                     : "wanted ',' or ']' after an array's element");
    ++at_;
    c = peek_value();
    if (c == ']') fail("wanted a value after ','");
  }
  if (c == kEnd) fail("the array has no end; incomplete download?");
  if (c == ']') {
    ++at_;
    mode_ = Mode::kDone;
    // What else a wrapper holds (version, licence) is not looked at.
    if (!wrapped_ && peek_value() != kEnd) fail("text after the array");
    return false;
  }
  first_ = false;
  read_value(value);
  return true;
}

bool JsonSplitter::next(std::string& value) {
  value.clear();
  if (mode_ == Mode::kStart) start();
  if (mode_ == Mode::kArray) return next_in_array(value);
  if (mode_ == Mode::kDone || peek_value() == kEnd) return false;
  read_value(value);
  return true;
}

void JsonSplitter::take(std::size_t count, std::string& value) {
  if (value.size() + count > max_bytes_) {
    throw_data("line ", value_line_, ": a value has more than ", max_bytes_, " bytes",
               "; write the dataset as an array or as JSON Lines");
  }
  value.append(buffer_.data() + at_, count);
  at_ += count;
}

void JsonSplitter::read_value(std::string& value) {
  value_line_ = line_;
  std::int64_t depth = 0;
  bool in_string = false;
  bool escaped = false;
  const int first = peek();
  const bool scalar = first != '{' && first != '[' && first != '"';
  while (peek() != kEnd) {
    std::size_t i = at_;
    bool complete = false;
    for (; i < end_ && !complete; ++i) {
      const char c = buffer_[i];
      if (c == '\n') ++line_;
      if (in_string) {
        if (escaped) {
          escaped = false;
        } else if (c == '\\') {
          escaped = true;
        } else if (c == '"') {
          in_string = false;
          complete = depth == 0;
        }
        continue;
      }
      if (scalar && (is_space(c) || c == ',' || c == ']' || c == '}')) {
        // A stray bracket or comma is a value of its own, which the parser then refuses.
        if (c == '\n') --line_;
        if (value.empty() && i == at_) ++i;
        take(i - at_, value);
        return;
      }
      if (c == '"') {
        in_string = true;
      } else if (c == '{' || c == '[') {
        ++depth;
      } else if (c == '}' || c == ']') {
        complete = --depth == 0;
      }
    }
    take(i - at_, value);
    if (complete) return;
  }
  // A value cut off by the end of the file is left to the parser, which says what is missing.
}

}  // namespace drrik
