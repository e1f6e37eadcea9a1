#include "hub/transfer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <exception>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "drrik/base/file.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/log.h"
#include "hub/hash.h"
#include "hub/url.h"

namespace drrik::hub {
namespace {

namespace fs = std::filesystem;

// A wrong checksum is fetched once more: the part that was there before may have been at fault.
constexpr int kFetches = 2;

std::string reason() { return std::error_code(errno, std::generic_category()).message(); }

std::optional<std::uint64_t> to_size(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value <= std::uint64_t{INT64_MAX} ? std::optional(value) : std::nullopt;
}

std::string plain_etag(std::string text) {
  if (text.starts_with("W/")) text.erase(0, 2);
  std::erase(text, '"');
  return text;
}

struct Range {
  std::uint64_t begin = 0;
  std::optional<std::uint64_t> total;
};

// "bytes 100-199/200".
std::optional<Range> content_range(const HttpResponse& response) {
  std::string_view text;
  const auto header = response.find("content-range");
  if (!header || !header->starts_with("bytes ")) return std::nullopt;
  text = std::string_view(*header).substr(6);
  const std::size_t dash = text.find('-');
  const std::size_t slash = text.find('/');
  if (dash == text.npos || slash == text.npos || dash > slash) return std::nullopt;
  const auto begin = to_size(text.substr(0, dash));
  if (!begin) return std::nullopt;
  return Range{*begin, to_size(text.substr(slash + 1))};
}

// The bytes of one file on their way to the disk. What arrives twice is written twice, at the same
// place: where locks between processes do not work, two of them write the same bytes.
class Arrival {
 public:
  Arrival(const RemoteFile& file, fs::path path, std::string name, Transfer& transfer)
      : file_(file), path_(std::move(path)), name_(std::move(name)), transfer_(transfer) {
    // Not AtomicFile: what has come must outlive this process.
    fd_ = UniqueFd(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
    struct stat status {};
    if (fd_.get() < 0 || fstat(fd_.get(), &status) != 0) {
      throw_io("cannot write '", path_.string(), "': ", reason());
    }
    const auto there = static_cast<std::uint64_t>(status.st_size);
    restart();
    // git's sha1 needs the length first; without it such a file is fetched whole.
    const bool usable = there > 0 && (!file_.bytes || there <= *file_.bytes) && can_hash();
    if (usable) {
      have_ = hash_ ? hash_file(*hash_, fd_.get(), there, path_) : there;
      resumed_ = have_ > 0;
      transfer_.advance(static_cast<std::int64_t>(have_));
      if (resumed_) log_debug(name_, ": going on after ", have_, " bytes");
    }
    best_ = have_;
  }

  std::uint64_t have() const { return have_; }
  bool complete() const { return file_.bytes && have_ == *file_.bytes; }
  /// Whether more is there than ever before; asked after each try.
  bool gained() {
    const bool more = have_ > best_;
    best_ = std::max(best_, have_);
    return more;
  }

  void restart() {
    transfer_.advance(-static_cast<std::int64_t>(have_));
    have_ = 0;
    resumed_ = false;
    hash_.reset();
    const auto kind = hash_kind(file_.etag);
    if (kind == HashKind::kSha256 || (kind && file_.bytes)) {
      hash_.emplace(*kind, file_.bytes.value_or(0));
    }
  }

  void check_room() const {
    struct statvfs space {};
    if (!file_.bytes || ::fstatvfs(fd_.get(), &space) != 0) return;
    const std::uint64_t free = std::uint64_t{space.f_bavail} * space.f_frsize;
    const std::uint64_t missing = *file_.bytes - std::min(have_, *file_.bytes);
    if (missing > free) {
      throw_io(name_, ": ", missing, " bytes are still to come, '", path_.parent_path().string(),
               "' has room for ", free, "; free some space or choose another --cache-dir");
    }
  }

  void take(std::span<const char> bytes) {
    if (file_.bytes && bytes.size() > *file_.bytes - have_) {
      corrupt(str("has more than the ", *file_.bytes, " bytes it should have"));
    }
    for (std::size_t done = 0; done < bytes.size();) {
      const ssize_t n = ::pwrite(fd_.get(), bytes.data() + done, bytes.size() - done,
                                 static_cast<off_t>(have_ + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        const bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
        throw_io(
            "cannot write '", path_.string(), "': ", reason(),
            full ? "; what has come is kept: with some space free the same command goes on" : "");
      }
      done += static_cast<std::size_t>(n);
    }
    if (hash_) hash_->update(bytes);
    have_ += bytes.size();
    transfer_.advance(static_cast<std::int64_t>(bytes.size()));
  }

  /// The end of the file was reached. False: the checksum is wrong, and what was resumed is gone.
  bool finish() {
    if (::ftruncate(fd_.get(), static_cast<off_t>(have_)) != 0 || ::fsync(fd_.get()) != 0) {
      throw_io("cannot write '", path_.string(), "': ", reason());
    }
    const auto kind = hash_kind(file_.etag);
    // git's sha1 of a file whose length was not told before.
    const std::string found = hash_ ? hash_->digest() : kind ? file_digest(path_, *kind) : "";
    if (!kind || found == file_.etag) return true;
    const std::string what = str(*kind == HashKind::kSha256 ? "sha256" : "git sha1", " is ", found,
                                 ", wanted ", file_.etag);
    const bool last = ++fetches_ == kFetches;
    if (last) corrupt(what);
    log_warning(name_, ": ", what, "; fetching it once more from the start");
    restart();
    best_ = 0;
    return false;
  }

 private:
  bool can_hash() const { return hash_ || !hash_kind(file_.etag); }

  [[noreturn]] void corrupt(const std::string& what) {
    ::unlink(path_.c_str());
    throw HubError(
        HubFailure::kCorrupt,
        str(name_, " ", what, "; the damaged download was thrown away, nothing uses it"));
  }

  const RemoteFile& file_;
  fs::path path_;
  std::string name_;
  Transfer& transfer_;
  UniqueFd fd_;
  std::uint64_t have_ = 0;
  std::uint64_t best_ = 0;
  bool resumed_ = false;
  int fetches_ = 0;
  std::optional<Hash> hash_;
};

// One GET. Answers its head; the bytes went to `arrival`.
Answer get_once(Session& session, const std::string& url, Arrival& arrival) {
  Session::Request request;
  request.url = url;
  request.stall_timeout = session.options().download_timeout;
  if (arrival.have() > 0) request.headers.push_back(str("Range: bytes=", arrival.have(), "-"));
  bool first = true;
  return session.send(request, [&](const HttpResponse& head, std::span<const char> bytes) {
    if (std::exchange(first, false)) {
      // The whole file although its end was asked for, or a part that was not asked for.
      if (head.status != 206 && arrival.have() > 0) arrival.restart();
      const auto range = content_range(head);
      if (head.status == 206 && (!range || range->begin != arrival.have())) {
        arrival.restart();
        return false;
      }
    }
    arrival.take(bytes);
    return true;
  });
}

}  // namespace

RemoteFile ask(Session& session, const Repo& repo, const std::string& path, int retries) {
  const Answer answer =
      session.send_with_retries({.url = session.options().endpoint + resolve_path(repo, path),
                                 .head = true,
                                 .stall_timeout = session.options().etag_timeout},
                                retries);
  const HttpResponse& response = answer.response;
  RemoteFile file;
  file.path = path;
  file.commit = response.find("x-repo-commit").value_or("");
  const bool good = (response.status >= 200 && response.status < 300) || response.redirects();
  if (!good) {
    HubError error = session.refusal(answer, repo, path);
    if (error.failure() != HubFailure::kEntryNotFound) throw error;
    file.absent = true;
    return file;
  }
  if (!is_commit(file.commit)) {
    throw HubError(HubFailure::kServer,
                   str("the answer for file '", path, "' of ", repo.text(),
                       " names no commit (X-Repo-Commit): ", shown_url(session.options().endpoint),
                       " is not a Hub, or a proxy stands between"));
  }
  file.etag =
      plain_etag(response.find("x-linked-etag").value_or(response.find("etag").value_or("")));
  if (file.etag.empty()) {
    throw HubError(HubFailure::kServer, str("the answer for file '", path, "' of ", repo.text(),
                                            " names no content (ETag)"));
  }
  const auto linked = response.find("x-linked-size");
  const auto length = response.find("content-length");
  if (linked) {
    file.bytes = to_size(*linked);
  } else if (length && !response.redirects() && !response.find("content-encoding")) {
    file.bytes = to_size(*length);
  }
  return file;
}

void Transfer::expect(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  total_ += static_cast<std::int64_t>(bytes);
  if (progress_ != nullptr) progress_->set_total(total_);
}

void Transfer::advance(std::int64_t bytes) {
  if (bytes == 0 || !shown_) return;
  const std::lock_guard lock(mutex_);
  if (progress_ == nullptr) progress_ = std::make_unique<Progress>(label_, total_, "bytes");
  progress_->advance(bytes);
}

std::string fetch_start(Session& session, const Repo& repo, const std::string& path,
                        std::size_t count) {
  std::string out;
  if (count == 0) return out;
  const Session::Request request{
      .url = session.options().endpoint + resolve_path(repo, path),
      // As they lie: an encoding would make the range one of other bytes.
      .headers = {str("Range: bytes=0-", count - 1), "Accept-Encoding: identity"},
      .stall_timeout = session.options().download_timeout};
  for (int failures = 0;;) {
    out.clear();
    try {
      const Answer answer =
          session.send(request, [&](const HttpResponse&, std::span<const char> bytes) {
            out.append(bytes.data(), std::min(bytes.size(), count - out.size()));
            return out.size() < count;
          });
      const int status = answer.response.status;
      if (status >= 200 && status < 300) return out;
      if (status == 416) return "";  // an empty file has no first byte
      if (!Session::may_pass(status) || failures == session.options().retries) {
        throw session.refusal(answer, repo, path);
      }
      session.wait(++failures, &answer.response);
    } catch (const NetworkError& error) {
      if (failures >= error.limit(session.options().retries)) throw;
      log_warning(error.what(), "; trying again");
      session.wait(++failures, nullptr);
    }
  }
}

void fetch(Session& session, const Repo& repo, const RemoteFile& file, const fs::path& incomplete,
           Transfer& transfer) {
  const std::string name = str("file '", file.path, "' of ", repo.text());
  // By commit, so that a push in the meantime does not mix two contents; and by the Hub's own
  // address each time, since what it redirects to is signed for minutes only.
  const std::string url =
      session.options().endpoint + resolve_path({repo.type, repo.id, file.commit}, file.path);
  Arrival arrival(file, incomplete, name, transfer);
  arrival.check_room();
  const int retries = session.options().retries;
  for (int failures = 0;;) {
    if (arrival.complete()) {
      if (arrival.finish()) return;
      continue;
    }
    int allowed = retries;
    std::string trouble;
    std::optional<HttpResponse> refused;
    try {
      const Answer answer = get_once(session, url, arrival);
      const int status = answer.response.status;
      if (status >= 200 && status < 300) {
        if (!file.bytes) {
          if (arrival.finish()) return;
          continue;
        }
        if (arrival.complete()) continue;
        trouble = str(name, ": the answer ended after ", arrival.have(), " bytes");
      } else if (status == 416) {
        arrival.restart();
        trouble = str(name, ": the server has no bytes after those that are there");
      } else {
        // Of a signed address at another host, 403 says that its time is over.
        const bool expired = status == 403 && origin_of(answer.url) != origin_of(url);
        HubError error = session.refusal(answer, {repo.type, repo.id, file.commit}, file.path);
        if (!Session::may_pass(status) && !expired) throw error;
        trouble = error.what();
        refused = answer.response;
      }
    } catch (const NetworkError& error) {
      allowed = error.limit(retries);
      if (allowed == 0) throw;
      trouble = str(name, ": ", error.what());
    }
    failures = arrival.gained() ? 1 : failures + 1;
    if (failures > allowed) {
      throw HubError(refused ? HubFailure::kServer : HubFailure::kNetwork,
                     str(trouble, "; given up after ", failures,
                         " tries. What has come is kept: the same command goes on"));
    }
    log_warning(trouble, "; try ", failures, " of ", allowed);
    session.wait(failures, refused ? &*refused : nullptr);
  }
}

void for_each_parallel(std::size_t n, int workers, const std::function<void(std::size_t)>& f) {
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error;
  std::mutex mutex;
  const auto work = [&] {
    const StopScope scope(failed);
    for (std::size_t i = next++; i < n && !failed; i = next++) {
      try {
        f(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failed.exchange(true)) error = std::current_exception();
      }
    }
  };
  const auto count = std::min<std::size_t>(n, static_cast<std::size_t>(std::clamp(workers, 1, 64)));
  std::vector<std::thread> threads;
  for (std::size_t i = 1; i < count; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace drrik::hub
