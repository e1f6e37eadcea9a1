#pragma once
// ShuffleBuffer: rows to draw at random from, whose places are taken by new ones.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "drrik/base/rng.h"
#include "drrik/tensor/tensor.h"

namespace drrik::detail {

using RowBytes = const std::byte*;

/// Rows of `row_bytes` bytes each, moved only to leave: what is drawn is copied out by the caller,
/// and the new row written over it. Not thread-safe.
class ShuffleBuffer {
 public:
  /// Throws Error(data) when there is no memory for `capacity` rows; pages are taken as they fill.
  ShuffleBuffer(std::int64_t capacity, std::int64_t row_bytes);

  std::int64_t capacity() const { return capacity_; }
  std::int64_t size() const { return size_; }
  bool full() const { return size_ == capacity_; }
  /// Of memory when it is full: the rows and what it notes of each.
  std::int64_t bytes() const {
    return capacity_ * (row_bytes_ + static_cast<std::int64_t>(sizeof(RowBytes)));
  }
  const std::byte* data() const { return rows_.data(); }  ///< size() rows, one after the other

  /// Appends rows; at most capacity() - size().
  void fill(std::span<const RowBytes> rows);
  /// Forgets all rows.
  void clear() { size_ = 0; }

  /// Draws drawn.size() rows (at most size() + incoming.size()), one after the other: each
  /// uniformly of those that are there, and the next of `incoming` takes its place or, when none is
  /// left, the last row of the buffer does. The rows drawn, as well as those of `incoming`, must
  /// stay where they are until settle(). Answers how many of the latter went in.
  std::int64_t draw(Rng& rng, std::span<const RowBytes> incoming, std::span<RowBytes> drawn);
  /// Writes what came in over what was drawn.
  void settle();

 private:
  std::byte* place(std::int64_t row);
  RowBytes content(std::int64_t row);

  std::int64_t capacity_;
  std::int64_t row_bytes_;
  std::int64_t size_ = 0;
  AlignedBuffer rows_;
  std::vector<RowBytes> moved_;        // [capacity] what a place is to hold; null: what is there
  std::vector<std::int64_t> touched_;  // places with one
};

}  // namespace drrik::detail
