#include "text/piece_merges.h"

#include <algorithm>

#include "drrik/base/error.h"
#include "text/byte_trie.h"

namespace drrik::text {

std::string merge_ids_member(const std::vector<std::pair<std::string_view, std::int32_t>>& tokens,
                             CutOrder order) {
  std::vector<std::string> reversed;
  reversed.reserve(tokens.size());
  std::vector<std::pair<std::string_view, std::int32_t>> backward;
  for (const auto& [bytes, id] : tokens) reversed.emplace_back(bytes.rbegin(), bytes.rend());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    backward.emplace_back(reversed[i], tokens[i].second);
  }
  const ByteTrie heads(tokens);
  const ByteTrie tails(std::move(backward));
  // Both tries are walked once a token, so the time is linear however long the tokens are.
  std::string out = R"("merge_ids":[)";
  std::vector<std::int32_t> head;  // by cut: the id of what stands before it, or -1
  std::vector<std::int32_t> tail;
  std::vector<std::pair<std::int32_t, std::int32_t>> ways;
  for (const auto& [bytes, id] : tokens) {
    const std::size_t size = bytes.size();
    head.assign(size + 1, -1);
    tail.assign(size + 1, -1);
    std::uint32_t node = ByteTrie::kRoot;
    for (std::size_t i = 0; i < size && node != ByteTrie::kMiss; ++i) {
      node = heads.step(node, static_cast<unsigned char>(bytes[i]));
      if (node != ByteTrie::kMiss) head[i + 1] = heads.value(node);
    }
    if (head[size] != id) continue;
    node = ByteTrie::kRoot;
    for (std::size_t i = size; i > 0 && node != ByteTrie::kMiss; --i) {
      node = tails.step(node, static_cast<unsigned char>(bytes[i - 1]));
      if (node != ByteTrie::kMiss) tail[i - 1] = tails.value(node);
    }
    ways.clear();
    for (std::size_t cut = 1; cut < size; ++cut) {
      if (head[cut] >= 0 && tail[cut] >= 0) ways.emplace_back(head[cut], tail[cut]);
    }
    if (order == CutOrder::kByIds) std::sort(ways.begin(), ways.end());
    for (const auto& [left, right] : ways) {
      out += str(out.back() == '[' ? "" : ",", left, ",", right, ",", id);
    }
  }
  return out += ']';
}

}  // namespace drrik::text
