#pragma once
// Tokens that are found in the text as they stand, before the model sees it.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "text/json_node.h"
#include "text/model.h"
#include "text/normalizer.h"

namespace drrik::text {

struct AddedToken {
  std::string content;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = true;
  bool special = false;
  std::int32_t id = -1;
  std::string normal_form;  // of content, for tokens that are searched in normalized text
};

/// The entry of `added_tokens` or `added_tokens_decoder`, without its id.
AddedToken parse_added_token(const Node& node);

/// Finds the leftmost, then longest of many strings.
class StringMatcher {
 public:
  /// An empty or repeated string is left out.
  void add(std::string_view pattern, std::int32_t value);
  bool empty() const { return nodes_.size() <= 1; }
  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::int32_t value = -1;
  };
  bool find(std::string_view text, std::size_t from, Match& match) const;

 private:
  struct TrieNode {
    std::int32_t value = -1;
    std::int32_t child = -1;
    std::int32_t sibling = -1;
    char byte = 0;
  };
  std::int32_t child_of(std::int32_t node, char byte) const;
  std::vector<TrieNode> nodes_ = std::vector<TrieNode>(1);
  std::vector<std::int32_t> roots_ = std::vector<std::int32_t>(256);  // child of the root, 0: none
  // Whether some pattern begins with these two bytes (a pattern of one byte: with any second).
  std::vector<bool> starts_;
};

class AddedTokens {
 public:
  /// A stretch of text: an added token's id, or -1 for text between them.
  struct Stretch {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::int32_t id = -1;
  };

  /// Gives the token its id: the one its text has already, else the next free one.
  void add(AddedToken token, const Model& model, const Normalizer* normalizer);
  /// Whether the text of special tokens is cut as any other text.
  void split_special(bool on) { split_special_ = on; }
  /// After the last add().
  void build_matchers();

  /// Cuts raw (`normalized` false) or normalized text. `out` covers the text.
  void cut(std::string_view text, bool normalized, std::vector<Stretch>& out) const;
  bool any(bool normalized) const { return !matcher_[normalized ? 1 : 0].empty(); }

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  /// By text or by id; nullptr when absent.
  const AddedToken* find(std::string_view content) const;
  const AddedToken* find_id(std::int32_t id) const;
  bool is_special_text(std::string_view text) const;

 private:
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::unordered_map<std::int32_t, std::size_t> by_id_;  // index in tokens_
  std::unordered_set<std::string> special_;
  std::int32_t largest_ = -1;  // id
  bool split_special_ = false;
  StringMatcher matcher_[2];
};

}  // namespace drrik::text
