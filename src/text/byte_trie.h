#pragma once
// Strings by their prefixes, for the look-ups that a whole text makes at every character.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace drrik::text {

/// A double-array trie: one cache line a byte. Immutable after construction.
class ByteTrie {
 public:
  ByteTrie() = default;
  /// Of two equal keys the later one holds; empty keys are left out. Values are not negative. Time
  /// and memory are linear in the bytes of the keys.
  explicit ByteTrie(std::vector<std::pair<std::string_view, std::int32_t>> entries);

  static constexpr std::uint32_t kRoot = 0;
  static constexpr std::uint32_t kMiss = 0xFFFFFFFFu;

  /// The node below `node` along `byte`, or kMiss. `node` is one that step() gave, or kRoot.
  std::uint32_t step(std::uint32_t node, unsigned char byte) const {
    // Every base leaves room for 256 children, so the index is inside the array.
    const std::uint32_t next = units_[node].base ^ byte;
    return units_[next].parent == node ? next : kMiss;
  }
  /// The value of the key that ends here, or -1.
  std::int32_t value(std::uint32_t node) const { return units_[node].value; }
  bool empty() const { return units_.size() <= 256; }

 private:
  struct Unit {
    std::uint32_t base = 0;
    std::uint32_t parent = kMiss;
    std::int32_t value = -1;
  };
  class Builder;
  std::vector<Unit> units_ = std::vector<Unit>(256);
};

}  // namespace drrik::text
