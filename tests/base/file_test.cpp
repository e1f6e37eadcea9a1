#include "drrik/base/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>

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
