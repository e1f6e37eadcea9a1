#pragma once
// Which rows of an activation store belong to special tokens (BOS, EOS and the like), and whether
// they count.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "drrik/text/tokenizer.h"

namespace drrik {

enum class SpecialTokens : bool { kCount, kLeaveOut };

struct TokenPolicy {
  std::vector<std::uint8_t> keep;            ///< For EvalOptions; empty: every row counts.
  std::vector<std::int64_t> cluster_starts;  ///< First row of each text; empty: not recorded.
  std::int64_t special_rows = -1;            ///< Rows of special tokens; -1: unknown.
  std::string statement;                     ///< What was done, for people.
};

/// `path`: a store, or a single .npy file, of which nothing is known. `tokenizer` may be null: then
/// special tokens cannot be told. Throws Error(usage) when they are to be left out and cannot be
/// told (no store, no tokenizer, rows that are means over tokens), Error(data) when every row is
/// one, and what reading the store throws. Memory: a byte a row, 8 a text.
TokenPolicy token_policy(const std::filesystem::path& path, const Tokenizer* tokenizer,
                         SpecialTokens special);

}  // namespace drrik
