#pragma once
// Files: memory mapping, whole reads, and writing that is never seen half done.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace drrik {

/// An owned POSIX descriptor; -1 is none.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  ~UniqueFd() { reset(); }
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = other.release();
    }
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;

  int get() const { return fd_; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void reset();

 private:
  int fd_ = -1;
};

/// A read-only private mapping of a whole file. Immutable, so safe to share between threads.
class MappedFile {
 public:
  /// Throws Error(io) naming the path when it cannot be opened or mapped, or is no regular file. An
  /// empty file maps to an empty span.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }
  /// Tells the kernel that these bytes are not needed again soon, so that they stop counting
  /// against the process (they are read again from the file when touched).
  void drop(std::size_t offset, std::size_t length) const;
  /// Has the kernel read these bytes from the disk, where it has not yet, so that touching them
  /// does not wait; returns when it has. What cannot be read is left to whoever touches it.
  void prefetch(std::size_t offset, std::size_t length) const;

 private:
  MappedFile() = default;
  std::filesystem::path path_;
  UniqueFd fd_;  // for prefetch()
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// The whole file. Throws Error(io), also when it is larger than `max_bytes` or a pipe that nobody
/// writes to (with a writer it is read to its end); Error(interrupted) while waiting for a pipe.
std::string read_file(const std::filesystem::path& path,
                      std::uint64_t max_bytes = std::uint64_t{1} << 32);

/// A file that appears under its name only when complete: written to a temporary name in the same
/// folder, flushed to disk, renamed by commit(); removed by the destructor otherwise.
///
/// Symbolic links are followed and kept. What is there and is no regular file (a device, a pipe,
/// /dev/stdout) can be neither replaced nor taken back: it is opened and written as it comes.
class AtomicFile {
 public:
  /// Creates missing parent folders. Opening a pipe waits for its reader. Throws Error(io), also
  /// for a folder.
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends. Throws Error(io) (disk full among them), after which commit() must not be called.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Overwrites bytes written before (a header whose numbers are known at the end). Throws
  /// Error(io) where !can_seek().
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  /// False for pipes, terminals and descriptors opened for appending.
  bool can_seek() const { return start_ >= 0; }
  std::uint64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }
  void commit();

 private:
  void open_in_place(UniqueFd fd);
  void flush();
  std::filesystem::path path_;    // as the caller named it
  std::filesystem::path target_;  // behind the links; empty: written in place
  std::filesystem::path temporary_;
  UniqueFd fd_;
  std::int64_t start_ = 0;  // where in the file our first byte stands; -1: no such place
  std::uint64_t size_ = 0;
  std::string buffer_;
};

void write_file_atomic(const std::filesystem::path& path, std::string_view text);
void write_file_atomic(const std::filesystem::path& path, std::span<const std::byte> bytes);

/// mkdir -p. Throws Error(io) naming the folder.
void create_folders(const std::filesystem::path& path);

/// Bytes of a trivially copyable object range.
template <typename T>
std::span<const std::byte> as_bytes(std::span<const T> values) {
  return std::as_bytes(values);
}

}  // namespace drrik
