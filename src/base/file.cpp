#include "drrik/base/file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"

namespace drrik {
namespace {

constexpr std::size_t kWriteBuffer = 1 << 20;
constexpr int kMaxLinks = 40;  // as Linux

std::string reason() { return std::error_code(errno, std::generic_category()).message(); }

UniqueFd open_for_reading(const std::filesystem::path& path, struct stat& status) {
  // Not to wait: opening a pipe that nobody writes to would never return.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) throw_io("cannot open '", path.string(), "': ", reason());
  if (fstat(fd.get(), &status) != 0) throw_io("cannot stat '", path.string(), "': ", reason());
  if (S_ISDIR(status.st_mode)) throw_io("'", path.string(), "' is a folder, wanted a file");
  return fd;
}

// Until a pipe's writer or a terminal's user gives something; a signal ends the wait.
void wait_readable(int fd, const std::filesystem::path& path) {
  pollfd poll{fd, POLLIN, 0};
  while (::poll(&poll, 1, -1) < 0) {
    if (errno != EINTR) throw_io("cannot read '", path.string(), "': ", reason());
    check_interrupt(str("waiting for '", path.string(), "'").c_str());
  }
}

void write_all(int fd, const std::byte* data, std::size_t size, std::int64_t offset,
               const std::filesystem::path& path) {
  while (size > 0) {
    const ssize_t n = offset < 0 ? ::write(fd, data, size) : ::pwrite(fd, data, size, offset);
    if (n < 0) {
      if (errno == EINTR) continue;
      const char* hint = errno == ENOSPC ? "; free some space or choose another folder" : "";
      throw_io("cannot write '", path.string(), "': ", reason(), hint);
    }
    data += n;
    size -= static_cast<std::size_t>(n);
    if (offset >= 0) offset += n;
  }
}

std::optional<int> descriptor_number(const std::string& name) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (name.empty() || name.size() > 9 || !std::all_of(name.begin(), name.end(), digit)) {
    return std::nullopt;
  }
  return std::stoi(name);
}

struct Target {
  std::filesystem::path path;
  std::optional<int> descriptor;  // one of ours: /dev/stdout, /dev/fd/N
};

// Follows the links of the last component one by one, since what they lead to may not exist yet.
// The links in /proc/self/fd have no names behind them: a pipe's reads "pipe:[1234]".
Target follow_links(const std::filesystem::path& from) {
  std::error_code error;
  const auto own = std::filesystem::canonical("/proc/self/fd", error);
  std::filesystem::path path = from;
  for (int i = 0; i < kMaxLinks; ++i) {
    const std::filesystem::path parent = path.has_parent_path() ? path.parent_path() : ".";
    const auto number = descriptor_number(path.filename().string());
    if (number && !own.empty() && std::filesystem::canonical(parent, error) == own) {
      return {path, number};
    }
    const auto next = std::filesystem::read_symlink(path, error);
    if (error) return {path, std::nullopt};
    path = parent / next;
  }
  throw_io("cannot create '", from.string(), "': more than ", kMaxLinks, " symbolic links");
}

}  // namespace

void UniqueFd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  struct stat status {};
  UniqueFd fd = open_for_reading(path, status);
  if (!S_ISREG(status.st_mode)) throw_io("'", path.string(), "' is not a regular file");
  auto file = std::shared_ptr<MappedFile>(new MappedFile);
  file->path_ = path;
  file->size_ = static_cast<std::size_t>(status.st_size);
  if (file->size_ > 0) {
    void* data = mmap(nullptr, file->size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (data == MAP_FAILED) throw_io("cannot map '", path.string(), "': ", reason());
    file->data_ = static_cast<const std::byte*>(data);
  }
  file->fd_ = std::move(fd);
  return file;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::drop(std::size_t offset, std::size_t length) const {
  if (data_ == nullptr || offset >= size_) return;
  length = std::min(length, size_ - offset);
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  // Only whole pages inside the range: neighbours may still be in use.
  const std::size_t begin = (offset + page - 1) / page * page;
  const std::size_t end = offset + length == size_ ? size_ : (offset + length) / page * page;
  if (begin < end) madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

// read() into nowhere rather than madvise(MADV_WILLNEED): the kernel reads ahead of it in large
// pages, which made it three times as fast on ext4 (Linux 6.18). It does so only for reads that
// follow one another: leaving out what is there already, as what it reads ahead soon is, makes each
// read a new start and takes two to three times as long.
void MappedFile::prefetch(std::size_t offset, std::size_t length) const {
  if (data_ == nullptr || offset >= size_) return;
  constexpr std::size_t kStep = std::size_t{1} << 20;
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t end = offset + std::min(length, size_ - offset);
  std::vector<std::byte> buffer;
  std::vector<unsigned char> resident(kStep / page);
  const auto all_there = [&](std::size_t at, std::size_t step) {
    const std::size_t pages = (step + page - 1) / page;
    return mincore(const_cast<std::byte*>(data_) + at, step, resident.data()) == 0 &&
           std::all_of(resident.begin(), resident.begin() + static_cast<std::ptrdiff_t>(pages),
                       [](unsigned char flags) { return (flags & 1U) != 0; });
  };
  std::size_t at = offset / page * page;
  // Where this thread's last reading came to: its next call may go on there, but for what lies
  // between two tensors.
  static thread_local struct {
    const MappedFile* file = nullptr;
    std::size_t to = 0;
  } last;
  bool reading = last.file == this && at <= last.to + page && last.to <= at + page;
  for (; at < end; at += kStep) {
    const std::size_t step = std::min(kStep, end - at);
    if (!reading && all_there(at, step)) continue;
    reading = true;
    buffer.resize(kStep);
    if (::pread(fd_.get(), buffer.data(), step, static_cast<off_t>(at)) < 0 && errno != EINTR)
      return;
    last = {this, at + step};
  }
}

std::string read_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  struct stat status {};
  const UniqueFd fd = open_for_reading(path, status);
  std::string text;
  // Pipes and /proc files say size 0: read to the end rather than trust the size.
  if (S_ISREG(status.st_mode)) {
    if (static_cast<std::uint64_t>(status.st_size) > max_bytes) {
      throw_io("'", path.string(), "' has ", status.st_size, " bytes, wanted at most ", max_bytes);
    }
    text.reserve(static_cast<std::size_t>(status.st_size));
  }
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
    if (n == 0) {
      if (S_ISFIFO(status.st_mode) && text.empty()) {
        throw_io("'", path.string(), "' is a pipe that nobody writes to");
      }
      return text;
    }
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) {
        wait_readable(fd.get(), path);
        continue;
      }
      throw_io("cannot read '", path.string(), "': ", reason());
    }
    text.append(buffer, static_cast<std::size_t>(n));
    if (text.size() > max_bytes) {
      throw_io("'", path.string(), "' has more than ", max_bytes, " bytes");
    }
  }
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  static std::atomic<unsigned> counter{0};
  if (!path_.has_filename()) throw_io("'", path_.string(), "' names no file");
  const Target target = follow_links(path_);
  if (target.descriptor) {
    // A copy rather than a second opening, which would begin at the start of the file.
    open_in_place(UniqueFd(::fcntl(*target.descriptor, F_DUPFD_CLOEXEC, 0)));
    return;
  }
  struct stat status {};
  if (::stat(target.path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    if (S_ISDIR(status.st_mode)) throw_io("'", path_.string(), "' is a folder, wanted a file");
    open_in_place(UniqueFd(::open(target.path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY)));
    return;
  }
  target_ = target.path;
  if (target_.has_parent_path()) create_folders(target_.parent_path());
  temporary_ = target_;
  temporary_ += str(".tmp-", getpid(), "-", counter++);
  fd_ = UniqueFd(::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (fd_.get() < 0) throw_io("cannot create '", path_.string(), "': ", reason());
}

void AtomicFile::open_in_place(UniqueFd fd) {
  const int flags = fd.get() < 0 ? -1 : ::fcntl(fd.get(), F_GETFL);
  if (flags < 0) throw_io("cannot write '", path_.string(), "': ", reason());
  if ((flags & O_ACCMODE) == O_RDONLY) {
    throw_io("cannot write '", path_.string(), "': it is open for reading only");
  }
  // pwrite() to a file opened for appending appends, whatever the place.
  start_ = (flags & O_APPEND) != 0 ? -1 : ::lseek(fd.get(), 0, SEEK_CUR);
  fd_ = std::move(fd);
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      target_(std::move(other.target_)),
      temporary_(std::move(other.temporary_)),
      fd_(std::move(other.fd_)),
      start_(other.start_),
      size_(other.size_),
      buffer_(std::move(other.buffer_)) {
  other.temporary_.clear();
}

AtomicFile::~AtomicFile() {
  if (fd_.get() >= 0 && !temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  size_ += bytes.size();
  if (buffer_.size() + bytes.size() > kWriteBuffer) flush();
  if (bytes.size() >= kWriteBuffer) {
    write_all(fd_.get(), bytes.data(), bytes.size(), -1, path_);
  } else {
    buffer_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  if (!can_seek()) {
    throw_io("what was written to '", path_.string(),
             "' cannot be rewritten (a pipe or a terminal?); name a file");
  }
  flush();
  write_all(fd_.get(), bytes.data(), bytes.size(), start_ + static_cast<std::int64_t>(offset),
            path_);
}

void AtomicFile::flush() {
  if (buffer_.empty()) return;
  write_all(fd_.get(), reinterpret_cast<const std::byte*>(buffer_.data()), buffer_.size(), -1,
            path_);
  buffer_.clear();
}

void AtomicFile::commit() {
  flush();
  const bool in_place = target_.empty();
  // EINVAL: a pipe or a device has nothing to flush.
  if (fsync(fd_.get()) != 0 && !(in_place && errno == EINVAL)) {
    throw_io("cannot write '", path_.string(), "': ", reason());
  }
  if (!in_place && ::rename(temporary_.c_str(), target_.c_str()) != 0) {
    throw_io("cannot rename to '", path_.string(), "': ", reason());
  }
  temporary_.clear();
  fd_.reset();
}

void write_file_atomic(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void write_file_atomic(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void create_folders(const std::filesystem::path& path) {
  std::error_code error;
  std::error_code ignored;
  std::filesystem::create_directories(path, error);
  if (error || !std::filesystem::is_directory(path, ignored)) {
    throw_io("cannot create folder '", path.string(),
             "': ", error ? error.message() : "a file of that name exists");
  }
}

}  // namespace drrik
