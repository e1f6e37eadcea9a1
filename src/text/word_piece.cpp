// WordPiece: greedily the longest token from the left; a word that does not come out whole is
// unknown.

#include <limits>

#include "drrik/base/error.h"
#include "text/byte_trie.h"
#include "text/model.h"
#include "text/utf8.h"
#include "text/word_cache.h"

namespace drrik::text {
namespace {

class WordPiece : public Model {
 public:
  WordPiece(const Node& options, const Node& data);

  std::unique_ptr<ModelWorkspace> make_workspace() const override {
    return std::make_unique<CachedWorkspace>();
  }
  void encode(std::string_view piece, ModelWorkspace& workspace,
              std::vector<std::int32_t>& out) const override {
    static_cast<CachedWorkspace&>(workspace).cache.through(
        piece, out, [&](std::string_view word) { encode_word(word, out); });
  }

 private:
  void encode_word(std::string_view word, std::vector<std::int32_t>& out) const;
  bool too_long(std::string_view word) const;

  std::size_t max_chars_ = 100;
  std::int32_t unk_id_ = -1;
  // Tokens as they stand at a word's beginning, and those with the prefix, without it.
  ByteTrie first_;
  ByteTrie inner_;
};

WordPiece::WordPiece(const Node& options, const Node& data) {
  unk_token_ = options.string_or("unk_token", "[UNK]");
  const std::string prefix = options.string_or("continuing_subword_prefix", "##");
  if (const auto limit = options.find("max_input_chars_per_word")) {
    const std::int64_t value = limit->integer();
    if (value < 0) limit->fail(str("got ", value, ", wanted at least 0"));
    max_chars_ = static_cast<std::size_t>(value);
  }
  vocabulary_ = Vocabulary(data.get("vocab"));
  unk_id_ = vocabulary_.find(unk_token_);
  std::vector<std::pair<std::string_view, std::int32_t>> first;
  std::vector<std::pair<std::string_view, std::int32_t>> inner;
  vocabulary_.for_each([&](std::string_view token, std::int32_t id) {
    first.emplace_back(token, id);
    if (token.starts_with(prefix)) inner.emplace_back(token.substr(prefix.size()), id);
  });
  first_ = ByteTrie(std::move(first));
  inner_ = ByteTrie(std::move(inner));
}

bool WordPiece::too_long(std::string_view word) const {
  if (word.size() <= max_chars_) return false;
  std::size_t chars = 0;
  for (const char c : word) chars += (static_cast<unsigned char>(c) & 0xC0u) != 0x80u ? 1 : 0;
  return chars > max_chars_;
}

void WordPiece::encode_word(std::string_view word, std::vector<std::int32_t>& out) const {
  const std::size_t before = out.size();
  bool whole = !too_long(word);
  for (std::size_t at = 0; whole && at < word.size();) {
    const ByteTrie& trie = at == 0 ? first_ : inner_;
    std::size_t end = at;
    std::int32_t id = -1;
    std::uint32_t node = ByteTrie::kRoot;
    for (std::size_t i = at; i < word.size();) {
      node = trie.step(node, static_cast<unsigned char>(word[i]));
      if (node == ByteTrie::kMiss) break;
      ++i;
      if (trie.value(node) >= 0) {
        id = trie.value(node);
        end = i;
      }
    }
    whole = id >= 0;
    at = end;
    out.push_back(id);
  }
  if (whole) return;
  if (unk_id_ < 0) throw_data("model.unk_token: '", unk_token_, "' is not in the vocabulary");
  out.resize(before);
  out.push_back(unk_id_);
}

}  // namespace

std::unique_ptr<Model> make_word_piece(const Node& options, const Node& data) {
  return std::make_unique<WordPiece>(options, data);
}

}  // namespace drrik::text
