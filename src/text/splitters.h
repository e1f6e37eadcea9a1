#pragma once
// Hand-written matchers for the split patterns that most models use. Each returns the end of the
// match of its pattern at `at`; every position matches, so the pieces cover the text.

#include <cstddef>
#include <string_view>

namespace drrik::text {

enum class KnownPattern {
  kNone,
  kGpt2,    ///< GPT-2, GPT-NeoX, OPT, RoBERTa
  kLlama3,  ///< Llama 3: digits in groups of up to three
  kQwen2,   ///< Qwen 2: the same with single digits
};

/// The pattern whose text is exactly this, or kNone.
KnownPattern recognise(std::string_view pattern);
/// The text of a known pattern.
std::string_view pattern_text(KnownPattern pattern);

/// `at` < text.size(), text valid UTF-8.
std::size_t match_gpt2(std::string_view text, std::size_t at);
std::size_t match_llama3(std::string_view text, std::size_t at, int max_digits);

}  // namespace drrik::text
