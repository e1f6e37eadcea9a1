#include "activations/shuffle_buffer.h"

#include <cstring>

#include "drrik/base/checked.h"
#include "drrik/base/error.h"
#include "drrik/base/threads.h"

namespace drrik::detail {
namespace {

// Rows are some KB: a few hundred of them are worth a thread.
constexpr std::int64_t kGrain = 256;

std::size_t buffer_size(std::int64_t capacity, std::int64_t row_bytes) {
  const auto bytes = checked_mul(capacity, row_bytes);
  if (!bytes) throw_data("shuffle buffer of ", capacity, " rows of ", row_bytes, " bytes");
  return static_cast<std::size_t>(*bytes);
}

}  // namespace

ShuffleBuffer::ShuffleBuffer(std::int64_t capacity, std::int64_t row_bytes)
    : capacity_(capacity),
      row_bytes_(row_bytes),
      rows_(buffer_size(capacity, row_bytes), AlignedBuffer::Init::kNone),
      moved_(static_cast<std::size_t>(capacity), nullptr) {}

std::byte* ShuffleBuffer::place(std::int64_t row) { return rows_.data() + row * row_bytes_; }

RowBytes ShuffleBuffer::content(std::int64_t row) {
  const RowBytes moved = moved_[static_cast<std::size_t>(row)];
  return moved != nullptr ? moved : place(row);
}

void ShuffleBuffer::fill(std::span<const RowBytes> rows) {
  const auto count = static_cast<std::int64_t>(rows.size());
  DRRIK_ASSERT(size_ + count <= capacity_ && touched_.empty());
  parallel_for(count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      std::memcpy(place(size_ + i), rows[static_cast<std::size_t>(i)],
                  static_cast<std::size_t>(row_bytes_));
    }
  });
  size_ += count;
}

std::int64_t ShuffleBuffer::draw(Rng& rng, std::span<const RowBytes> incoming,
                                 std::span<RowBytes> drawn) {
  std::size_t used = 0;
  for (RowBytes& row : drawn) {
    const auto at = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(size_)));
    row = content(at);
    RowBytes& moved = moved_[static_cast<std::size_t>(at)];
    if (moved == nullptr) touched_.push_back(at);
    if (used < incoming.size()) {
      moved = incoming[used++];
      continue;
    }
    --size_;
    RowBytes& last = moved_[static_cast<std::size_t>(size_)];
    if (at != size_) moved = content(size_);
    last = nullptr;  // no longer a place
  }
  return static_cast<std::int64_t>(used);
}

void ShuffleBuffer::settle() {
  // A row goes to a place below size(); it comes from outside or from a place beyond: no place is
  // read after it was written.
  const auto count = static_cast<std::int64_t>(touched_.size());
  parallel_for(count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t at = touched_[static_cast<std::size_t>(i)];
      RowBytes& moved = moved_[static_cast<std::size_t>(at)];
      if (moved != nullptr) {
        std::memcpy(place(at), moved, static_cast<std::size_t>(row_bytes_));
      }
      moved = nullptr;
    }
  });
  touched_.clear();
}

}  // namespace drrik::detail
