#pragma once
// SentencePiece model files (`tokenizer.model`, `spiece.model`): a protocol buffer, read by a
// walker of its wire format, and written again as a model of tokenizer.json.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace drrik::text {

struct SentencePieceModel {
  enum class Type : std::uint8_t {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6
  };
  struct Piece {
    std::string text;
    float score = 0;
    Type type = Type::kNormal;
  };
  std::vector<Piece> pieces;
  bool unigram = true;  // else byte-pair encoding
  bool byte_fallback = false;
  std::int32_t unk_id = 0;
  std::int32_t bos_id = 1;  // negative: none
  std::int32_t eos_id = 2;
  std::string unk_piece = "<unk>";
  std::string bos_piece = "<s>";
  std::string eos_piece = "</s>";
  std::string charsmap;  // see precompiled.h; empty: none
};

/// Throws Error(data) for what is not such a file.
SentencePieceModel parse_sentencepiece(std::string_view bytes);

/// A JSON string, quotes included.
std::string quote_json(std::string_view text);

/// The members `"type"`, `"vocab"` and so on of a tokenizer.json model, without braces: a Unigram
/// model of the pieces and their scores, or a BPE model of their numbers, whose merges are all ways
/// to make a piece of two others, in the order of the pieces.
std::string unigram_members(const SentencePieceModel& model);
std::string bpe_members(const SentencePieceModel& model);

}  // namespace drrik::text
