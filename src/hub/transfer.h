#pragma once
// Files from the Hub to the disk: what the Hub says of a file, its bytes with resume and checksum,
// and several at once under one progress bar.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "drrik/base/progress.h"
#include "drrik/hub/client.h"
#include "hub/session.h"

namespace drrik::hub {

/// What a HEAD of a file says.
struct RemoteFile {
  std::string path;
  std::string commit;
  std::string etag;                    ///< The name of its content; "" when `absent`.
  std::optional<std::uint64_t> bytes;  ///< Unknown when the server does not say.
  bool absent = false;                 ///< The revision has no such file.
};

/// Asks for a file's metadata. Throws HubError for everything but a file that is absent.
RemoteFile ask(Session& session, const Repo& repo, const std::string& path, int retries);

/// The one bar of a download; drawn once bytes are to come. Thread-safe.
class Transfer {
 public:
  explicit Transfer(std::string label, bool shown = true)
      : label_(std::move(label)), shown_(shown) {}
  /// More bytes are expected.
  void expect(std::uint64_t bytes);
  /// Bytes arrived (or, negative, were thrown away).
  void advance(std::int64_t bytes);

 private:
  std::string label_;
  bool shown_;
  std::mutex mutex_;
  std::int64_t total_ = 0;
  std::unique_ptr<Progress> progress_;
};

/// Fetches the bytes of `file` into `incomplete`, going on from what is there, and compares the
/// checksum; flushed to the disk when it returns. Throws HubError (kCorrupt: nothing is kept, what
/// came before is otherwise), Error(io) when the disk is full, Error(interrupted).
void fetch(Session& session, const Repo& repo, const RemoteFile& file,
           const std::filesystem::path& incomplete, Transfer& transfer);

/// The first `count` bytes of a file, fewer when it is shorter, by a ranged request; what a server
/// without ranges sends more is not read. Throws HubError as a file that must be there.
std::string fetch_start(Session& session, const Repo& repo, const std::string& path,
                        std::size_t count);

/// Calls f(0) … f(n-1) from up to `workers` threads. The first error ends the others' transfers and
/// is thrown.
void for_each_parallel(std::size_t n, int workers, const std::function<void(std::size_t)>& f);

}  // namespace drrik::hub
