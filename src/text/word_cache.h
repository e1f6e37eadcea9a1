#pragma once
// Ids of words met before.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "text/model.h"
#include "text/vocabulary.h"

namespace drrik::text {

/// Direct-mapped: a word takes the place of the one it collides with, so the size is bounded and
/// nothing is ever allocated after the start. One per thread at work.
class WordCache {
 public:
  static constexpr std::size_t kMaxBytes = 24;
  static constexpr std::size_t kMaxIds = 9;

  struct Slot {
    std::uint8_t bytes = 0;  // 0: free
    std::uint8_t count = 0;
    char word[kMaxBytes + 2] = {};
    std::int32_t ids[kMaxIds] = {};
  };
  static_assert(sizeof(Slot) == 64);

  WordCache() : slots_(kSlots) {}
  Slot& slot(std::string_view word) {
    return slots_[static_cast<std::size_t>(hash_bytes(word)) & (kSlots - 1)];
  }
  static bool holds(const Slot& slot, std::string_view word) {
    return slot.bytes == word.size() && std::memcmp(slot.word, word.data(), word.size()) == 0;
  }
  /// Words and ids beyond the slot's room are not kept. The word is not empty.
  static void fill(Slot& slot, std::string_view word, const std::int32_t* ids, std::size_t count) {
    if (count > kMaxIds || word.size() > kMaxBytes) return;
    slot.bytes = static_cast<std::uint8_t>(word.size());
    slot.count = static_cast<std::uint8_t>(count);
    std::memcpy(slot.word, word.data(), word.size());
    std::copy(ids, ids + count, slot.ids);
  }

  /// Appends the ids of `word`: those kept, or those that `work_out(word)` appends to `out`.
  template <typename WorkOut>
  void through(std::string_view word, std::vector<std::int32_t>& out, WorkOut work_out) {
    if (word.empty() || word.size() > kMaxBytes) {
      work_out(word);
      return;
    }
    Slot& place = slot(word);
    if (holds(place, word)) {
      out.insert(out.end(), place.ids, place.ids + place.count);
      return;
    }
    const std::size_t before = out.size();
    work_out(word);
    fill(place, word, out.data() + before, out.size() - before);
  }

 private:
  static constexpr std::size_t kSlots = std::size_t{1} << 15;
  std::vector<Slot> slots_;
};

struct CachedWorkspace : ModelWorkspace {
  WordCache cache;
};

}  // namespace drrik::text
