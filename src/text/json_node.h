#pragma once
// A member of a parsed JSON file that knows where it stands, so that errors can say so.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <simdjson.h>

namespace drrik::text {

class Node {
 public:
  Node(simdjson::dom::element element, std::string where)
      : element_(element), where_(std::move(where)) {}

  const std::string& where() const { return where_; }
  simdjson::dom::element element() const { return element_; }
  [[noreturn]] void fail(const std::string& what) const;

  bool is_object() const { return element_.is_object(); }
  bool is_array() const { return element_.is_array(); }
  bool is_string() const { return element_.is_string(); }

  // Each throws Error(data) when the value has another type.
  std::string_view string() const;
  bool boolean() const;
  std::int64_t integer() const;
  /// An integer in [0, 2^31).
  std::int32_t id() const;
  simdjson::dom::object object() const;
  simdjson::dom::array array() const;
  /// One code point.
  std::uint32_t character() const;
  std::vector<Node> items() const;

  /// The member, or nullopt when it is absent or null. Throws when this is not an object.
  std::optional<Node> find(std::string_view key) const;
  Node get(std::string_view key) const;

  bool boolean_or(std::string_view key, bool otherwise) const;
  std::string string_or(std::string_view key, std::string_view otherwise) const;

 private:
  simdjson::dom::element element_;
  std::string where_;
};

}  // namespace drrik::text
