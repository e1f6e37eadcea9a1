#include "drrik/base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <functional>
#include <thread>
#include <vector>

#include "drrik/base/error.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

class Files : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / str("drrik-file-test-", getpid(), "-", counter_++);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_), {}));
  }
  static void expect_io(const std::string& part, const std::function<void()>& f) {
    try {
      f();
      ADD_FAILURE() << "no error, wanted one with '" << part << "'";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kIo) << error.what();
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
  fs::path folder_;
  static inline int counter_ = 0;
};

TEST_F(Files, AtomicWriteAppearsOnlyAtCommit) {
  const fs::path path = folder_ / "deep" / "a.txt";
  AtomicFile file(path);
  file.write("hello ");
  file.write(std::string(3 << 20, 'x'));
  EXPECT_FALSE(fs::exists(path));
  const std::string patch = "HELLO";
  file.write_at(0, std::as_bytes(std::span(patch.data(), patch.size())));
  file.commit();
  const std::string text = read_file(path);
  EXPECT_EQ(text.size(), 6U + (3U << 20));
  EXPECT_EQ(text.substr(0, 7), "HELLO x");
}

TEST_F(Files, AbandonedWriteLeavesTheOldFileAndNoTemporary) {
  const fs::path path = folder_ / "a.txt";
  write_file_atomic(path, "old");
  {
    AtomicFile file(path);
    file.write("new");
  }
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(Files, FullDiskIsAnIoErrorAndKeepsTheOldFile) {
  // A file-size limit stands in for a full disk: write() fails the same way.
  const fs::path path = folder_ / "a.txt";
  write_file_atomic(path, "old");
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 4096;
  setrlimit(RLIMIT_FSIZE, &small);
  try {
    write_file_atomic(path, std::string(1 << 21, 'x'));
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    EXPECT_NE(std::string(error.what()).find("a.txt"), std::string::npos) << error.what();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(Files, LinksAreKeptAndTheirTargetIsWritten) {
  write_file_atomic(folder_ / "real" / "a.txt", "old");
  fs::create_symlink("real/a.txt", folder_ / "link");
  fs::create_symlink(folder_ / "link", folder_ / "second");
  fs::create_symlink("real/new.txt", folder_ / "dangling");
  write_file_atomic(folder_ / "second", "new");
  write_file_atomic(folder_ / "dangling", "made");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_TRUE(fs::is_symlink(folder_ / "second"));
  EXPECT_TRUE(fs::is_symlink(folder_ / "dangling"));
  EXPECT_FALSE(fs::is_symlink(folder_ / "real" / "a.txt"));
  EXPECT_EQ(read_file(folder_ / "real" / "a.txt"), "new");
  EXPECT_EQ(read_file(folder_ / "real" / "new.txt"), "made");
  fs::create_symlink("b", folder_ / "a");
  fs::create_symlink("a", folder_ / "b");
  expect_io("symbolic links", [&] { AtomicFile file(folder_ / "a"); });
}

TEST_F(Files, FoldersAndNamelessPathsAreRefusedAtOnce) {
  fs::create_directory(folder_ / "sub");
  fs::create_symlink("sub", folder_ / "link");
  expect_io("is a folder", [&] { AtomicFile file(folder_ / "sub"); });
  expect_io("is a folder", [&] { AtomicFile file(folder_ / "link"); });
  expect_io("names no file", [&] { AtomicFile file(folder_ / "absent" / ""); });
  expect_io("names no file", [] { AtomicFile file(""); });
  EXPECT_FALSE(fs::exists(folder_ / "absent"));
}

// What a reader of `path` gets until the writers have gone.
std::string read_all(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::string text;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::read(fd, buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<std::size_t>(n));
  }
  ::close(fd);
  return text;
}

TEST_F(Files, PipesAreWrittenInPlace) {
  const fs::path path = folder_ / "pipe";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  std::string got;
  // Before the change the pipe was replaced and the reader would wait for ever: open both ends.
  const int keep = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK);
  std::thread reader([&] { got = read_all(path); });
  {
    AtomicFile file(path);
    EXPECT_FALSE(file.can_seek());
    file.write("hello ");
    file.write(std::string(3 << 20, 'x'));
    const std::string patch = "HELLO";
    expect_io("cannot be rewritten",
              [&] { file.write_at(0, std::as_bytes(std::span(patch.data(), patch.size()))); });
    file.commit();
  }
  ::close(keep);
  reader.join();
  EXPECT_TRUE(fs::is_fifo(path));
  EXPECT_EQ(entries(), 1U);
  EXPECT_EQ(got.size(), 6U + (3U << 20));
  EXPECT_EQ(got.substr(0, 7), "hello x");
}

TEST_F(Files, DevicesAreWrittenInPlace) {
  // Copies of /dev/null and /dev/full, so that a mistake costs nothing.
  const fs::path null = folder_ / "null";
  const fs::path full = folder_ / "full";
  if (mknod(null.c_str(), S_IFCHR | 0666, makedev(1, 3)) != 0 ||
      mknod(full.c_str(), S_IFCHR | 0666, makedev(1, 7)) != 0) {
    GTEST_SKIP() << "SKIPPED: only root can make device nodes";
  }
  const int probe = ::open(null.c_str(), O_WRONLY | O_CLOEXEC);
  if (probe < 0) GTEST_SKIP() << "SKIPPED: devices cannot be opened in " << folder_;
  ::close(probe);
  fs::create_symlink("null", folder_ / "link");
  write_file_atomic(null, "gone");
  write_file_atomic(folder_ / "link", "gone");
  expect_io("cannot write", [&] { write_file_atomic(full, "no room"); });
  EXPECT_TRUE(fs::is_character_file(fs::symlink_status(null)));
  EXPECT_TRUE(fs::is_character_file(fs::symlink_status(full)));
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(entries(), 3U);
}

// /dev/stdout is a link to such a name. The descriptor itself is written: a second opening of its
// file would start at 0 and write over what others put there.
TEST_F(Files, OwnDescriptorsAreWrittenWhereTheyStand) {
  const fs::path path = folder_ / "log";
  const std::string patch = "NEW";
  const auto patch_bytes = std::as_bytes(std::span(patch.data(), patch.size()));
  for (const int mode : {O_TRUNC, O_APPEND}) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | mode, 0600);
    ASSERT_EQ(::write(fd, "before ", 7), 7);
    struct stat status {};
    ASSERT_EQ(fstat(fd, &status), 0);
    fs::remove(folder_ / "link");
    fs::create_symlink(str("/proc/self/fd/", fd), folder_ / "link");
    {
      AtomicFile file(folder_ / "link");
      file.write("new text");
      EXPECT_EQ(file.can_seek(), mode != O_APPEND);
      if (file.can_seek()) {
        file.write_at(0, patch_bytes);
      } else {
        expect_io("cannot be rewritten", [&] { file.write_at(0, patch_bytes); });
      }
      file.commit();
    }
    ASSERT_EQ(::write(fd, " after", 6), 6);
    ::close(fd);
    EXPECT_EQ(entries(), 2U);
  }
  EXPECT_EQ(read_file(path), "before NEW text afterbefore new text after");
  int ends[2] = {};
  ASSERT_EQ(pipe(ends), 0);
  write_file_atomic(str("/dev/fd/", ends[1]), "through");
  char buffer[16] = {};
  EXPECT_EQ(::read(ends[0], buffer, sizeof buffer), 7);
  expect_io("reading only", [&] { AtomicFile file(str("/dev/fd/", ends[0])); });
  ::close(ends[0]);
  ::close(ends[1]);
  expect_io("cannot write", [&] { AtomicFile file(str("/dev/fd/", ends[1])); });
}

TEST_F(Files, MissingFileNamesThePath) {
  for (const auto& open : {+[](const fs::path& p) { read_file(p); },
                           +[](const fs::path& p) { MappedFile::open(p); }}) {
    try {
      open(folder_ / "absent.bin");
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kIo);
      EXPECT_NE(std::string(error.what()).find("absent.bin"), std::string::npos);
    }
  }
  EXPECT_THROW(read_file(folder_), Error);
}

TEST_F(Files, PrefetchBringsPagesIn) {
  const fs::path path = folder_ / "a";
  write_file_atomic(path, std::string(5 << 20, 'x'));
  const auto file = MappedFile::open(path);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  file->prefetch((1 << 20) + 5, (2 << 20) + 1);
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t pages = (3 << 20) / page - (1 << 20) / page + 1;
  std::vector<unsigned char> resident(pages);
  ASSERT_EQ(mincore(const_cast<std::byte*>(file->bytes().data()) + (1 << 20), pages * page,
                    resident.data()),
            0);
  EXPECT_TRUE(std::all_of(resident.begin(), resident.end(),
                          [](unsigned char flags) { return (flags & 1U) != 0; }));
  file->prefetch(10 << 20, 1);  // beyond the end: nothing to read
  file->prefetch(0, ~std::size_t{0});
  EXPECT_EQ(file->bytes()[5], std::byte{'x'});
}

TEST_F(Files, PipesWithoutAWriterAreRefusedAndDoNotHang) {
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  expect_io("not a regular file", [&] { MappedFile::open(pipe); });
  expect_io("a pipe that nobody writes to", [&] { read_file(pipe); });
}

TEST_F(Files, PipesAreReadToTheirEndHoweverSlowTheWriter) {
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  // Open on both ends before the reader comes, so that it finds a writer that has yet to write.
  const int keep = ::open(pipe.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(keep, 0);
  std::thread writer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(::write(keep, "slow", 4), 4);
    ::close(keep);
  });
  EXPECT_EQ(read_file(pipe), "slow");
  writer.join();
}

TEST_F(Files, ReadRefusesMoreThanAsked) {
  write_file_atomic(folder_ / "a", std::string(100, 'x'));
  EXPECT_THROW(read_file(folder_ / "a", 99), Error);
  EXPECT_EQ(read_file(folder_ / "a", 100).size(), 100U);
}

TEST_F(Files, MappingSeesTheBytesAlsoAfterADrop) {
  const std::string text(100000, 'q');
  write_file_atomic(folder_ / "a", text);
  write_file_atomic(folder_ / "empty", "");
  const auto file = MappedFile::open(folder_ / "a");
  ASSERT_EQ(file->bytes().size(), text.size());
  file->drop(10, 90000);
  EXPECT_EQ(std::to_integer<char>(file->bytes()[50000]), 'q');
  EXPECT_TRUE(MappedFile::open(folder_ / "empty")->bytes().empty());
}

}  // namespace
}  // namespace drrik
