#pragma once
// The merge loop of byte-pair encoding: repeatedly the adjacent pair of lowest rank, leftmost
// first.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace drrik::text {

/// Merges by pair of ids.
class MergeTable {
 public:
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};

  explicit MergeTable(std::size_t expected = 0);
  /// The last put() of a pair holds.
  void put(std::int32_t left, std::int32_t right, std::uint32_t rank, std::int32_t merged);
  /// Hides the latency of a put() or find() of this pair some pairs later.
  void prefetch(std::int32_t left, std::int32_t right) const {
    __builtin_prefetch(slots_.data() + slot_of(key_of(left, right)));
  }
  /// rank << 32 | merged id, or kNone.
  std::uint64_t find(std::int32_t left, std::int32_t right) const {
    const std::uint64_t key = key_of(left, right);
    for (std::size_t at = slot_of(key);; at = (at + 1) & mask_) {
      if (slots_[at].key == key) return slots_[at].value;
      if (slots_[at].value == kNone) return kNone;
    }
  }

 private:
  struct Slot {
    std::uint64_t key = kNone;
    std::uint64_t value = kNone;
  };
  static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
  }
  std::size_t slot_of(std::uint64_t key) const {
    return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15u) >> shift_);
  }
  std::vector<Slot> slots_;
  std::size_t mask_ = 0;
  int shift_ = 0;
};

/// Buffers of the merge loop.
struct MergeBuffers {
  struct Symbol {
    std::int32_t id;
    std::int32_t previous;
    std::int32_t next;  // -1: none
  };
  struct Candidate {
    std::uint32_t rank;
    std::int32_t at;
    std::int32_t merged;
  };
  std::vector<std::int32_t> ids;
  std::vector<std::uint64_t> pairs;
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

/// Merges `buffers.ids` in place. `ids_unique`: no two tokens share an id, which lets short pieces
/// take a faster way with the same result.
void merge_symbols(const MergeTable& merges, bool ids_unique, MergeBuffers& buffers);

}  // namespace drrik::text
