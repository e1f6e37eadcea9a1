#pragma once
// Secret: a token or key that cannot be printed by accident.

#include <ostream>
#include <string>
#include <string_view>
#include <utility>

namespace drrik {

/// Holds a credential. Streaming it prints "***" (nothing when empty); the text itself is only
/// given by reveal(), so that every place that uses it can be found by that name.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string text) : text_(std::move(text)) {}

  bool empty() const { return text_.empty(); }
  /// The credential. For the request that needs it, never for messages, logs or files.
  const std::string& reveal() const { return text_; }

  friend std::ostream& operator<<(std::ostream& out, const Secret& secret) {
    return out << (secret.empty() ? "" : "***");
  }

 private:
  std::string text_;
};

/// `value` without white space at its ends. Throws Error(usage), naming the variable `name` and
/// never the value, for blanks, control characters or others that would break a request header.
Secret checked_secret(const std::string& name, std::string_view value);

}  // namespace drrik
