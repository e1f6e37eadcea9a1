#pragma once
// The merges of a byte-pair encoding whose file names only tokens, in the order of their making.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace drrik::text {

/// In which order the ways to make one token are tried.
enum class CutOrder {
  kByPlace,  ///< shortest left part first
  kByIds,    ///< lowest left id, then lowest right id first
};

/// Every way to make a token of two others, as the member `"merge_ids"` that Bpe reads: a flat list
/// of left, right and made id. `tokens` (bytes and id) are in the order in which they are made; of
/// two with the same bytes the later one counts, an empty one makes nothing. Linear in the bytes of
/// the tokens, which merges spelled out would not be.
std::string merge_ids_member(const std::vector<std::pair<std::string_view, std::int32_t>>& tokens,
                             CutOrder order);

}  // namespace drrik::text
