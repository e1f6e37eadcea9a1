#pragma once
// Decoders turn tokens back into text.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_node.h"
#include "text/regex.h"

namespace drrik::text {

/// Takes back the spaces that tokens of words leave before punctuation and contractions;
/// `word_piece`: in the words of that decoder, which also makes "do not" one.
std::string clean_up_spaces(std::string text, bool word_piece);

class Decoder {
 public:
  /// Without steps: tokens joined by spaces, as the reference does when the file has no decoder.
  Decoder() = default;
  /// Throws Error(data) for an unknown type, naming the known ones.
  explicit Decoder(const Node& node);

  std::string decode(const std::vector<std::string_view>& tokens) const;
  /// The bytes one token stands for wherever it stands, a leading space kept.
  std::string piece(std::string_view token) const;

  struct Step {
    void (*apply)(const Step&, std::vector<std::string>&) = nullptr;
    std::string (*piece)(const Step&, std::string) = nullptr;
    std::string text;     // Replace: literal pattern; Metaspace: mark; prefix; suffix; pad token
    std::string content;  // Replace: what is put; Strip: character; CTC: word delimiter
    std::vector<Regex> regex;  // none or one
    bool flag = false;         // WordPiece and CTC: cleanup; Metaspace: drop the first mark
    std::size_t start = 0;
    std::size_t stop = 0;
  };

 private:
  void add(const Node& node, int depth);
  std::vector<Step> steps_;
  bool byte_level_only_ = false;
  bool present_ = false;
};

}  // namespace drrik::text
