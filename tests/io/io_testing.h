#pragma once
// What the tests of files share: a folder that goes away, errors as values, raw bytes.

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/tensor/tensor.h"

namespace drrik::testing {

class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "drrik_io_XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw_io("cannot make a folder for the test");
    path_ = name;
  }
  ~TempFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }
  bool empty() const { return std::filesystem::is_empty(path_); }

 private:
  std::filesystem::path path_;
};

inline std::filesystem::path data_file(std::string_view name) {
  return std::filesystem::path(DRRIK_TEST_DATA) / "io" / name;
}

inline std::filesystem::path shared_file(std::string_view name) {
  return std::filesystem::path(DRRIK_SHARED_DIR) / name;
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

struct Outcome {
  bool threw = false;
  ErrorKind kind = ErrorKind::kUsage;
  std::string message;
};

/// What `f` throws, which must be an Error or nothing.
inline Outcome outcome_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return {true, error.kind(), error.what()};
  }
  return {};
}

/// Passes when `f` throws Error(kind) whose message holds `part`.
inline void expect_error(ErrorKind kind, std::string_view part, const std::function<void()>& f) {
  const Outcome outcome = outcome_of(f);
  EXPECT_TRUE(outcome.threw) << "no error, wanted one with '" << part << "'";
  if (!outcome.threw) return;
  EXPECT_EQ(static_cast<int>(outcome.kind), static_cast<int>(kind)) << outcome.message;
  EXPECT_NE(outcome.message.find(part), std::string::npos)
      << "'" << outcome.message << "' does not hold '" << part << "'";
}

inline void expect_data_error(std::string_view part, const std::function<void()>& f) {
  expect_error(ErrorKind::kData, part, f);
}

/// A tensor whose element i is start + i, in any dtype that counts exactly so far.
inline Tensor counted(DType dtype, std::vector<std::int64_t> shape, int start = 0) {
  Tensor out(dtype, std::move(shape));
  for (std::int64_t i = 0; i < out.elements(); ++i) {
    std::byte* to = out.mutable_raw() + static_cast<std::size_t>(i) * dtype_size(dtype);
    const auto value = static_cast<double>(start + i);
    const auto put = [&](auto typed) { std::memcpy(to, &typed, sizeof typed); };
    switch (dtype) {
      case DType::kF32:
        put(static_cast<float>(value));
        break;
      case DType::kF16:
        put(F16(static_cast<float>(value)));
        break;
      case DType::kBF16:
        put(BF16(static_cast<float>(value)));
        break;
      case DType::kF64:
        put(value);
        break;
      case DType::kI8:
      case DType::kU8:
        put(static_cast<std::uint8_t>(start + i));
        break;
      case DType::kI16:
      case DType::kU16:
        put(static_cast<std::uint16_t>(start + i));
        break;
      case DType::kI32:
      case DType::kU32:
        put(static_cast<std::uint32_t>(start + i));
        break;
      case DType::kI64:
      case DType::kU64:
        put(static_cast<std::uint64_t>(start + i));
        break;
      case DType::kBool:
        put(static_cast<std::uint8_t>(start + i != 0));
        break;
      case DType::kF8E4M3Fnuz:
      case DType::kF8E5M2Fnuz:
      case DType::kF8E8M0:
        throw_usage("counted() has no ", dtype_name(dtype));
      case DType::kF8E4M3:
      case DType::kF8E5M2: {
        // Exact for 0 to 16: sign 0, exponent of the leading bit, the bits below it.
        const bool e4m3 = dtype == DType::kF8E4M3;
        const int mantissa_bits = e4m3 ? 3 : 2;
        const auto n = static_cast<unsigned>(start + i);
        std::uint8_t bits = 0;
        if (n > 0) {
          const int exponent = 31 - __builtin_clz(n);
          unsigned mantissa = n - (1U << exponent);
          mantissa = exponent <= mantissa_bits ? mantissa << (mantissa_bits - exponent)
                                               : mantissa >> (exponent - mantissa_bits);
          bits = static_cast<std::uint8_t>(
              (static_cast<unsigned>(exponent + (e4m3 ? 7 : 15)) << mantissa_bits) | mantissa);
        }
        put(bits);
        break;
      }
    }
  }
  return out;
}

/// Why two tensors are not the same type, shape and bytes; "" when they are.
inline std::string difference(const Tensor& got, const Tensor& wanted) {
  if (got.dtype() != wanted.dtype()) {
    return str("dtype ", dtype_name(got.dtype()), ", wanted ", dtype_name(wanted.dtype()));
  }
  if (got.shape() != wanted.shape()) {
    return str("shape ", shape_string(got.shape()), ", wanted ", shape_string(wanted.shape()));
  }
  const std::size_t element = dtype_size(got.dtype());
  for (std::int64_t i = 0; i < got.elements(); ++i) {
    const std::size_t at = static_cast<std::size_t>(i) * element;
    if (std::memcmp(got.raw() + at, wanted.raw() + at, element) != 0) {
      return str("element ", i, " differs");
    }
  }
  return "";
}

/// While it lives, no file of this process may grow beyond `bytes`: writes fail as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    previous_handler_ = signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &previous_);
    rlimit limit = previous_;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &previous_);
    signal(SIGXFSZ, previous_handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit previous_{};
  void (*previous_handler_)(int) = SIG_DFL;
};

}  // namespace drrik::testing
