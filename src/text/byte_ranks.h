#pragma once
// Byte-pair encodings whose files give every token as bytes with its rank: `*.tiktoken`, which
// Llama 3's `original/tokenizer.model` is too, and Mistral's `tekken.json`. Both are written again
// as a tokenizer.json.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/json_node.h"

namespace drrik::text {

struct ByteToken {
  std::string bytes;
  std::int32_t id = 0;  ///< its rank too: what has the lowest is merged first
};

/// What stands around the tokens.
struct ByteEncoding {
  std::string_view pattern;  ///< how a text is cut into words
  bool nfc = false;
  std::vector<std::pair<std::string, std::int32_t>> special;
  std::string_view bos;  ///< of `special`; put before every text; "": nothing is
};

/// Of tokens with the same bytes the first, with the id of the last, as a dictionary has them.
void keep_last(std::vector<ByteToken>& tokens);

/// A tokenizer.json; `tokens` each once. Throws Error(data).
std::string byte_ranks_json(const std::vector<ByteToken>& tokens, const ByteEncoding& encoding);

/// Whether these bytes begin as a tiktoken file does: base64, a space, a number.
bool is_tiktoken(std::string_view bytes);
/// In the file's order, each once. Throws Error(data) naming the line.
std::vector<ByteToken> parse_tiktoken(std::string_view bytes);

/// The encoding of a tiktoken file, which says nothing of its own: `QWenTokenizer` as class, or the
/// file is named after an encoding of OpenAI's; a `.model` has Llama 3's pattern, as transformers
/// has it. Throws Error(data) naming what is known.
ByteEncoding tiktoken_encoding(const std::filesystem::path& path, std::string_view class_name,
                               const std::vector<ByteToken>& tokens);

/// Whether this is a tekken.json.
bool is_tekken(const Node& root);
/// It puts `<s>` before a text, as mistral_common does. Throws Error(data).
std::string tekken_json(const Node& root);

}  // namespace drrik::text
