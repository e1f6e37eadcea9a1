#pragma once
// The one error type, and the string builder its messages are made with.
//
// Messages say what, where, got, wanted and, where it helps, a hint:
//   tensor 'h.0.mlp.c_fc.weight': 9437184 bytes at 4096, file ends at 900000; incomplete download?

#include <exception>
#include <initializer_list>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace drrik {

/// What went wrong, in the classes a caller can act on. The values are the command's exit codes.
enum class ErrorKind {
  kUsage = 2,         ///< The caller asked for something impossible (flag, option, index, name).
  kData = 3,          ///< A file or dataset is malformed or does not fit.
  kIo = 4,            ///< The operating system or the network refused.
  kNumeric = 5,       ///< NaN or Inf where a number is needed.
  kInterrupted = 130  ///< Ctrl-C or SIGTERM; what was written stays valid.
};

class Error : public std::exception {
 public:
  Error(ErrorKind kind, std::string message) : kind_(kind), message_(std::move(message)) {}

  ErrorKind kind() const noexcept { return kind_; }
  const char* what() const noexcept override { return message_.c_str(); }

  /// Prefixes the message with where it happened (a path, a step) and returns *this for rethrow.
  Error& add_context(std::string_view where) {
    message_ = std::string(where) + ": " + message_;
    return *this;
  }

 private:
  ErrorKind kind_;
  std::string message_;
};

/// Concatenates its arguments as operator<< prints them.
template <typename... Args>
std::string str(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

template <typename... Args>
[[noreturn]] void throw_usage(const Args&... args) {
  throw Error(ErrorKind::kUsage, str(args...));
}
template <typename... Args>
[[noreturn]] void throw_data(const Args&... args) {
  throw Error(ErrorKind::kData, str(args...));
}
template <typename... Args>
[[noreturn]] void throw_io(const Args&... args) {
  throw Error(ErrorKind::kIo, str(args...));
}
template <typename... Args>
[[noreturn]] void throw_numeric(const Args&... args) {
  throw Error(ErrorKind::kNumeric, str(args...));
}

/// The candidate nearest to `name` by edit distance, or "" when none is near enough to be meant.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

/// "; did you mean 'x'?" or "".
std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates);

/// `text` without the ASCII white space at its ends: a view of it.
std::string_view trim(std::string_view text);

/// "a, b, c".
std::string join(const std::vector<std::string>& parts, std::string_view separator = ", ");

namespace detail {
[[noreturn]] void assert_failed(const char* condition, const char* file, int line);
}  // namespace detail

}  // namespace drrik

/// Our own invariants only, never input; live in Debug and sanitizer builds.
#ifdef DRRIK_CHECKED
#define DRRIK_ASSERT(condition) \
  ((condition) ? void(0) : ::drrik::detail::assert_failed(#condition, __FILE__, __LINE__))
#else
#define DRRIK_ASSERT(condition) void(0)
#endif
