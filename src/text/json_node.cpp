#include "text/json_node.h"

#include "drrik/base/error.h"
#include "text/utf8.h"

namespace drrik::text {

void Node::fail(const std::string& what) const { throw_data(where_, ": ", what); }

std::string_view Node::string() const {
  std::string_view out;
  if (element_.get(out) != simdjson::SUCCESS) fail("a string is wanted");
  return out;
}

bool Node::boolean() const {
  bool out = false;
  if (element_.get(out) != simdjson::SUCCESS) fail("true or false is wanted");
  return out;
}

std::int64_t Node::integer() const {
  std::int64_t out = 0;
  if (element_.get(out) != simdjson::SUCCESS) fail("an integer is wanted");
  return out;
}

std::int32_t Node::id() const {
  const std::int64_t value = integer();
  if (value < 0 || value > INT32_MAX) fail(str("id ", value, " is out of range"));
  return static_cast<std::int32_t>(value);
}

simdjson::dom::object Node::object() const {
  simdjson::dom::object out;
  if (element_.get(out) != simdjson::SUCCESS) fail("an object is wanted");
  return out;
}

simdjson::dom::array Node::array() const {
  simdjson::dom::array out;
  if (element_.get(out) != simdjson::SUCCESS) fail("an array is wanted");
  return out;
}

std::uint32_t Node::character() const {
  const std::string_view value = string();
  if (value.empty() || char_length(value[0]) != value.size()) fail("one character is wanted");
  std::size_t length = 0;
  return decode_char(value.data(), length);
}

std::vector<Node> Node::items() const {
  std::vector<Node> out;
  for (const simdjson::dom::element item : array()) {
    out.emplace_back(item, str(where_, "[", out.size(), "]"));
  }
  return out;
}

std::optional<Node> Node::find(std::string_view key) const {
  simdjson::dom::element value;
  if (object().at_key(key).get(value) != simdjson::SUCCESS || value.is_null()) return std::nullopt;
  return Node(value, where_.empty() ? std::string(key) : str(where_, ".", key));
}

Node Node::get(std::string_view key) const {
  std::optional<Node> out = find(key);
  if (!out) fail(str("member '", key, "' is missing"));
  return *std::move(out);
}

bool Node::boolean_or(std::string_view key, bool otherwise) const {
  const std::optional<Node> member = find(key);
  return member ? member->boolean() : otherwise;
}

std::string Node::string_or(std::string_view key, std::string_view otherwise) const {
  const std::optional<Node> member = find(key);
  return std::string(member ? member->string() : otherwise);
}

}  // namespace drrik::text
