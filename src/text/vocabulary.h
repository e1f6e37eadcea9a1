#pragma once
// Tokens by id and ids by token.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_node.h"

namespace drrik::text {

/// 64 bits of a string, fast for the few bytes that tokens have.
std::uint64_t hash_bytes(std::string_view bytes);

/// Maps strings to non-negative ints. The strings' bytes must outlive it.
class StringTable {
 public:
  explicit StringTable(std::size_t expected = 0);
  /// Returns the value before, or -1.
  std::int32_t put(std::string_view key, std::int32_t value);
  /// -1 when absent.
  std::int32_t find(std::string_view key) const { return find(key, hash_bytes(key)); }
  /// With the key's hash_bytes(); prefetch() some keys earlier hides the memory's latency.
  std::int32_t find(std::string_view key, std::uint64_t hash) const;
  void prefetch(std::uint64_t hash) const {
    __builtin_prefetch(slots_.data() + (static_cast<std::size_t>(hash) & (slots_.size() - 1)));
  }
  std::size_t size() const { return size_; }
  /// Calls f(key, value) for every key, in no particular order.
  template <typename F>
  void for_each(F f) const {
    for (const Slot& slot : slots_) {
      if (slot.value >= 0) f(std::string_view(slot.data, slot.length), slot.value);
    }
  }

 private:
  struct Slot {
    const char* data = nullptr;
    std::uint32_t length = 0;
    std::int32_t value = -1;  // -1: free
    std::uint32_t tag = 0;
  };
  std::size_t locate(std::string_view key, std::uint64_t hash) const;
  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

/// A model's vocabulary.
class Vocabulary {
 public:
  Vocabulary() = default;
  /// From {"token": id}. Throws Error(data) for ids that are negative, huge or far beyond the
  /// number of entries (a table by id is kept).
  explicit Vocabulary(const Node& object);
  /// Ids are positions; of a token that stands twice the last one is found.
  explicit Vocabulary(const std::vector<std::string_view>& tokens);
  Vocabulary(Vocabulary&&) noexcept = default;
  Vocabulary& operator=(Vocabulary&&) noexcept = default;
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

  std::int32_t find(std::string_view token) const { return table_.find(token); }
  const StringTable& table() const { return table_; }
  /// "" when the id is free; has() tells that from an empty token.
  std::string_view token(std::int32_t id) const;
  bool has(std::int32_t id) const;
  /// Number of entries, from which the ids of added tokens go on: different tokens of an object,
  /// all of a list.
  std::size_t size() const { return size_; }
  /// Calls f(token, id) for every token, in no particular order.
  template <typename F>
  void for_each(F f) const {
    table_.for_each(f);
  }
  /// Largest id + 1.
  std::int32_t id_end() const { return static_cast<std::int32_t>(tokens_.size()); }
  /// No two tokens share an id.
  bool ids_unique() const { return unique_; }

 private:
  std::vector<char> arena_;
  std::vector<std::string_view> tokens_;  // into arena_; data() == nullptr: free
  StringTable table_;
  std::size_t size_ = 0;
  bool unique_ = true;
};

}  // namespace drrik::text
