#include "serve/text_job.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <new>
#include <utility>

namespace drrik {
namespace {

JobError current_error() {
  try {
    throw;
  } catch (const Error& error) {
    return {error.kind(), error.what()};
  } catch (const std::bad_alloc&) {
    return {ErrorKind::kInterrupted, "the server is out of memory for this request"};
  } catch (const std::exception& error) {
    return {ErrorKind::kNumeric, error.what()};
  }
}

const JobError kStopping{ErrorKind::kInterrupted, "the server is stopping"};

std::string finish_reason(const SteeredText& text) {
  const bool stopped = !text.stopped_by.empty() || text.generated.finish == FinishReason::kStopId;
  return stopped ? "stop" : "length";
}

}  // namespace

TextJob::TextJob(std::vector<SteeredStream> streams) {
  for (SteeredStream& stream : streams) {
    prompt_tokens_ += static_cast<std::int64_t>(stream.text().prompt_ids.size());
    texts_.push_back({std::move(stream), false});
  }
  news_.resize(texts_.size());
  fresh_.resize(texts_.size());
  for (std::size_t i = 0; i < news_.size(); ++i) news_[i].text = i;
}

bool TextJob::step() {
  for (std::size_t tried = 0; tried < texts_.size(); ++tried) {
    const std::size_t i = next_;
    next_ = (next_ + 1) % texts_.size();
    Text& text = texts_[i];
    if (text.over) continue;
    try {
      const std::optional<std::string> piece = text.stream.next();
      const SteeredText& so_far = text.stream.text();
      const std::lock_guard lock(mutex_);
      TextNews& news = news_[i];
      if (piece) news.piece += *piece;
      text.over = !piece;
      news.done = text.over;
      news.tokens = static_cast<std::int64_t>(so_far.generated.ids.size());
      if (text.over) news.finish_reason = finish_reason(so_far);
      fresh_[i] = text.over || !news.piece.empty();
    } catch (...) {
      finish(current_error());
      return false;
    }
    changed_.notify_all();
    break;
  }
  if (std::all_of(texts_.begin(), texts_.end(), [](const Text& one) { return one.over; })) {
    finish({});
    return false;
  }
  return true;
}

void TextJob::drop() { finish(kStopping); }

void TextJob::finish(std::optional<JobError> error) {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
    error_ = std::move(error);
  }
  changed_.notify_all();
}

TextJob::News TextJob::wait(int milliseconds) {
  std::unique_lock lock(mutex_);
  const auto any = [&] {
    return over_ || std::find(fresh_.begin(), fresh_.end(), true) != fresh_.end();
  };
  changed_.wait_for(lock, std::chrono::milliseconds(milliseconds), any);
  News out;
  for (std::size_t i = 0; i < news_.size(); ++i) {
    if (!fresh_[i]) continue;
    out.texts.push_back(news_[i]);
    news_[i].piece.clear();
    fresh_[i] = false;
  }
  out.over = over_;
  out.error = error_;
  return out;
}

bool CallJob::step() {
  Result result;
  try {
    result.value = work_();
  } catch (...) {
    result.error = current_error();
  }
  {
    const std::lock_guard lock(mutex_);
    result_ = std::move(result);
  }
  changed_.notify_all();
  return false;
}

void CallJob::drop() {
  {
    const std::lock_guard lock(mutex_);
    result_.error = kStopping;
  }
  changed_.notify_all();
}

CallJob::Result CallJob::wait(int milliseconds) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::milliseconds(milliseconds),
                    [&] { return result_.value || result_.error; });
  return result_;
}

}  // namespace drrik
