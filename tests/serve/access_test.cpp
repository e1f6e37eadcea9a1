#include "serve/access.h"

#include <gtest/gtest.h>

namespace drrik {
namespace {

TEST(Access, KnowsThisMachineFromOthers) {
  for (const char* host : {"127.0.0.1", "localhost", "LOCALHOST", "::1", "127.1.2.3"}) {
    EXPECT_TRUE(is_loopback(host)) << host;
  }
  for (const char* host : {"0.0.0.0", "192.168.0.1", "example.com", "127.evil.com", "::", ""}) {
    EXPECT_FALSE(is_loopback(host)) << host;
  }
  EXPECT_TRUE(is_address("10.0.0.1"));
  EXPECT_TRUE(is_address("[fe80::1]"));
  EXPECT_FALSE(is_address("10.0.0.1.example.com"));
}

TEST(Access, TakesItsOwnNamesWithItsPortOnly) {
  const AccessRules rules("127.0.0.1", 7860, Secret());
  for (const char* host : {"127.0.0.1:7860", "localhost:7860", "LocalHost:7860", "[::1]:7860"}) {
    EXPECT_TRUE(rules.host_allowed(host)) << host;
    EXPECT_TRUE(rules.origin_allowed(std::string("http://") + host)) << host;
  }
  for (const char* host :
       {"", "127.0.0.1", "localhost", "127.0.0.1:80", "evil.com:7860", "127.0.0.1.evil.com:7860",
        "localhost:78600", "192.168.0.2:7860", "127.0.0.1:7860:7860", "evil.com#127.0.0.1:7860"}) {
    EXPECT_FALSE(rules.host_allowed(host)) << host;
    EXPECT_FALSE(rules.origin_allowed(std::string("http://") + host)) << host;
  }
  for (const char* origin : {"null", "https://127.0.0.1:7860", "127.0.0.1:7860", "",
                             "http://127.0.0.1:7860.evil.com", "file://"}) {
    EXPECT_FALSE(rules.origin_allowed(origin)) << origin;
  }
}

TEST(Access, EverywhereTakesAddressesButNoForeignNames) {
  const AccessRules rules("0.0.0.0", 80, Secret("t"));
  EXPECT_TRUE(rules.host_allowed("192.168.0.2"));
  EXPECT_TRUE(rules.host_allowed("192.168.0.2:80"));
  EXPECT_FALSE(rules.host_allowed("evil.com"));
  const AccessRules named("box.lan", 80, Secret("t"));
  EXPECT_TRUE(named.host_allowed("box.lan"));
  EXPECT_FALSE(named.host_allowed("192.168.0.2"));
}

TEST(Access, ComparesSecretsWhole) {
  EXPECT_TRUE(same_secret("abc", "abc"));
  for (const char* wrong : {"", "a", "ab", "abd", "abcabc", "abca", "xbc"}) {
    EXPECT_FALSE(same_secret(wrong, "abc")) << wrong;
  }
}

TEST(Access, TakesTheTokenOrItsSession) {
  const AccessRules rules("127.0.0.1", 7860, Secret("s3cret"));
  EXPECT_TRUE(rules.authorized("Bearer s3cret", ""));
  for (const char* wrong : {"", "s3cret", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret ",
                            "Basic s3cret", "Bearer s3crets3cret"}) {
    EXPECT_FALSE(rules.authorized(wrong, "")) << wrong;
  }
  const std::string cookie = rules.session_cookie();
  EXPECT_NE(cookie.find("HttpOnly"), std::string::npos);
  EXPECT_NE(cookie.find("SameSite=Strict"), std::string::npos);
  EXPECT_EQ(cookie.find("s3cret"), std::string::npos);
  const std::string pair = cookie.substr(0, cookie.find(';'));
  EXPECT_TRUE(rules.authorized("", pair));
  EXPECT_TRUE(rules.authorized("", "other=1; " + pair + "; more=2"));
  EXPECT_FALSE(rules.authorized("", "drrik_session=s3cret"));
  EXPECT_FALSE(rules.authorized("", pair.substr(0, pair.size() - 1)));
  EXPECT_FALSE(rules.authorized("", "x" + pair));
  // Another server's session is another one.
  EXPECT_FALSE(AccessRules("127.0.0.1", 7860, Secret("s3cret")).authorized("", pair));
  EXPECT_TRUE(AccessRules("127.0.0.1", 7860, Secret()).authorized("", ""));
}

}  // namespace
}  // namespace drrik
