#pragma once
// Errors inside the plug-in, which the library turns into Error(data).

#include <arrow/result.h>
#include <arrow/status.h>

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace drrik {

template <typename... Args>
[[noreturn]] void fail(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  throw std::runtime_error(out.str());
}

inline void check(const arrow::Status& status) {
  if (status.ok()) return;
  if (status.IsOutOfMemory()) fail("needs more memory at once than is allowed; damaged?");
  std::string message = status.message();
  // Arrow's messages of several lines carry dumps and hints of its own.
  message.resize(std::min(message.find('\n'), std::min(message.size(), std::size_t{300})));
  fail(message);
}

template <typename T>
T check(arrow::Result<T> result) {
  check(result.status());
  return std::move(result).ValueUnsafe();
}

}  // namespace drrik
