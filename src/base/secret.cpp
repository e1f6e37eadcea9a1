#include "drrik/base/secret.h"

#include "drrik/base/error.h"

namespace drrik {

Secret checked_secret(const std::string& name, std::string_view value) {
  const std::string_view token = trim(value);
  for (const char c : token) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x21 || byte >= 0x7f) {
      throw_usage(name, ": holds a blank or a character that no token has; wanted one token");
    }
  }
  return Secret(std::string(token));
}

}  // namespace drrik
