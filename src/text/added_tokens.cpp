#include "text/added_tokens.h"

#include <algorithm>

#include "drrik/base/error.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace drrik::text {
namespace {

// Matching takes time in proportion to the longest token; real ones have some dozens of bytes.
constexpr std::size_t kMaxTokenBytes = 4096;

bool word_before(std::string_view text, std::size_t at) {
  if (at == 0) return false;
  std::size_t length = 0;
  const std::size_t start = previous_char(text, at);
  return unicode::has(decode_char(text.data() + start, length), unicode::kRustWord);
}

bool word_after(std::string_view text, std::size_t at) {
  if (at >= text.size()) return false;
  std::size_t length = 0;
  return unicode::has(decode_char(text.data() + at, length), unicode::kRustWord);
}

std::size_t skip_space_left(std::string_view text, std::size_t at) {
  while (at > 0) {
    const std::size_t start = previous_char(text, at);
    std::size_t length = 0;
    if (!unicode::has(decode_char(text.data() + start, length), unicode::kSpace)) break;
    at = start;
  }
  return at;
}

std::size_t skip_space_right(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    std::size_t length = 0;
    if (!unicode::has(decode_char(text.data() + at, length), unicode::kSpace)) break;
    at += length;
  }
  return at;
}

}  // namespace

AddedToken parse_added_token(const Node& node) {
  AddedToken token;
  token.content = std::string(node.get("content").string());
  token.single_word = node.boolean_or("single_word", false);
  token.lstrip = node.boolean_or("lstrip", false);
  token.rstrip = node.boolean_or("rstrip", false);
  token.special = node.boolean_or("special", false);
  token.normalized = node.boolean_or("normalized", !token.special);
  if (token.content.size() > kMaxTokenBytes) {
    node.fail(str("an added token of ", token.content.size(), " bytes; at most ", kMaxTokenBytes));
  }
  return token;
}

std::int32_t StringMatcher::child_of(std::int32_t node, char byte) const {
  std::int32_t child = nodes_[static_cast<std::size_t>(node)].child;
  while (child >= 0 && nodes_[static_cast<std::size_t>(child)].byte != byte) {
    child = nodes_[static_cast<std::size_t>(child)].sibling;
  }
  return child;
}

void StringMatcher::add(std::string_view pattern, std::int32_t value) {
  if (pattern.empty()) return;
  if (starts_.empty()) starts_.resize(std::size_t{1} << 16);
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(pattern[i]); };
  for (std::size_t second = 0; second < 256; ++second) {
    if (pattern.size() == 1 || byte(1) == second)
      starts_[std::size_t{byte(0)} << 8 | second] = true;
  }
  std::int32_t node = 0;
  for (const char c : pattern) {
    std::int32_t child = child_of(node, c);
    if (child < 0) {
      child = static_cast<std::int32_t>(nodes_.size());
      nodes_.push_back({-1, -1, nodes_[static_cast<std::size_t>(node)].child, c});
      nodes_[static_cast<std::size_t>(node)].child = child;
      if (node == 0) roots_[byte(0)] = child;
    }
    node = child;
  }
  auto& found = nodes_[static_cast<std::size_t>(node)].value;
  if (found < 0) found = value;
}

bool StringMatcher::find(std::string_view text, std::size_t from, Match& match) const {
  if (empty()) return false;
  for (std::size_t at = from; at < text.size(); ++at) {
    const auto b0 = static_cast<unsigned char>(text[at]);
    const auto b1 = at + 1 < text.size() ? static_cast<unsigned char>(text[at + 1]) : 0u;
    // At the last byte only a pattern of one byte can match, which the trie finds out.
    if (!starts_[std::size_t{b0} << 8 | b1] && at + 1 < text.size()) continue;
    std::int32_t node = roots_[b0];
    if (node == 0) continue;
    match.value = -1;
    for (std::size_t i = at + 1; node > 0; ++i) {
      const TrieNode& here = nodes_[static_cast<std::size_t>(node)];
      if (here.value >= 0) match = {at, i, here.value};
      if (i >= text.size()) break;
      node = child_of(node, text[i]);
    }
    if (match.value >= 0) return true;
  }
  return false;
}

void AddedTokens::add(AddedToken token, const Model& model, const Normalizer* normalizer) {
  if (token.content.empty()) return;
  std::int32_t next = static_cast<std::int32_t>(model.vocabulary().size());
  if (largest_ >= next) next = largest_ + 1;
  const auto known = ids_.find(token.content);
  const std::int32_t in_model = model.vocabulary().find(token.content);
  token.id = known != ids_.end() ? known->second : (in_model >= 0 ? in_model : next);
  largest_ = std::max(largest_, token.id);
  token.normal_form = token.content;
  if (token.normalized && normalizer != nullptr) {
    bool at_start = true;
    normalizer->apply(token.normal_form, at_start);
  }
  ids_[token.content] = token.id;
  if (token.special) special_.insert(token.content);
  const auto [place, is_new] = by_id_.emplace(token.id, tokens_.size());
  if (is_new) {
    tokens_.push_back(std::move(token));
  } else {
    tokens_[place->second] = std::move(token);
  }
}

void AddedTokens::build_matchers() {
  matcher_[0] = StringMatcher();
  matcher_[1] = StringMatcher();
  for (const AddedToken& token : tokens_) {
    matcher_[token.normalized ? 1 : 0].add(token.normalized ? token.normal_form : token.content,
                                           token.id);
  }
}

void AddedTokens::cut(std::string_view text, bool normalized, std::vector<Stretch>& out) const {
  out.clear();
  const StringMatcher& matcher = matcher_[normalized ? 1 : 0];
  std::size_t done = 0;
  StringMatcher::Match match;
  for (std::size_t from = 0; matcher.find(text, from, match);) {
    from = match.end;
    const AddedToken& token = *find_id(match.value);
    if (split_special_ && is_special_text(token.content)) continue;
    std::size_t begin = match.begin;
    std::size_t end = match.end;
    if (token.single_word && (word_before(text, begin) || word_after(text, end))) continue;
    // What the match before has taken stays taken.
    if (token.lstrip) begin = std::max(skip_space_left(text, begin), done);
    if (token.rstrip) end = skip_space_right(text, end);
    if (done < begin) out.push_back({done, begin, -1});
    if (begin < end) out.push_back({begin, end, match.value});
    done = end;
  }
  if (done < text.size()) out.push_back({done, text.size(), -1});
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto found = ids_.find(std::string(content));
  return found == ids_.end() ? nullptr : find_id(found->second);
}

const AddedToken* AddedTokens::find_id(std::int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

bool AddedTokens::is_special_text(std::string_view text) const {
  return special_.contains(std::string(text));
}

}  // namespace drrik::text
