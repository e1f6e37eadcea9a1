#include "drrik/data/packing.h"

#include <algorithm>

#include "drrik/base/error.h"

namespace drrik {

Packer::Packer(PackingOptions options) : options_(options) {
  if (options_.context_size <= 0) {
    throw_usage("packing: contexts of ", options_.context_size, " tokens, wanted > 0");
  }
}

void Packer::add(std::span<const std::int32_t> ids, std::int64_t document) {
  DRRIK_ASSERT(!finished_);
  if (ids.empty()) return;
  Document added;
  added.index = document;
  added.ids.reserve(ids.size() + 2);
  if (options_.prefix) added.ids.push_back(*options_.prefix);
  added.ids.insert(added.ids.end(), ids.begin(), ids.end());
  if (options_.separator) added.ids.push_back(*options_.separator);
  available_ += static_cast<std::int64_t>(added.ids.size());
  pending_.push_back(std::move(added));
}

void Packer::finish() {
  finished_ = true;
  if (options_.tail == PackingOptions::Tail::kDrop) dropped_ = available_ % options_.context_size;
}

std::optional<PackedContext> Packer::next() {
  std::int64_t wanted = options_.context_size;
  if (available_ < wanted) {
    const bool tail = finished_ && options_.tail == PackingOptions::Tail::kKeep && available_ > 0;
    if (!tail) return std::nullopt;
    wanted = available_;
  }
  PackedContext out;
  out.ids.reserve(static_cast<std::size_t>(wanted));
  available_ -= wanted;
  while (wanted > 0) {
    Document& document = pending_[first_];
    const std::int64_t left = static_cast<std::int64_t>(document.ids.size()) - document.used;
    const std::int64_t count = std::min(left, wanted);
    PackedSegment segment;
    segment.begin = static_cast<std::int64_t>(out.ids.size());
    segment.length = count;
    segment.document = document.index;
    segment.document_begin = document.used;
    out.segments.push_back(segment);
    const auto from = document.ids.begin() + static_cast<std::ptrdiff_t>(document.used);
    out.ids.insert(out.ids.end(), from, from + static_cast<std::ptrdiff_t>(count));
    document.used += count;
    wanted -= count;
    if (count == left) {
      document.ids = {};
      ++first_;
    }
  }
  // Forget used documents now and then, so that each costs constant time.
  if (first_ > 64 && 2 * first_ > pending_.size()) {
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(first_));
    first_ = 0;
  }
  return out;
}

}  // namespace drrik
