#pragma once
// Vocabulary files of their own kinds, written again as (parts of) a tokenizer.json.

#include <array>
#include <filesystem>
#include <string>
#include <string_view>

#include "text/sentencepiece.h"

namespace drrik::text {

/// Files that make a tokenizer, some together with others, the first there is first.
inline constexpr std::array kTokenizerFiles = {
    "tokenizer.json", "tekken.json", "tokenizer.model",         "tiktoken.model",
    "spiece.model",   "vocab.txt",   "sentencepiece.bpe.model", "vocab.json"};

/// The first of them in the folder, else its first `*.tiktoken` by name; "" for none.
std::filesystem::path find_tokenizer_file(const std::filesystem::path& folder);

/// vocab.txt, valid UTF-8, a token a line and its number the id: a tokenizer.json of a WordPiece
/// model and nothing else.
std::string word_piece_json(std::string_view text);

/// merges.txt, valid UTF-8: its lines as a JSON array.
std::string merges_json(std::string_view text);

/// What TokenizersBackend of transformers makes of a SentencePiece model: spaces become marks,
/// nothing is put before the text.
std::string sentencepiece_json(const SentencePieceModel& model);

}  // namespace drrik::text
