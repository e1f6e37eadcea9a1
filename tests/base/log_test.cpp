#include "drrik/base/log.h"

#include <gtest/gtest.h>

#include "drrik/base/progress.h"

namespace drrik {
namespace {

TEST(Log, DropsWhatIsBelowTheLevel) {
  std::string seen;
  set_log_sink([&](LogLevel, std::string_view message) { seen += std::string(message) + ";"; });
  set_log_level(LogLevel::kWarning);
  log_info("quiet");
  log_warning("loud ", 1);
  set_log_level(LogLevel::kInfo);
  log_info("heard");
  set_log_sink(nullptr);
  EXPECT_EQ(seen, "loud 1;heard;");
}

TEST(Log, LevelNames) {
  EXPECT_EQ(parse_log_level("debug"), LogLevel::kDebug);
  EXPECT_EQ(parse_log_level("CRITICAL"), LogLevel::kCritical);
  try {
    parse_log_level("warnin");
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_NE(std::string(error.what()).find("did you mean 'WARNING'"), std::string::npos);
  }
}

TEST(Progress, PrintsOnePlainLineWhenNotOnATerminal) {
  testing::internal::CaptureStderr();
  {
    Progress progress("Training", 10, "steps");
    for (int i = 0; i < 10; ++i) progress.advance(1);
    progress.set_note("loss 0.5");
    progress.finish();
    progress.finish();
  }
  const std::string out = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 1) << out;
  EXPECT_NE(out.find("100%"), std::string::npos) << out;
  EXPECT_NE(out.find("10/10 steps"), std::string::npos) << out;
  EXPECT_NE(out.find("loss 0.5"), std::string::npos) << out;
}

TEST(Progress, IsSilentWhenTurnedOff) {
  testing::internal::CaptureStderr();
  set_progress_enabled(false);
  { Progress("Training", 10, "steps").advance(10); }
  set_progress_enabled(true);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace drrik
