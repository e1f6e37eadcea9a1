#pragma once
// Cuts a JSON file into its rows without holding the file: the elements of a top-level array, or
// top-level values one after another.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/byte_stream.h"

namespace drrik {

class JsonSplitter {
 public:
  JsonSplitter(std::unique_ptr<ByteStream> stream, std::size_t max_bytes);
  /// The text of the next value (not validated inside); false at the end. Throws Error(data) for
  /// structure that is broken between the values or a value of more than max_bytes.
  bool next(std::string& value);
  /// Line on which the value that next() gave last begins, from 1.
  std::int64_t line() const { return value_line_; }
  /// True when the values are elements of an array (known after the first next()).
  bool in_array() const { return mode_ == Mode::kArray || mode_ == Mode::kDone; }
  const ByteStream& stream() const { return *stream_; }

 private:
  enum class Mode { kStart, kArray, kValues, kDone };
  static constexpr int kEnd = -1;
  int peek();
  int peek_value();
  void fill();
  void start();
  bool wrapped_array();
  bool next_in_array(std::string& value);
  void read_value(std::string& value);
  void take(std::size_t count, std::string& value);
  [[noreturn]] void fail(const std::string& why) const;

  std::unique_ptr<ByteStream> stream_;
  std::size_t max_bytes_;
  std::vector<char> buffer_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;
  Mode mode_ = Mode::kStart;
  bool first_ = true;
  bool wrapped_ = false;  ///< The array is the member "data" of an object.
  std::int64_t line_ = 1;
  std::int64_t value_line_ = 1;
};

}  // namespace drrik
