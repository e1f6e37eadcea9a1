#include "hub/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

#include "drrik/base/error.h"

namespace drrik::hub {
namespace {

constexpr std::size_t kMaxNameBytes = 255;
constexpr std::size_t kMaxPathBytes = 2048;

bool is_unreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.' || c == '-' || c == '~';
}

// libcurl's own parser, so that what we compare is what it will connect to.
class ParsedUrl {
 public:
  explicit ParsedUrl(std::string_view url) : handle_(curl_url(), curl_url_cleanup) { set(url); }

  bool valid() const { return valid_; }
  /// Replaces the URL; a relative one is resolved against what was there.
  void set(std::string_view url) {
    valid_ =
        handle_ != nullptr && curl_url_set(handle_.get(), CURLUPART_URL, std::string(url).c_str(),
                                           CURLU_URLENCODE) == CURLUE_OK;
  }
  std::string get(CURLUPart part) const {
    char* text = nullptr;
    if (!valid_ || curl_url_get(handle_.get(), part, &text, CURLU_DEFAULT_PORT) != CURLUE_OK) {
      return "";
    }
    std::string out(text);
    curl_free(text);
    return out;
  }

 private:
  std::unique_ptr<CURLU, void (*)(CURLU*)> handle_;
  bool valid_ = false;
};

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

}  // namespace

std::string percent_encode(std::string_view text, std::string_view keep) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    if (is_unreserved(c) || keep.find(c) != std::string_view::npos) {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += kHex[byte >> 4U];
    out += kHex[byte & 15U];
  }
  return out;
}

std::string origin_of(std::string_view url) {
  const ParsedUrl parsed(url);
  const std::string scheme = lower(parsed.get(CURLUPART_SCHEME));
  const std::string host = lower(parsed.get(CURLUPART_HOST));
  if ((scheme != "http" && scheme != "https") || host.empty()) return "";
  return scheme + "://" + host + ":" + parsed.get(CURLUPART_PORT);
}

std::string resolve_location(std::string_view base, std::string_view location) {
  ParsedUrl parsed(base);
  if (parsed.valid()) parsed.set(location);
  if (!parsed.valid()) return "";
  return parsed.get(CURLUPART_URL);
}

std::string shown_url(std::string_view url) {
  const ParsedUrl parsed(url);
  if (!parsed.valid()) return "(a malformed URL)";
  const std::string scheme = lower(parsed.get(CURLUPART_SCHEME));
  const std::string port = parsed.get(CURLUPART_PORT);
  const bool usual = port == (scheme == "https" ? "443" : "80");
  return scheme + "://" + parsed.get(CURLUPART_HOST) + (usual ? "" : ":" + port) +
         parsed.get(CURLUPART_PATH);
}

bool is_safe_path(std::string_view path) {
  if (path.empty() || path.size() > kMaxPathBytes) return false;
  const bool plain = std::ranges::none_of(
      path, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '\\'; });
  if (!plain) return false;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == ".." || part.size() > kMaxNameBytes) return false;
    begin = end + 1;
  }
  return true;
}

void check_path(std::string_view path, std::string_view where) {
  if (is_safe_path(path)) return;
  std::string shown(path.substr(0, 100));
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  throw_data(where, ": '", shown, "' is no name of a file inside a repository");
}

}  // namespace drrik::hub
