#pragma once
// Who may ask: names that requests come to, origins that they come from, tokens.

#include <string>
#include <string_view>
#include <vector>

#include "drrik/base/secret.h"

namespace drrik {

/// Whether a host to listen on is this machine alone.
bool is_loopback(std::string_view host);
/// Whether it is every address of this machine.
bool is_wildcard(std::string_view host);
/// "192.168.0.3", "[::1]": no name that somebody else's DNS could point here.
bool is_address(std::string_view host);

/// In time that depends on the length of `wanted` alone.
bool same_secret(std::string_view given, std::string_view wanted);

/// 32 hexadecimal digits from the system's generator.
std::string random_hex();

/// What a browser on another site, or a name that was made to point here (DNS rebinding), cannot
/// get past.
class AccessRules {
 public:
  AccessRules(std::string host, int port, Secret token);

  /// Of a Host header.
  bool host_allowed(std::string_view host) const;
  /// Of an Origin header.
  bool origin_allowed(std::string_view origin) const;

  bool needs_token() const { return !token_.empty(); }
  bool token_matches(std::string_view token) const;
  /// Whether the headers carry the token or the session that it began.
  bool authorized(std::string_view authorization, std::string_view cookies) const;
  /// "drrik_session=…; HttpOnly; SameSite=Strict; Path=/".
  std::string session_cookie() const;

 private:
  std::string host_;
  int port_;
  Secret token_;
  Secret session_;
};

}  // namespace drrik
