#include "hub/fake_hub.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <set>

#include "drrik/base/rng.h"
#include "hub/hash.h"
#include "io/json.h"

namespace drrik::hub_test {
namespace {

std::string hex_digest(hub::HashKind kind, const std::string& content) {
  hub::Hash hash(kind, content.size());
  hash.update(content);
  return hash.digest();
}

std::string percent_decode(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      out += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

struct File {
  std::string content;
  bool lfs = false;
};
struct Branch {
  std::string commit;
  std::map<std::string, File> files;
};
struct FakeRepo {
  std::map<std::string, Branch> branches;
  std::string token;
  bool gated = false;
};

// A proxy of the machine that runs the tests knows nothing of its loopback.
void forget_proxies() {
  for (const char* name : {"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy",
                           "ALL_PROXY", "no_proxy", "NO_PROXY"}) {
    ::unsetenv(name);
  }
}

int listen_on_loopback(int& port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (fd < 0 || ::bind(fd, any, size) != 0 || ::listen(fd, 64) != 0 ||
      ::getsockname(fd, any, &size) != 0) {
    std::abort();
  }
  port = ntohs(address.sin_port);
  return fd;
}

bool send_all(int fd, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t n = ::send(fd, data, size, MSG_NOSIGNAL);
    if (n <= 0) return false;
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

Reply refuse(int status, const std::string& code, const std::string& message = "") {
  Reply reply;
  reply.status = status;
  if (!code.empty()) reply.headers.emplace_back("X-Error-Code", code);
  if (!message.empty()) reply.headers.emplace_back("X-Error-Message", message);
  reply.body = "{\"error\":\"" + message + "\"}";
  return reply;
}

}  // namespace

std::string git_sha1(const std::string& content) {
  return hex_digest(hub::HashKind::kGitSha1, content);
}
std::string sha256(const std::string& content) {
  return hex_digest(hub::HashKind::kSha256, content);
}

std::string noise(std::size_t bytes, unsigned seed) {
  Rng rng(seed);
  std::string out(bytes, '\0');
  for (char& c : out) c = static_cast<char>(rng.next_u32());
  return out;
}

struct FakeHub::Impl {
  int hub_port = 0;
  int storage_port = 0;
  int hub_fd = -1;
  int storage_fd = -1;
  std::atomic<bool> stop{false};
  mutable std::mutex mutex;
  std::map<std::string, FakeRepo> repos;
  std::map<std::string, std::string> renamed;
  std::map<std::string, std::string> stored;  // sha256 -> content
  Hook hook;
  std::vector<Seen> seen;
  std::vector<std::thread> threads;

  void pause(double seconds) const {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (!stop && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  void accept_loop(int fd, bool storage) {
    while (!stop) {
      pollfd ready{fd, POLLIN, 0};
      if (::poll(&ready, 1, 20) <= 0) continue;
      const int client = ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0) continue;
      const std::lock_guard lock(mutex);
      threads.emplace_back([this, client, storage] {
        serve(client, storage);
        ::close(client);
      });
    }
  }

  void serve(int fd, bool storage) {
    std::string text;
    char buffer[4096];
    while (text.find("\r\n\r\n") == std::string::npos) {
      pollfd ready{fd, POLLIN, 0};
      if (stop || text.size() > 65536) return;
      if (::poll(&ready, 1, 20) <= 0) continue;
      const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
      if (n <= 0) return;
      text.append(buffer, static_cast<std::size_t>(n));
    }
    Seen request;
    request.storage = storage;
    const std::size_t first = text.find(' ');
    const std::size_t second = text.find(' ', first + 1);
    request.method = text.substr(0, first);
    request.target = text.substr(first + 1, second - first - 1);
    for (std::size_t at = text.find("\r\n") + 2; at < text.size() - 2;) {
      const std::size_t end = text.find("\r\n", at);
      const std::size_t colon = text.find(':', at);
      std::string name = text.substr(at, colon - at);
      std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
      request.headers[name] = text.substr(colon + 2, end - colon - 2);
      at = end + 2;
    }
    Hook ask;
    {
      const std::lock_guard lock(mutex);
      seen.push_back(request);
      ask = hook;
    }
    const auto usual = [&] { return storage ? storage_reply(request) : hub_reply(request); };
    std::optional<Reply> reply;
    if (ask) reply = ask(request, usual);
    send(fd, request, reply ? *reply : usual());
  }

  void send(int fd, const Seen& request, const Reply& reply) {
    pause(reply.delay);
    if (reply.hang_up || stop) return;
    std::string head = "HTTP/1.1 " + std::to_string(reply.status) + " X\r\nConnection: close\r\n";
    for (const auto& [name, value] : reply.headers) head += name + ": " + value + "\r\n";
    if (reply.length) head += "Content-Length: " + std::to_string(reply.body.size()) + "\r\n";
    head += "\r\n";
    if (!send_all(fd, head.data(), head.size()) || request.method == "HEAD") return;
    const std::size_t end = std::min({reply.body.size(), reply.cut.value_or(reply.body.size()),
                                      reply.stall.value_or(reply.body.size())});
    const std::size_t step = reply.slow_chunk > 0 ? reply.slow_chunk : end + 1;
    for (std::size_t at = 0; at < end && !stop; at += step) {
      if (!send_all(fd, reply.body.data() + at, std::min(step, end - at))) return;
      if (reply.slow_chunk > 0) pause(0.02);
    }
    if (reply.stall) pause(3600);
  }

  static Reply content(const Seen& request, const std::string& body) {
    Reply reply;
    const std::string range = request.header("range");
    if (!range.starts_with("bytes=")) {
      reply.body = body;
      return reply;
    }
    const std::size_t begin = std::stoul(range.substr(6));
    if (begin >= body.size()) {
      reply.status = 416;
      reply.headers.emplace_back("Content-Range", "bytes */" + std::to_string(body.size()));
      return reply;
    }
    reply.status = 206;
    const std::string last = range.substr(range.find('-') + 1);
    const std::size_t end =
        last.empty() ? body.size() : std::min(std::stoul(last) + 1, body.size());
    reply.headers.emplace_back("Content-Range", "bytes " + std::to_string(begin) + "-" +
                                                    std::to_string(end - 1) + "/" +
                                                    std::to_string(body.size()));
    reply.body = body.substr(begin, end - begin);
    return reply;
  }

  Reply storage_reply(const Seen& request) {
    const std::lock_guard lock(mutex);
    const std::string name = request.target.substr(1, request.target.find('?') - 1);
    const auto found = stored.find(name);
    return found == stored.end() ? refuse(404, "") : content(request, found->second);
  }

  // Splits "models/org/name/rest" by the repositories there are; answers the rest.
  FakeRepo* find_repo(const std::string& path, std::string& name, std::string& rest) {
    for (auto& [key, repo] : repos) {
      if (path == key || path.starts_with(key + "/")) {
        name = key;
        rest = path.substr(key.size());
        return &repo;
      }
    }
    return nullptr;
  }

  static Branch* find_branch(FakeRepo& repo, const std::string& revision) {
    for (auto& [name, branch] : repo.branches) {
      if (name == revision || branch.commit == revision) return &branch;
    }
    return nullptr;
  }

  Reply hub_reply(const Seen& request) {
    const std::lock_guard lock(mutex);
    std::string path = request.target.substr(0, request.target.find('?'));
    const bool api = path.starts_with("/api/");
    std::string full = api ? path.substr(5) : path.substr(1);
    if (!api && !full.starts_with("datasets/")) full = "models/" + full;
    for (const auto& [from, to] : renamed) {
      if (full != from && !full.starts_with(from + "/")) continue;
      const std::string other = to + full.substr(from.size());
      Reply reply;
      reply.status = 307;
      reply.headers.emplace_back(
          "Location",
          api ? "/api/" + other : "/" + (other.starts_with("models/") ? other.substr(7) : other));
      return reply;
    }
    std::string name;
    std::string rest;
    FakeRepo* repo = find_repo(full, name, rest);
    const std::string bearer = request.header("authorization");
    if (repo == nullptr) return refuse(bearer.empty() ? 401 : 404, "RepoNotFound", "not found");
    if (!repo->token.empty() && bearer != "Bearer " + repo->token) {
      if (!bearer.empty()) return refuse(401, "", "Invalid credentials in Authorization header");
      return repo->gated ? refuse(401, "GatedRepo", "Access is restricted")
                         : refuse(401, "RepoNotFound", "Repository not found");
    }
    return api ? api_reply(*repo, name, rest) : file_reply(request, *repo, rest);
  }

  static Reply api_reply(FakeRepo& repo, const std::string& name, const std::string& rest) {
    const bool tree = rest.starts_with("/tree/");
    const std::string revision =
        rest.empty() ? "main" : percent_decode(rest.substr(tree ? 6 : rest.find('/', 1) + 1));
    if (!tree && !rest.empty() && !rest.starts_with("/revision/")) return refuse(404, "");
    Branch* branch = find_branch(repo, revision);
    if (branch == nullptr) return refuse(404, "RevisionNotFound", "Invalid rev id");
    Json json = tree ? Json::array() : Json::object();
    if (!tree) json = {{"id", name}, {"sha", branch->commit}, {"siblings", Json::array()}};
    for (const auto& [path, file] : branch->files) {
      if (!tree) {
        json["siblings"].push_back({{"rfilename", path}});
        continue;
      }
      Json entry{{"type", "file"},
                 {"path", path},
                 {"size", file.content.size()},
                 {"oid", git_sha1(file.content)}};
      if (file.lfs) {
        entry["lfs"] = {{"oid", sha256(file.content)}, {"size", file.content.size()}};
      }
      json.push_back(entry);
    }
    Reply reply;
    reply.body = json.dump();
    return reply;
  }

  Reply file_reply(const Seen& request, FakeRepo& repo, const std::string& rest) {
    if (!rest.starts_with("/resolve/")) return refuse(404, "");
    const std::size_t slash = rest.find('/', 9);
    Branch* branch = find_branch(repo, percent_decode(rest.substr(9, slash - 9)));
    if (branch == nullptr) return refuse(404, "RevisionNotFound", "Invalid rev id");
    const auto found = branch->files.find(percent_decode(rest.substr(slash + 1)));
    if (found == branch->files.end()) {
      Reply reply = refuse(404, "EntryNotFound", "Entry not found");
      reply.headers.emplace_back("X-Repo-Commit", branch->commit);
      return reply;
    }
    const File& file = found->second;
    Reply reply = file.lfs ? Reply{} : content(request, file.content);
    reply.headers.emplace_back("X-Repo-Commit", branch->commit);
    if (!file.lfs) {
      reply.headers.emplace_back("ETag", "\"" + git_sha1(file.content) + "\"");
      return reply;
    }
    const std::string hash = sha256(file.content);
    reply.status = 302;
    reply.headers.emplace_back("X-Linked-Etag", "\"" + hash + "\"");
    reply.headers.emplace_back("X-Linked-Size", std::to_string(file.content.size()));
    reply.headers.emplace_back("ETag", "\"something-else\"");
    reply.headers.emplace_back("Location", "http://localhost:" + std::to_string(storage_port) +
                                               "/" + hash + "?X-Signature=secretsignature");
    return reply;
  }
};

FakeHub::FakeHub() : impl_(std::make_unique<Impl>()) {
  forget_proxies();
  impl_->hub_fd = listen_on_loopback(impl_->hub_port);
  impl_->storage_fd = listen_on_loopback(impl_->storage_port);
  std::thread hub([this] { impl_->accept_loop(impl_->hub_fd, false); });
  std::thread storage([this] { impl_->accept_loop(impl_->storage_fd, true); });
  const std::lock_guard lock(impl_->mutex);
  impl_->threads.push_back(std::move(hub));
  impl_->threads.push_back(std::move(storage));
}

FakeHub::~FakeHub() {
  impl_->stop = true;
  for (;;) {
    std::vector<std::thread> threads;
    {
      const std::lock_guard lock(impl_->mutex);
      threads.swap(impl_->threads);
    }
    if (threads.empty()) break;
    for (std::thread& thread : threads) thread.join();
  }
  ::close(impl_->hub_fd);
  ::close(impl_->storage_fd);
}

std::string FakeHub::endpoint() const {
  return "http://127.0.0.1:" + std::to_string(impl_->hub_port);
}
std::string FakeHub::storage() const {
  return "http://localhost:" + std::to_string(impl_->storage_port);
}

std::string FakeHub::commit(const std::string& repo) { return git_sha1(repo); }

void FakeHub::add(const std::string& repo, const std::string& path, const std::string& content,
                  bool lfs) {
  const std::lock_guard lock(impl_->mutex);
  Branch& branch = impl_->repos[repo].branches["main"];
  branch.commit = commit(repo);
  branch.files[path] = {content, lfs};
  if (lfs) impl_->stored[sha256(content)] = content;
}

void FakeHub::add_branch(const std::string& repo, const std::string& branch,
                         const std::string& path, const std::string& content) {
  const std::lock_guard lock(impl_->mutex);
  Branch& made = impl_->repos[repo].branches[branch];
  made.commit = git_sha1(repo + branch);
  made.files[path] = {content, false};
}

void FakeHub::require_token(const std::string& repo, const std::string& token, bool gated) {
  const std::lock_guard lock(impl_->mutex);
  impl_->repos[repo].token = token;
  impl_->repos[repo].gated = gated;
}

void FakeHub::rename(const std::string& from, const std::string& to) {
  const std::lock_guard lock(impl_->mutex);
  impl_->renamed[from] = to;
}

void FakeHub::on_request(Hook hook) {
  const std::lock_guard lock(impl_->mutex);
  impl_->hook = std::move(hook);
}

std::vector<Seen> FakeHub::seen() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->seen;
}

std::size_t FakeHub::count(const std::string& method, const std::string& part) const {
  const std::vector<Seen> all = seen();
  return static_cast<std::size_t>(std::ranges::count_if(all, [&](const Seen& one) {
    return one.method == method && one.target.find(part) != std::string::npos;
  }));
}

void FakeHub::forget() {
  const std::lock_guard lock(impl_->mutex);
  impl_->seen.clear();
}

}  // namespace drrik::hub_test
