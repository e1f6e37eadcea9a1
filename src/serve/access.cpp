#include "serve/access.h"

#include <arpa/inet.h>
#include <sys/random.h>
#include <unistd.h>

#include <array>
#include <cstdint>

#include "drrik/base/error.h"

namespace drrik {
namespace {

constexpr std::string_view kCookie = "drrik_session=";

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string own_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? lower(name.data()) : "";
}

bool parses(int family, const std::string& text) {
  std::array<unsigned char, 16> address{};
  return inet_pton(family, text.c_str(), address.data()) == 1;
}

}  // namespace

bool is_loopback(std::string_view host) {
  const std::string name = lower(host);
  return name == "localhost" || name == "::1" || name == "[::1]" ||
         (name.starts_with("127.") && parses(AF_INET, name));
}

bool is_wildcard(std::string_view host) { return host == "0.0.0.0" || host == "::"; }

bool is_address(std::string_view host) {
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    return parses(AF_INET6, std::string(host.substr(1, host.size() - 2)));
  }
  return parses(AF_INET, std::string(host));
}

bool same_secret(std::string_view given, std::string_view wanted) {
  unsigned difference = given.size() == wanted.size() ? 0U : 1U;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const char c = given.empty() ? '\0' : given[i % given.size()];
    difference |= static_cast<unsigned char>(c) ^ static_cast<unsigned char>(wanted[i]);
  }
  return difference == 0U;
}

std::string random_hex() {
  std::array<unsigned char, 16> bytes{};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    throw_io("the system gives no random bytes");
  }
  std::string out;
  for (const unsigned char byte : bytes) {
    out += "0123456789abcdef"[byte >> 4U];
    out += "0123456789abcdef"[byte & 15U];
  }
  return out;
}

AccessRules::AccessRules(std::string host, int port, Secret token)
    : host_(lower(host)), port_(port), token_(std::move(token)), session_(random_hex()) {
  if (host_.find(':') != std::string::npos && host_.front() != '[') host_ = "[" + host_ + "]";
}

bool AccessRules::host_allowed(std::string_view header) const {
  std::string name = lower(header);
  const std::string port = ":" + std::to_string(port_);
  if (name.ends_with(port)) {
    name.resize(name.size() - port.size());
  } else if (port_ != 80) {
    return false;
  }
  if (name == "localhost" || name == "127.0.0.1" || name == "[::1]" || name == host_) return true;
  const bool everywhere = host_ == "0.0.0.0" || host_ == "[::]";
  return everywhere && (is_address(name) || (!name.empty() && name == own_name()));
}

bool AccessRules::origin_allowed(std::string_view origin) const {
  constexpr std::string_view kScheme = "http://";
  return origin.starts_with(kScheme) && host_allowed(origin.substr(kScheme.size()));
}

bool AccessRules::token_matches(std::string_view token) const {
  return same_secret(token, token_.reveal());
}

bool AccessRules::authorized(std::string_view authorization, std::string_view cookies) const {
  if (!needs_token()) return true;
  constexpr std::string_view kBearer = "Bearer ";
  if (authorization.starts_with(kBearer) && token_matches(authorization.substr(kBearer.size()))) {
    return true;
  }
  while (!cookies.empty()) {
    const std::size_t end = cookies.find(';');
    const std::string_view one = trim(cookies.substr(0, end));
    if (one.starts_with(kCookie) && same_secret(one.substr(kCookie.size()), session_.reveal())) {
      return true;
    }
    cookies = end == std::string_view::npos ? std::string_view() : cookies.substr(end + 1);
  }
  return false;
}

std::string AccessRules::session_cookie() const {
  return std::string(kCookie) + session_.reveal() + "; HttpOnly; SameSite=Strict; Path=/";
}

}  // namespace drrik
