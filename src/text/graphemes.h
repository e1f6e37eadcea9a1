#pragma once
// Extended grapheme clusters (Unicode annex 29), with the character classes of the `tokenizers`
// package.

#include <cstddef>
#include <string_view>

namespace drrik::text {

/// End of the cluster that begins at `at`, which must be the beginning of one; `at` < text.size().
/// The text is valid UTF-8.
std::size_t grapheme_end(std::string_view text, std::size_t at);

}  // namespace drrik::text
