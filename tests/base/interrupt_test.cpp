#include "drrik/base/interrupt.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <ctime>

#include "drrik/base/error.h"
#include "drrik/base/file.h"

namespace drrik {
namespace {

void wait_ms(long ms) {
  timespec left{ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&left, &left) != 0) {
  }
}

/// Wait status of a process of its own that runs `f` and ends with what it answers.
template <typename F>
int status_of(F&& f) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(30);
    _exit(f());
  }
  int status = -1;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

void expect_exit(int status, int code) {
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << (WIFSIGNALED(status) ? WTERMSIG(status) : 0);
  if (WIFEXITED(status)) {
    EXPECT_EQ(WEXITSTATUS(status), code);
  }
}

void expect_killed(int status, int signal) {
  ASSERT_TRUE(WIFSIGNALED(status)) << "exit status " << WEXITSTATUS(status);
  EXPECT_EQ(WTERMSIG(status), signal);
}

TEST(Interrupt, EverySignalThatAsksToStopSetsTheFlag) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    expect_exit(status_of([&] {
                  install_interrupt_handler();
                  if (interrupted()) return 1;
                  std::raise(signal);
                  return interrupted() ? 0 : 2;
                }),
                0);
  }
}

// timeout(1) signals its child and then the whole process group: the same request, twice.
TEST(Interrupt, ASignalRightAfterTheFirstIsTheSameRequest) {
  expect_exit(status_of([] {
                install_interrupt_handler();
                std::raise(SIGTERM);
                std::raise(SIGTERM);
                std::raise(SIGINT);
                return interrupted() ? 0 : 1;
              }),
              0);
}

TEST(Interrupt, ASecondSignalALittleLaterEndsTheProcess) {
  expect_killed(status_of([] {
                  install_interrupt_handler();
                  std::raise(SIGINT);
                  wait_ms(1050);
                  std::raise(SIGINT);
                  return 0;
                }),
                SIGINT);
}

TEST(Interrupt, AClearedFlagStartsOver) {
  expect_exit(status_of([] {
                install_interrupt_handler();
                std::raise(SIGINT);
                set_interrupted(false);
                wait_ms(1050);
                std::raise(SIGINT);
                return interrupted() ? 0 : 1;
              }),
              0);
}

// A flag that the program set itself is no first signal.
TEST(Interrupt, TheFirstSignalAfterSetInterruptedDoesNotEndTheProcess) {
  expect_exit(status_of([] {
                install_interrupt_handler();
                set_interrupted(true);
                std::raise(SIGINT);
                return 0;
              }),
              0);
}

TEST(Interrupt, ALostTerminalStaysIgnoredUnderNohup) {
  expect_exit(status_of([] {
                std::signal(SIGHUP, SIG_IGN);
                install_interrupt_handler();
                std::raise(SIGHUP);
                return interrupted() ? 1 : 0;
              }),
              0);
}

TEST(Interrupt, AFileSizeLimitIsAnIoError) {
  const auto path =
      std::filesystem::temp_directory_path() / str("drrik-interrupt-test-", getpid(), ".txt");
  expect_exit(status_of([&] {
                install_interrupt_handler();
                const rlimit small{4096, 4096};
                setrlimit(RLIMIT_FSIZE, &small);
                try {
                  write_file_atomic(path, std::string(1 << 21, 'x'));
                } catch (const Error& error) {
                  return static_cast<int>(error.kind());
                }
                return 0;
              }),
              static_cast<int>(ErrorKind::kIo));
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace drrik
