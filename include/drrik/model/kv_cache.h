#pragma once
// Keys and values of the positions a sequence has had so far.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "drrik/ops/heads.h"
#include "drrik/tensor/tensor.h"

namespace drrik {

/// One sequence's cache, float32. Made by Model::make_cache(); move-only. Not to be used by two
/// threads at once.
class KvCache {
 public:
  KvCache() = default;
  /// Reserves `capacity` positions (memory is touched only as they fill). Throws Error(data) when
  /// the size overflows or memory is short.
  KvCache(std::int64_t layers, std::int64_t kv_heads, std::int64_t head_dim, std::int64_t capacity);

  /// Positions filled.
  std::int64_t length() const { return length_; }
  std::int64_t capacity() const { return capacity_; }
  std::int64_t layers() const { return static_cast<std::int64_t>(buffers_.size()); }
  std::size_t bytes() const;
  /// Forgets the positions from `length` on, so that another continuation can start there.
  /// Throws Error(usage) when there are fewer.
  void truncate(std::int64_t length);

  /// The first `positions` keys (values) of a layer, [positions, kv_heads, head_dim]. Each head's
  /// positions are contiguous, so that a decoding step streams them.
  Heads<float> keys(std::int64_t layer, std::int64_t positions) {
    return view(layer, 0, positions);
  }
  Heads<float> values(std::int64_t layer, std::int64_t positions) {
    return view(layer, 1, positions);
  }
  /// Called by the model once every layer holds the new positions.
  void set_length(std::int64_t length) { length_ = length; }

 private:
  Heads<float> view(std::int64_t layer, std::int64_t part, std::int64_t positions);
  std::int64_t kv_heads_ = 0;
  std::int64_t head_dim_ = 0;
  std::int64_t capacity_ = 0;
  std::int64_t length_ = 0;
  std::vector<AlignedBuffer>
      buffers_;  // a layer's keys, then its values: [2, heads, capacity, dim]
};

}  // namespace drrik
