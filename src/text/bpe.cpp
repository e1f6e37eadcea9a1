// Byte-pair encoding, over characters (SentencePiece style) or bytes (GPT-2 style).

#include <algorithm>
#include <array>
#include <cstring>

#include "drrik/base/error.h"
#include "text/bpe_merge.h"
#include "text/model.h"
#include "text/utf8.h"
#include "text/word_cache.h"

namespace drrik::text {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

struct BpeWorkspace : CachedWorkspace {
  MergeBuffers merge;
  std::string symbol;
};

class Bpe : public Model {
 public:
  Bpe(const Node& options, const Node& data);

  std::unique_ptr<ModelWorkspace> make_workspace() const override {
    return std::make_unique<BpeWorkspace>();
  }
  void encode(std::string_view piece, ModelWorkspace& workspace,
              std::vector<std::int32_t>& out) const override;
  void encode_bytes(std::string_view piece, ModelWorkspace& workspace,
                    std::vector<std::int32_t>& out) const override;

 private:
  void load_merges(const Node& merges);
  void load_merge_ids(const Node& ids);
  void allow_cuts(bool marks_inside);
  void index_characters();
  std::int32_t character_id(std::uint32_t code, std::string_view bytes) const {
    if (code < short_ids_.size()) return short_ids_[code];
    return vocabulary_.find(bytes);
  }
  void split_characters(std::string_view piece, BpeWorkspace& workspace) const;
  bool split_bytes(std::string_view piece, BpeWorkspace& workspace) const;
  void encode_word(std::string_view word, bool bytes, BpeWorkspace& workspace,
                   std::vector<std::int32_t>& out) const;

  std::string prefix_;
  std::string suffix_;
  bool fuse_unk_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
  // No merge joins a character with a space mark behind it, so a piece may be cut there.
  bool cut_at_mark_ = false;
  std::int32_t unk_id_ = -1;
  MergeTable merges_;
  std::vector<std::int32_t> short_ids_;           // by code point, those of one or two bytes
  std::array<std::int32_t, 256> fallback_ids_{};  // <0xHH>
  std::array<std::int32_t, 256> byte_ids_{};      // characters of the byte alphabet
  std::vector<char> raw_arena_;
  StringTable raw_tokens_;  // tokens by the bytes they stand for; for ignore_merges only
};

Bpe::Bpe(const Node& options, const Node& data) {
  unk_token_ = options.string_or("unk_token", "");
  prefix_ = options.string_or("continuing_subword_prefix", "");
  suffix_ = options.string_or("end_of_word_suffix", "");
  fuse_unk_ = options.boolean_or("fuse_unk", false);
  byte_fallback_ = options.boolean_or("byte_fallback", false);
  ignore_merges_ = options.boolean_or("ignore_merges", false);
  // `dropout` is for training and left out: the same text must give the same ids.
  vocabulary_ = Vocabulary(data.get("vocab"));
  if (!unk_token_.empty()) unk_id_ = vocabulary_.find(unk_token_);
  // Written by drrik itself for files that name no merges (piece_merges.h).
  if (const auto ids = data.find("merge_ids")) {
    load_merge_ids(*ids);
  } else {
    load_merges(data.get("merges"));
  }
  index_characters();
}

/// Whether a space mark stands behind another character.
bool has_inner_mark(std::string_view token) {
  for (std::size_t at = token.find(kSpaceMark, 1); at != std::string_view::npos;
       at = token.find(kSpaceMark, at + 1)) {
    if (!token.substr(0, at).ends_with(kSpaceMark)) return true;
  }
  return false;
}

/// The two tokens of a merge, "a b" or ["a", "b"]; false for a version line.
bool parse_merge(const Node& merges, simdjson::dom::element item, std::size_t line,
                 std::string_view& left, std::string_view& right) {
  std::string_view text;
  if (item.get(text) == simdjson::SUCCESS) {
    if (text.starts_with("#version")) return false;
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
      merges.fail(str("merge ", line, " '", text, "' is not two tokens with a space between"));
    }
    left = text.substr(0, space);
    right = text.substr(space + 1);
    return true;
  }
  simdjson::dom::array pair;
  if (item.get(pair) != simdjson::SUCCESS || pair.size() != 2 ||
      pair.at(0).get(left) != simdjson::SUCCESS || pair.at(1).get(right) != simdjson::SUCCESS) {
    merges.fail(str("merge ", line, " is neither \"a b\" nor [\"a\", \"b\"]"));
  }
  return true;
}

void Bpe::load_merges(const Node& merges) {
  const simdjson::dom::array list = merges.array();
  std::size_t count = 0;  // size() saturates at 2^24 - 1
  for ([[maybe_unused]] const auto item : list) ++count;
  if (count >= UINT32_MAX) merges.fail("too many merges");
  merges_ = MergeTable(count);
  bool marks_inside = false;
  std::uint32_t rank = 0;

  // Three look-ups a merge, each a cache miss: a batch's misses are made to overlap.
  struct Pending {
    std::string_view token[2];
    std::string joined;
    std::uint64_t hash[3];
    std::int32_t id[3];
  };
  std::array<Pending, 32> batch;
  std::size_t pending = 0;
  const StringTable& table = vocabulary_.table();
  const auto flush = [&] {
    for (std::size_t i = 0; i < pending; ++i) {
      Pending& merge = batch[i];
      for (int k = 0; k < 3; ++k) {
        const std::string_view token = k < 2 ? merge.token[k] : std::string_view(merge.joined);
        merge.id[k] = table.find(token, merge.hash[k]);
        if (merge.id[k] < 0) {
          merges.fail(str("merge ", rank + i, " needs token '", token, "', not in the vocabulary"));
        }
      }
      merges_.prefetch(merge.id[0], merge.id[1]);
    }
    for (std::size_t i = 0; i < pending; ++i) {
      merges_.put(batch[i].id[0], batch[i].id[1], rank++, batch[i].id[2]);
    }
    pending = 0;
  };
  for (const simdjson::dom::element item : list) {
    Pending& merge = batch[pending];
    const std::size_t line = rank + pending;
    if (!parse_merge(merges, item, line, merge.token[0], merge.token[1])) continue;
    if (merge.token[1].size() < prefix_.size()) {
      merges.fail(str("merge ", line, ": '", merge.token[1], "' is shorter than the prefix"));
    }
    merge.joined.assign(merge.token[0]);
    merge.joined.append(merge.token[1].substr(prefix_.size()));
    marks_inside = marks_inside || has_inner_mark(merge.joined);
    for (int k = 0; k < 3; ++k) {
      merge.hash[k] = hash_bytes(k < 2 ? merge.token[k] : std::string_view(merge.joined));
      table.prefetch(merge.hash[k]);
    }
    if (++pending == batch.size()) flush();
  }
  flush();
  allow_cuts(marks_inside);
}

void Bpe::load_merge_ids(const Node& ids) {
  std::vector<std::int32_t> list;
  for (const simdjson::dom::element item : ids.array()) {
    std::int64_t id = 0;
    if (item.get(id) != simdjson::SUCCESS || id < 0 || id > INT32_MAX ||
        !vocabulary_.has(static_cast<std::int32_t>(id))) {
      ids.fail(str("number ", list.size(), " is no token's id"));
    }
    list.push_back(static_cast<std::int32_t>(id));
  }
  if (list.size() % 3 != 0) ids.fail(str(list.size(), " ids; wanted three a merge"));
  merges_ = MergeTable(list.size() / 3);
  for (std::size_t i = 0; i < list.size(); i += 3) {
    merges_.put(list[i], list[i + 1], static_cast<std::uint32_t>(i / 3), list[i + 2]);
  }
  bool marks_inside = false;
  for (std::int32_t id = 0; id < vocabulary_.id_end(); ++id) {
    marks_inside = marks_inside || has_inner_mark(vocabulary_.token(id));
  }
  allow_cuts(marks_inside);
}

void Bpe::allow_cuts(bool marks_inside) {
  // Cutting also needs that a mark ends a run of unknowns, and that pieces have no special ends.
  cut_at_mark_ = !marks_inside && !ignore_merges_ && prefix_.empty() && suffix_.empty() &&
                 vocabulary_.find(kSpaceMark) >= 0;
}

void Bpe::index_characters() {
  constexpr std::uint32_t kTwoByteEnd = 0x800;
  short_ids_.resize(kTwoByteEnd);
  std::string utf8;
  for (std::uint32_t code = 0; code < kTwoByteEnd; ++code) {
    utf8.clear();
    append_utf8(code, utf8);
    short_ids_[code] = vocabulary_.find(utf8);
  }
  static constexpr char kHex[] = "0123456789ABCDEF";
  const ByteAlphabet& alphabet = byte_alphabet();
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const char token[] = {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'};
    fallback_ids_[byte] = vocabulary_.find(std::string_view(token, sizeof(token)));
    byte_ids_[byte] =
        vocabulary_.find(std::string_view(alphabet.text[byte], alphabet.length[byte]));
  }
  if (!ignore_merges_) return;
  // Unmapped tokens are never longer than mapped ones.
  std::size_t bytes = 0;
  for (std::int32_t id = 0; id < vocabulary_.id_end(); ++id) bytes += vocabulary_.token(id).size();
  raw_arena_.resize(bytes + 1);
  raw_tokens_ = StringTable(vocabulary_.size());
  char* to = raw_arena_.data();
  std::string raw;
  for (std::int32_t id = 0; id < vocabulary_.id_end(); ++id) {
    raw.clear();
    const std::string_view token = vocabulary_.token(id);
    // A token that shares its id with others is found by its text, not by its id.
    if (token.empty() || !append_unmapped(token, raw)) continue;
    std::memcpy(to, raw.data(), raw.size());
    raw_tokens_.put(std::string_view(to, raw.size()), id);
    to += raw.size();
  }
}

void Bpe::split_characters(std::string_view piece, BpeWorkspace& workspace) const {
  std::vector<std::int32_t>& ids = workspace.merge.ids;
  ids.clear();
  bool unknown = false;  // an unk is due
  for (std::size_t at = 0; at < piece.size();) {
    std::size_t length = 0;
    const std::uint32_t code = decode_char(piece.data() + at, length);
    std::string_view symbol = piece.substr(at, length);
    std::int32_t id = -1;
    const bool first = at == 0;
    at += length;
    if ((!first && !prefix_.empty()) || (at == piece.size() && !suffix_.empty())) {
      workspace.symbol.clear();
      if (!first) workspace.symbol += prefix_;
      workspace.symbol += symbol;
      if (at == piece.size()) workspace.symbol += suffix_;
      symbol = workspace.symbol;
      id = vocabulary_.find(symbol);
    } else {
      id = character_id(code, symbol);
    }
    if (id >= 0) {
      if (unknown) ids.push_back(unk_id_);
      unknown = false;
      ids.push_back(id);
      continue;
    }
    if (byte_fallback_) {
      const auto missing = [this](char c) {
        return fallback_ids_[static_cast<unsigned char>(c)] < 0;
      };
      if (std::none_of(symbol.begin(), symbol.end(), missing)) {
        // An unk that is due comes after these, a quirk of the reference.
        for (const char c : symbol) ids.push_back(fallback_ids_[static_cast<unsigned char>(c)]);
        continue;
      }
    }
    if (unk_token_.empty()) continue;
    if (unk_id_ < 0) throw_data("model.unk_token: '", unk_token_, "' is not in the vocabulary");
    if (unknown && !fuse_unk_) ids.push_back(unk_id_);
    unknown = true;
  }
  if (unknown) ids.push_back(unk_id_);
}

bool Bpe::split_bytes(std::string_view piece, BpeWorkspace& workspace) const {
  if (!prefix_.empty() || !suffix_.empty()) return false;
  std::vector<std::int32_t>& ids = workspace.merge.ids;
  ids.resize(piece.size());
  for (std::size_t i = 0; i < piece.size(); ++i) {
    ids[i] = byte_ids_[static_cast<unsigned char>(piece[i])];
    if (ids[i] < 0) return false;
  }
  return true;
}

void Bpe::encode_word(std::string_view word, bool bytes, BpeWorkspace& workspace,
                      std::vector<std::int32_t>& out) const {
  if (word.empty()) return;
  WordCache::Slot* slot = nullptr;
  if (word.size() <= WordCache::kMaxBytes) {
    slot = &workspace.cache.slot(word);
    if (WordCache::holds(*slot, word)) {
      out.insert(out.end(), slot->ids, slot->ids + slot->count);
      return;
    }
  }
  std::vector<std::int32_t>& ids = workspace.merge.ids;
  const std::int32_t whole =
      !ignore_merges_ ? -1 : (bytes ? raw_tokens_.find(word) : vocabulary_.find(word));
  if (whole >= 0) {
    ids.assign(1, whole);
  } else {
    if (!bytes) {
      split_characters(word, workspace);
    } else if (!split_bytes(word, workspace)) {
      workspace.mapped.clear();
      append_mapped(word, workspace.mapped);
      split_characters(workspace.mapped, workspace);
    }
    merge_symbols(merges_, vocabulary_.ids_unique(), workspace.merge);
  }
  if (slot != nullptr) WordCache::fill(*slot, word, ids.data(), ids.size());
  out.insert(out.end(), ids.begin(), ids.end());
}

void Bpe::encode(std::string_view piece, ModelWorkspace& workspace,
                 std::vector<std::int32_t>& out) const {
  auto& own = static_cast<BpeWorkspace&>(workspace);
  if (!cut_at_mark_) {
    encode_word(piece, false, own, out);
    return;
  }
  std::size_t begin = 0;
  std::size_t from = 0;
  for (;;) {
    while (piece.substr(from, kSpaceMark.size()) == kSpaceMark) from += kSpaceMark.size();
    const std::size_t end = std::min(piece.find(kSpaceMark, from), piece.size());
    encode_word(piece.substr(begin, end - begin), false, own, out);
    if (end == piece.size()) return;
    begin = end;
    from = end;
  }
}

void Bpe::encode_bytes(std::string_view piece, ModelWorkspace& workspace,
                       std::vector<std::int32_t>& out) const {
  encode_word(piece, true, static_cast<BpeWorkspace&>(workspace), out);
}

}  // namespace

std::unique_ptr<Model> make_bpe(const Node& options, const Node& data) {
  return std::make_unique<Bpe>(options, data);
}

}  // namespace drrik::text
