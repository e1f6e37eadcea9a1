#pragma once
// Texts of one request, written by the scheduler's thread and read by the connection's.

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/steer/steering.h"
#include "serve/scheduler.h"

namespace drrik {

/// What one text gained since it was last looked at.
struct TextNews {
  std::size_t text = 0;  ///< Which.
  std::string piece;     ///< Whole characters.
  bool done = false;
  std::string finish_reason;  ///< "stop" or "length", when done.
  std::int64_t tokens = 0;    ///< Written so far.
};

/// A failure on the way to the client.
struct JobError {
  ErrorKind kind = ErrorKind::kData;
  std::string message;
};

/// Its texts grow side by side, a token each in turn.
class TextJob final : public Job {
 public:
  explicit TextJob(std::vector<SteeredStream> streams);

  bool step() override;
  void drop() override;

  struct News {
    std::vector<TextNews> texts;
    bool over = false;  ///< Nothing follows.
    std::optional<JobError> error;
  };
  /// Waits up to `milliseconds` for something new. What it gives is not given again; a slow reader
  /// finds the pieces joined.
  News wait(int milliseconds);
  /// Tokens of every prompt together.
  std::int64_t prompt_tokens() const { return prompt_tokens_; }

 private:
  struct Text {
    SteeredStream stream;
    bool over = false;
  };
  void finish(std::optional<JobError> error);

  std::vector<Text> texts_;  // the scheduler's thread
  std::size_t next_ = 0;
  std::int64_t prompt_tokens_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<TextNews> news_;  // by text
  std::vector<bool> fresh_;
  bool over_ = false;
  std::optional<JobError> error_;
};

/// One computation whose result is waited for.
class CallJob final : public Job {
 public:
  explicit CallJob(std::function<std::string()> work) : work_(std::move(work)) {}
  bool step() override;
  void drop() override;
  /// The result, an error, or nothing yet.
  struct Result {
    std::optional<std::string> value;
    std::optional<JobError> error;
  };
  Result wait(int milliseconds);

 private:
  std::function<std::string()> work_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Result result_;
};

}  // namespace drrik
