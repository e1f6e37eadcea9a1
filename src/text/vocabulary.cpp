#include "text/vocabulary.h"

#include <algorithm>
#include <cstring>

#include "drrik/base/error.h"

namespace drrik::text {
namespace {

constexpr std::uint64_t kMixA = 0x9E3779B97F4A7C15u;
constexpr std::uint64_t kMixB = 0xD6E8FEB86659FD93u;

std::uint64_t load(const char* p, std::size_t n) {
  std::uint64_t out = 0;
  std::memcpy(&out, p, n);
  return out;
}

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  a = (a ^ b) * kMixB;
  return a ^ a >> 32;
}

std::size_t table_size(std::size_t entries) {
  std::size_t size = 16;
  while (size < entries * 2) size *= 2;
  return size;
}

}  // namespace

std::uint64_t hash_bytes(std::string_view bytes) {
  const char* p = bytes.data();
  std::size_t n = bytes.size();
  std::uint64_t hash = n * kMixA;
  for (; n > 8; n -= 8, p += 8) hash = mix(hash, load(p, 8)) * kMixA;
  if (n != 0) hash = mix(hash, load(p, n));
  hash *= kMixA;
  return hash ^ hash >> 29;
}

StringTable::StringTable(std::size_t expected) : slots_(table_size(expected)) {}

std::size_t StringTable::locate(std::string_view key, std::uint64_t hash) const {
  const std::size_t mask = slots_.size() - 1;
  const auto tag = static_cast<std::uint32_t>(hash >> 32);
  std::size_t at = static_cast<std::size_t>(hash) & mask;
  for (;; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.value < 0) return at;
    if (slot.tag == tag && slot.length == key.size() &&
        std::memcmp(slot.data, key.data(), key.size()) == 0) {
      return at;
    }
  }
}

std::int32_t StringTable::put(std::string_view key, std::int32_t value) {
  if ((size_ + 1) * 2 > slots_.size()) {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.value < 0) continue;
      const std::string_view text(slot.data, slot.length);
      slots_[locate(text, hash_bytes(text))] = slot;
    }
  }
  const std::uint64_t hash = hash_bytes(key);
  Slot& slot = slots_[locate(key, hash)];
  const std::int32_t before = slot.value;
  if (before < 0) ++size_;
  slot.data = key.data();
  slot.length = static_cast<std::uint32_t>(key.size());
  slot.value = value;
  slot.tag = static_cast<std::uint32_t>(hash >> 32);
  return before;
}

std::int32_t StringTable::find(std::string_view key, std::uint64_t hash) const {
  return slots_[locate(key, hash)].value;
}

Vocabulary::Vocabulary(const Node& object) {
  std::size_t bytes = 0;
  std::size_t count = 0;
  std::int64_t last = -1;
  for (const auto field : object.object()) {
    std::int64_t id = 0;
    if (field.value.get(id) != simdjson::SUCCESS || id < 0 || id > INT32_MAX) {
      object.fail(str("token '", field.key, "' has an id that is not an integer in [0, 2^31)"));
    }
    bytes += field.key.size();
    ++count;
    last = std::max(last, id);
  }
  // Ids may have holes, but a table by id must stay in proportion to the file.
  const std::int64_t limit = static_cast<std::int64_t>(count) * 16 + (1 << 20);
  if (last >= limit) object.fail(str("id ", last, " is out of proportion to ", count, " tokens"));
  arena_.resize(bytes);
  tokens_.resize(static_cast<std::size_t>(last + 1));
  table_ = StringTable(count);
  char* to = arena_.data();
  for (const auto field : object.object()) {
    const std::string_view key = field.key;
    std::int64_t id = 0;
    if (field.value.get(id) != simdjson::SUCCESS) continue;
    // An empty token still needs a non-null address.
    if (!key.empty()) std::memcpy(to, key.data(), key.size());
    const std::string_view token(to == nullptr ? "" : to, key.size());
    to += key.size();
    auto& entry = tokens_[static_cast<std::size_t>(id)];
    if (entry.data() != nullptr && entry != token) unique_ = false;
    const std::int32_t before = table_.put(token, static_cast<std::int32_t>(id));
    if (before >= 0 && before != id) {
      // The key stands twice: the last one holds, as in the reference.
      auto& stale = tokens_[static_cast<std::size_t>(before)];
      if (stale == token) stale = std::string_view();
    }
    entry = token;
  }
  size_ = table_.size();
}

Vocabulary::Vocabulary(const std::vector<std::string_view>& tokens) : size_(tokens.size()) {
  std::size_t bytes = 1;  // so that an empty token has an address too
  for (const std::string_view token : tokens) bytes += token.size();
  arena_.resize(bytes);
  tokens_.reserve(tokens.size());
  table_ = StringTable(tokens.size());
  char* to = arena_.data();
  for (const std::string_view token : tokens) {
    if (!token.empty()) std::memcpy(to, token.data(), token.size());
    tokens_.emplace_back(to, token.size());
    table_.put(tokens_.back(), static_cast<std::int32_t>(tokens_.size() - 1));
    to += token.size();
  }
}

std::string_view Vocabulary::token(std::int32_t id) const {
  if (id < 0 || id >= id_end()) return {};
  return tokens_[static_cast<std::size_t>(id)];
}

bool Vocabulary::has(std::int32_t id) const {
  return id >= 0 && id < id_end() && tokens_[static_cast<std::size_t>(id)].data() != nullptr;
}

}  // namespace drrik::text
