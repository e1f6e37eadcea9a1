// Unigram: of all ways to cut a piece into tokens the one with the highest sum of scores.
//
// Sums are in double and ties go to the way found first, starts from the left and tokens by length,
// as in the `tokenizers` package; SentencePiece itself sums in float.

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "drrik/base/error.h"
#include "text/byte_trie.h"
#include "text/model.h"
#include "text/utf8.h"
#include "text/word_cache.h"

namespace drrik::text {
namespace {

// What an unknown character costs beyond the worst token.
constexpr double kUnknownPenalty = 10.0;
// A text takes time in proportion to the longest token; SentencePiece's have 16 characters unless
// asked otherwise.
constexpr std::size_t kMaxTokenBytes = 4096;

struct UnigramWorkspace : CachedWorkspace {
  struct Node {
    double score;
    std::int32_t id;
    std::int32_t start;  // of the best token that ends here; -1: not reached
  };
  std::vector<Node> best;
  std::vector<std::pair<std::int32_t, std::int32_t>> ends;  // id, end; last token first
};

class Unigram : public Model {
 public:
  Unigram(const Node& options, const Node& data);

  std::unique_ptr<ModelWorkspace> make_workspace() const override {
    return std::make_unique<UnigramWorkspace>();
  }
  void encode(std::string_view piece, ModelWorkspace& workspace,
              std::vector<std::int32_t>& out) const override;

 private:
  void encode_word(std::string_view word, UnigramWorkspace& work,
                   std::vector<std::int32_t>& out) const;
  void put_unknown(std::string_view text, std::vector<std::int32_t>& out) const;

  std::vector<double> scores_;
  double unknown_score_ = 0;
  std::int32_t unk_id_ = -1;
  bool byte_fallback_ = false;
  ByteTrie trie_;
  std::array<std::int32_t, 256> byte_ids_{};
};

/// 10^exponent, correctly rounded.
double power_of_ten(int exponent) {
  char text[8] = {'1', 'e'};
  const auto end = std::to_chars(text + 2, text + sizeof(text), exponent).ptr;
  double out = 0;
  std::from_chars(text, end, out);
  return out;
}

/// `score` as the package's JSON reader rounds its shortest spelling: all digits as one integer,
/// then one multiplication or division, so that one in four is off by a unit in the last place.
/// (A file that spells a score with more digits than needed may be read otherwise there.)
double as_package_reads(double score) {
  char text[32];
  const auto end =
      std::to_chars(text, text + sizeof(text), std::abs(score), std::chars_format::scientific).ptr;
  std::uint64_t digits = 0;
  int exponent = 0;
  const char* p = text;
  for (; p < end && *p != 'e'; ++p) {
    if (*p == '.') continue;
    digits = digits * 10 + static_cast<std::uint64_t>(*p - '0');
    if (p > text) --exponent;
  }
  if (p == end) return score;  // not finite
  int written = 0;
  std::from_chars(p + (p[1] == '+' ? 2 : 1), end, written);
  exponent += written;
  auto out = static_cast<double>(digits);
  constexpr int kLargest = 308;
  for (; exponent < -kLargest && out != 0; exponent += kLargest) out /= power_of_ten(kLargest);
  out = exponent < 0 ? out / power_of_ten(-exponent) : out * power_of_ten(exponent);
  return score < 0 ? -out : out;
}

Unigram::Unigram(const Node& options, const Node& data) {
  const Node list = data.get("vocab");
  // Set where the scores have not come through the package's JSON reader.
  const bool exact = options.boolean_or("exact_scores", false);
  std::vector<std::string_view> tokens;
  double lowest = std::numeric_limits<double>::infinity();
  for (const simdjson::dom::element item : list.array()) {
    simdjson::dom::array pair;
    std::string_view token;
    double score = 0;
    if (item.get(pair) != simdjson::SUCCESS || pair.size() != 2 ||
        pair.at(0).get(token) != simdjson::SUCCESS || pair.at(1).get(score) != simdjson::SUCCESS) {
      list.fail(str("entry ", tokens.size(), " is not [\"token\", score]"));
    }
    if (token.size() > kMaxTokenBytes) {
      list.fail(
          str("token ", tokens.size(), " has ", token.size(), " bytes; at most ", kMaxTokenBytes));
    }
    if (!exact) score = as_package_reads(score);
    tokens.push_back(token);
    scores_.push_back(score);
    lowest = std::min(lowest, score);
  }
  vocabulary_ = Vocabulary(tokens);
  byte_fallback_ = options.boolean_or("byte_fallback", false);
  if (const auto unk = options.find("unk_id")) {
    unk_id_ = unk->id();
    if (static_cast<std::size_t>(unk_id_) >= tokens.size()) {
      unk->fail(str("id ", unk_id_, " is not one of the ", tokens.size(), " tokens"));
    }
    unk_token_ = std::string(tokens[static_cast<std::size_t>(unk_id_)]);
  }
  unknown_score_ = lowest - kUnknownPenalty;
  std::vector<std::pair<std::string_view, std::int32_t>> entries;
  vocabulary_.for_each(
      [&](std::string_view token, std::int32_t id) { entries.emplace_back(token, id); });
  trie_ = ByteTrie(std::move(entries));
  static constexpr char kHex[] = "0123456789ABCDEF";
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const char token[] = {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'};
    byte_ids_[byte] = vocabulary_.find(std::string_view(token, sizeof(token)));
  }
}

void Unigram::put_unknown(std::string_view text, std::vector<std::int32_t>& out) const {
  // The characters of a run were cheaper apart, but together they may still be a token.
  if (const std::int32_t id = vocabulary_.find(text); id >= 0) {
    out.push_back(id);
    return;
  }
  if (byte_fallback_) {
    const auto missing = [this](char c) { return byte_ids_[static_cast<unsigned char>(c)] < 0; };
    if (std::none_of(text.begin(), text.end(), missing)) {
      for (const char c : text) out.push_back(byte_ids_[static_cast<unsigned char>(c)]);
      return;
    }
  }
  out.push_back(unk_id_);
}

void Unigram::encode_word(std::string_view word, UnigramWorkspace& work,
                          std::vector<std::int32_t>& out) const {
  auto& best = work.best;
  if (best.size() < word.size() + 1) best.resize(word.size() + 1);
  for (std::size_t i = 0; i <= word.size(); ++i) best[i].start = -1;
  best[0].score = 0;
  for (std::size_t start = 0; start < word.size();) {
    const double here = best[start].score;
    const auto from = static_cast<std::int32_t>(start);
    const std::size_t length = char_length(word[start]);
    bool single = false;
    std::uint32_t node = ByteTrie::kRoot;
    for (std::size_t i = start; i < word.size();) {
      node = trie_.step(node, static_cast<unsigned char>(word[i]));
      if (node == ByteTrie::kMiss) break;
      ++i;
      const std::int32_t id = trie_.value(node);
      if (id < 0) continue;
      const double score = scores_[static_cast<std::size_t>(id)] + here;
      if (best[i].start < 0 || score > best[i].score) best[i] = {score, id, from};
      single = single || i - start == length;
    }
    start += length;
    if (!single) {
      const double score = unknown_score_ + here;
      if (best[start].start < 0 || score > best[start].score) {
        if (unk_id_ < 0) throw_data("model.unk_id: missing, and '", word, "' has unknown text");
        best[start] = {score, unk_id_, from};
      }
    }
  }
  work.ends.clear();
  for (std::size_t end = word.size(); end > 0; end = static_cast<std::size_t>(best[end].start)) {
    work.ends.emplace_back(best[end].id, static_cast<std::int32_t>(end));
  }
  std::size_t begin = 0;
  for (std::size_t i = work.ends.size(); i > 0; --i) {
    if (work.ends[i - 1].first != unk_id_) {
      out.push_back(work.ends[i - 1].first);
    } else {
      while (i > 1 && work.ends[i - 2].first == unk_id_) --i;
      put_unknown(word.substr(begin, static_cast<std::size_t>(work.ends[i - 1].second) - begin),
                  out);
    }
    begin = static_cast<std::size_t>(work.ends[i - 1].second);
  }
}

void Unigram::encode(std::string_view piece, ModelWorkspace& workspace,
                     std::vector<std::int32_t>& out) const {
  auto& work = static_cast<UnigramWorkspace&>(workspace);
  // Never cut at spaces, though that would give the same sums: they would be rounded otherwise, and
  // ties be broken otherwise.
  work.cache.through(piece, out, [&](std::string_view word) { encode_word(word, work, out); });
}

}  // namespace

std::unique_ptr<Model> make_unigram(const Node& options, const Node& data) {
  return std::make_unique<Unigram>(options, data);
}

}  // namespace drrik::text
