#include "drrik/model/kv_cache.h"

#include "drrik/base/checked.h"
#include "drrik/base/error.h"

namespace drrik {

KvCache::KvCache(std::int64_t layers, std::int64_t kv_heads, std::int64_t head_dim,
                 std::int64_t capacity)
    : kv_heads_(kv_heads), head_dim_(head_dim), capacity_(capacity) {
  if (layers < 0 || kv_heads < 1 || head_dim < 1 || capacity < 1) {
    throw_usage("cache of ", layers, " layers, ", kv_heads, " heads of ", head_dim, " and ",
                capacity, " positions: wanted positive sizes");
  }
  const auto row = checked_mul(kv_heads * head_dim, std::int64_t{2 * sizeof(float)});
  const auto bytes = row ? checked_mul(*row, capacity) : std::nullopt;
  if (!bytes) throw_data("cache of ", capacity, " positions: its size overflows");
  buffers_.reserve(static_cast<std::size_t>(layers));
  for (std::int64_t i = 0; i < layers; ++i) {
    buffers_.emplace_back(static_cast<std::size_t>(*bytes), AlignedBuffer::Init::kNone);
  }
}

std::size_t KvCache::bytes() const {
  std::size_t total = 0;
  for (const AlignedBuffer& buffer : buffers_) total += buffer.size();
  return total;
}

void KvCache::truncate(std::int64_t length) {
  if (length < 0 || length > length_) {
    throw_usage("cache cut to ", length, " positions, but it holds ", length_);
  }
  length_ = length;
}

Heads<float> KvCache::view(std::int64_t layer, std::int64_t part, std::int64_t positions) {
  DRRIK_ASSERT(layer >= 0 && layer < layers() && positions <= capacity_);
  auto* data = reinterpret_cast<float*>(buffers_[static_cast<std::size_t>(layer)].data());
  const std::int64_t head_stride = capacity_ * head_dim_;
  return {data + part * kv_heads_ * head_stride,
          positions,
          kv_heads_,
          head_dim_,
          head_dim_,
          head_stride};
}

}  // namespace drrik
