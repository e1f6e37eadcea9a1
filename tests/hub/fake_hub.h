#pragma once
// A Hub on this machine: speaks the protocol over two ports, 127.0.0.1 for the Hub and "localhost"
// for the storage it redirects to, remembers what it was asked, and misbehaves on request.

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace drrik::hub_test {

struct Seen {
  bool storage = false;  ///< At the second port.
  std::string method;
  std::string target;  ///< As sent, still encoded.
  std::map<std::string, std::string> headers;

  std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
  }
};

struct Reply {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::string body = {};
  bool length = true;                     ///< Send Content-Length.
  std::optional<std::size_t> cut = {};    ///< Close the connection after so many bytes of body.
  double delay = 0;                       ///< Seconds before the answer.
  std::optional<std::size_t> stall = {};  ///< Fall silent after so many bytes, until stopped.
  std::size_t slow_chunk = 0;  ///< Send so many bytes at a time, 20 ms apart; 0: at once.
  bool hang_up = false;        ///< Close without an answer.
};

class FakeHub {
 public:
  FakeHub();
  ~FakeHub();
  FakeHub(const FakeHub&) = delete;
  FakeHub& operator=(const FakeHub&) = delete;

  std::string endpoint() const;  ///< http://127.0.0.1:PORT
  std::string storage() const;   ///< http://localhost:PORT2

  /// `repo` is "models/org/name" or "datasets/org/name". Large files (lfs) redirect to the storage.
  void add(const std::string& repo, const std::string& path, const std::string& content,
           bool lfs = false);
  /// The commit that "main" and every revision given to it stand at.
  static std::string commit(const std::string& repo);
  /// A branch with a commit and files of its own.
  void add_branch(const std::string& repo, const std::string& branch, const std::string& path,
                  const std::string& content);
  void require_token(const std::string& repo, const std::string& token, bool gated = false);
  void rename(const std::string& from, const std::string& to);

  /// Asked first; nothing: the usual answer. `usual` computes it.
  using Hook =
      std::function<std::optional<Reply>(const Seen&, const std::function<Reply()>& usual)>;
  void on_request(Hook hook);

  std::vector<Seen> seen() const;
  std::size_t count(const std::string& method, const std::string& part) const;
  void forget();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// git's name of a small file and the sha256 of a large one.
std::string git_sha1(const std::string& content);
std::string sha256(const std::string& content);

/// Bytes without a pattern, the same for the same seed.
std::string noise(std::size_t bytes, unsigned seed = 1);

}  // namespace drrik::hub_test
