#pragma once
// The character map of SentencePiece models: replacements of short strings in a trie.
//
// Blob: bytes of the trie (32-bit little-endian), the trie (a double array of 32-bit units), then
// the replacements, each ended by a zero byte. docs/tokenizers.md says how it is applied.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "text/normalizer.h"

namespace drrik::text {

/// The bytes that base64 `text` writes (padding optional). Throws Error(data).
std::string decode_base64(std::string_view text);
std::string encode_base64(std::string_view bytes);

/// A normalizer from the blob. Throws Error(data) when its parts do not fit together.
std::unique_ptr<Normalizer> make_precompiled(std::string_view blob);

}  // namespace drrik::text
