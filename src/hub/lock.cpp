#include "hub/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>

#include "drrik/base/interrupt.h"
#include "drrik/base/log.h"
#include "drrik/base/system.h"

namespace drrik::hub {
namespace {

constexpr double kLogEvery = 10;  // seconds, as huggingface_hub
constexpr auto kPoll = std::chrono::milliseconds(50);
constexpr mode_t kMode = 0664;  // users who share a cache wait for each other

}  // namespace

FileLock::FileLock(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  fd_ = UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kMode));
  if (fd_.get() < 0) {
    log_debug("no lock '", path.string(), "': ", std::generic_category().message(errno));
    return;
  }
  double next_word = monotonic_seconds() + kLogEvery;
  for (;;) {
    if (::flock(fd_.get(), LOCK_EX | LOCK_NB) == 0) break;
    if (errno != EWOULDBLOCK && errno != EINTR && errno != EACCES) {
      log_debug("no lock '", path.string(), "': ", std::generic_category().message(errno));
      fd_.reset();
      return;
    }
    check_interrupt("waiting for another process that downloads the same file");
    if (monotonic_seconds() >= next_word) {
      next_word += kLogEvery;
      log_info("waiting for another process that downloads the same file ('", path.string(), "')");
    }
    std::this_thread::sleep_for(kPoll);
  }
  held_ = true;
}

}  // namespace drrik::hub
