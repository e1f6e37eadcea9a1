#include "drrik/base/system.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "drrik/base/file.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

class Memory : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("drrik-system-test-" + std::to_string(getpid()));
    fs::remove_all(root_);
    write("proc/meminfo", "MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable:    5000 kB\n");
  }
  void TearDown() override { fs::remove_all(root_); }
  void write(const std::string& name, std::string_view text) const {
    write_file_atomic(root_ / name, text);
  }
  std::uint64_t available() const { return available_memory_bytes(root_); }
  fs::path root_;
};

TEST_F(Memory, IsWhatTheMachineHasWhereNothingLimitsIt) {
  EXPECT_EQ(available(), 5000U * 1024);
  EXPECT_GT(available_memory_bytes(), 1U << 20);
}

TEST_F(Memory, IsWhatACgroupOfVersion2Leaves) {
  write("proc/self/cgroup", "0::/a/b\n");
  write("sys/fs/cgroup/a/b/memory.max", "max\n");
  write("sys/fs/cgroup/a/b/memory.current", "70000\n");
  EXPECT_EQ(available(), 5000U * 1024);
  // A parent's limit holds as well; inactive pages of files make way.
  write("sys/fs/cgroup/a/memory.max", "1000000\n");
  write("sys/fs/cgroup/a/memory.current", "300000\n");
  write("sys/fs/cgroup/a/memory.stat", "anon 5\nfile 250000\ninactive_file 200000\n");
  EXPECT_EQ(available(), 900000U);
  write("sys/fs/cgroup/a/b/memory.max", "80000\n");
  EXPECT_EQ(available(), 10000U);
  write("sys/fs/cgroup/a/b/memory.current", "90000\n");
  EXPECT_EQ(available(), 0U);
}

TEST_F(Memory, IsWhatACgroupOfVersion1Leaves) {
  write("proc/self/cgroup", "9:cpu,cpuacct:/x\n4:memory:/box\n0::/\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "100\n");
  EXPECT_EQ(available(), 5000U * 1024);
  write("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "500000\n");
  write("sys/fs/cgroup/memory/box/memory.usage_in_bytes", "200000\n");
  write("sys/fs/cgroup/memory/box/memory.stat", "cache 7\ntotal_inactive_file 50000\n");
  EXPECT_EQ(available(), 350000U);
}

}  // namespace
}  // namespace drrik
