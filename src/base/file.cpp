#include "drrik/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "drrik/base/error.h"

namespace drrik {
namespace {

constexpr std::size_t kWriteBuffer = 1 << 20;

std::string reason() { return std::error_code(errno, std::generic_category()).message(); }

UniqueFd open_for_reading(const std::filesystem::path& path, struct stat& status) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) throw_io("cannot open '", path.string(), "': ", reason());
  if (fstat(fd.get(), &status) != 0) throw_io("cannot stat '", path.string(), "': ", reason());
  if (S_ISDIR(status.st_mode)) throw_io("'", path.string(), "' is a folder, wanted a file");
  return fd;
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

}  // namespace

void UniqueFd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  struct stat status {};
  const UniqueFd fd = open_for_reading(path, status);
  if (!S_ISREG(status.st_mode)) throw_io("'", path.string(), "' is not a regular file");
  auto file = std::shared_ptr<MappedFile>(new MappedFile);
  file->path_ = path;
  file->size_ = static_cast<std::size_t>(status.st_size);
  if (file->size_ > 0) {
    void* data = mmap(nullptr, file->size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (data == MAP_FAILED) throw_io("cannot map '", path.string(), "': ", reason());
    file->data_ = static_cast<const std::byte*>(data);
  }
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
    if (n == 0) return text;
    if (n < 0) {
      if (errno == EINTR) continue;
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
  if (path_.has_parent_path()) create_folders(path_.parent_path());
  temporary_ = path_;
  temporary_ += str(".tmp-", getpid(), "-", counter++);
  fd_ = UniqueFd(::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (fd_.get() < 0) throw_io("cannot create '", path_.string(), "': ", reason());
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      fd_(std::move(other.fd_)),
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
  flush();
  write_all(fd_.get(), bytes.data(), bytes.size(), static_cast<std::int64_t>(offset), path_);
}

void AtomicFile::flush() {
  if (buffer_.empty()) return;
  write_all(fd_.get(), reinterpret_cast<const std::byte*>(buffer_.data()), buffer_.size(), -1,
            path_);
  buffer_.clear();
}

void AtomicFile::commit() {
  flush();
  if (fsync(fd_.get()) != 0) throw_io("cannot write '", path_.string(), "': ", reason());
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
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
  std::filesystem::create_directories(path, error);
  if (error || !std::filesystem::is_directory(path)) {
    throw_io("cannot create folder '", path.string(),
             "': ", error ? error.message() : "a file of that name exists");
  }
}

}  // namespace drrik
