#pragma once
// Pre-tokenizers cut the normalized text into the pieces that the model sees one by one.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_node.h"
#include "text/regex.h"
#include "text/splitters.h"

namespace drrik::text {

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
enum class PrependScheme { kFirst, kNever, kAlways };

/// A text under way through the steps, cut into pieces.
struct PreText {
  struct Piece {
    std::size_t begin = 0;
    std::size_t end = 0;
    bool at_start = false;  // of the original text
  };
  std::string text;
  std::vector<Piece> pieces;
  // Where the next step writes.
  std::string next_text;
  std::vector<Piece> next_pieces;
};

class PreTokenizer {
 public:
  PreTokenizer() = default;
  /// Throws Error(data) for an unknown type, naming the known ones.
  explicit PreTokenizer(const Node& node);

  /// When the whole pre-tokenizer is one known pattern over bytes, that pattern: the caller can
  /// then match pieces straight from the text and give them to Model::encode_bytes.
  KnownPattern fast_pattern() const { return fast_; }
  /// The pieces are raw bytes for Model::encode_bytes (the last step would only map them).
  bool yields_bytes() const { return yields_bytes_; }
  /// True when there is nothing to do.
  bool empty() const { return steps_.empty(); }
  /// Cuts work.text, given as one piece, into pieces.
  void apply(PreText& work) const;

  struct Step {
    void (*apply)(const Step&, PreText&) = nullptr;
    SplitBehavior behavior = SplitBehavior::kIsolated;
    bool invert = false;
    std::vector<Regex> regex;  // none or one
    KnownPattern known = KnownPattern::kNone;
    // ByteLevel
    bool byte_level = false;
    bool add_prefix_space = false;
    bool use_regex = false;
    // Metaspace
    std::string mark;
    PrependScheme scheme = PrependScheme::kAlways;
    bool split = true;
    // CharDelimiterSplit and FixedLength
    std::uint32_t delimiter = 0;
    std::size_t length = 0;
  };

 private:
  void add(const Node& node, int depth);
  std::vector<Step> steps_;
  KnownPattern fast_ = KnownPattern::kNone;
  bool yields_bytes_ = false;
};

/// The prepend scheme of a Metaspace pre-tokenizer or decoder.
PrependScheme parse_prepend_scheme(const Node& node);

}  // namespace drrik::text
