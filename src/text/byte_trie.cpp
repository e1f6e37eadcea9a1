#include "text/byte_trie.h"

#include <algorithm>

namespace drrik::text {

/// Places the nodes breadth first. Free units form a ring; a node's children go where the first
/// free unit lets them all in.
class ByteTrie::Builder {
 public:
  explicit Builder(std::vector<Unit>& units) : units_(units) {
    units_.clear();
    grow();
    take(kRoot);
    units_[kRoot].parent = kMiss;
  }

  /// Places the children `labels` (ascending) of `node`.
  void place(std::uint32_t node, const std::vector<unsigned char>& labels) {
    const std::uint32_t base = find_base(labels);
    units_[node].base = base;
    for (const unsigned char label : labels) {
      take(base ^ label);
      units_[base ^ label].parent = node;
    }
  }

 private:
  static constexpr std::uint32_t kBlock = 256;
  // Full blocks cost one failed try each; after so many the array grows instead. The waste is
  // bounded: a try fails only where half of a block or more is in use.
  static constexpr int kTries = 64;

  std::uint32_t find_base(const std::vector<unsigned char>& labels) {
    int tries = 0;
    for (std::uint32_t at = head_; at != kMiss && tries < kTries; at = next_[at], ++tries) {
      const std::uint32_t base = at ^ labels[0];
      const bool fits = std::all_of(labels.begin(), labels.end(),
                                    [&](unsigned char label) { return !taken_[base ^ label]; });
      if (fits) return base;
    }
    const auto block = static_cast<std::uint32_t>(units_.size());
    // What no node has fitted into lately is not tried again.
    while (head_ != kMiss && tries-- > 0) unlink(head_);
    grow();
    return block;
  }

  void grow() {
    const auto begin = static_cast<std::uint32_t>(units_.size());
    units_.resize(begin + kBlock);
    taken_.resize(units_.size(), false);
    linked_.resize(units_.size(), true);
    next_.resize(units_.size());
    previous_.resize(units_.size());
    for (std::uint32_t i = begin; i < begin + kBlock; ++i) {
      next_[i] = kMiss;
      previous_[i] = tail_;
      if (tail_ == kMiss) {
        head_ = i;
      } else {
        next_[tail_] = i;
      }
      tail_ = i;
    }
  }

  void unlink(std::uint32_t unit) {
    if (!linked_[unit]) return;
    linked_[unit] = false;
    const std::uint32_t before = previous_[unit];
    const std::uint32_t after = next_[unit];
    if (before == kMiss) {
      head_ = after;
    } else {
      next_[before] = after;
    }
    if (after == kMiss) {
      tail_ = before;
    } else {
      previous_[after] = before;
    }
  }

  void take(std::uint32_t unit) {
    taken_[unit] = true;
    unlink(unit);
  }

  std::vector<Unit>& units_;
  std::vector<bool> taken_;
  std::vector<bool> linked_;
  std::vector<std::uint32_t> next_;
  std::vector<std::uint32_t> previous_;
  std::uint32_t head_ = kMiss;
  std::uint32_t tail_ = kMiss;
};

ByteTrie::ByteTrie(std::vector<std::pair<std::string_view, std::int32_t>> entries) {
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  Builder builder(units_);
  struct Span {
    std::uint32_t node;
    std::size_t begin;
    std::size_t end;
    std::size_t depth;  // bytes that all keys of the span share
  };
  std::vector<Span> spans{{kRoot, 0, entries.size(), 0}};
  std::vector<unsigned char> labels;
  std::vector<std::size_t> starts;
  for (std::size_t at = 0; at < spans.size(); ++at) {
    const Span span = spans[at];
    std::size_t i = span.begin;
    for (; i < span.end && entries[i].first.size() == span.depth; ++i) {
      if (span.depth > 0) units_[span.node].value = entries[i].second;
    }
    labels.clear();
    starts.clear();
    for (; i < span.end; ++i) {
      const auto label = static_cast<unsigned char>(entries[i].first[span.depth]);
      if (labels.empty() || labels.back() != label) {
        labels.push_back(label);
        starts.push_back(i);
      }
    }
    if (labels.empty()) continue;
    starts.push_back(span.end);
    builder.place(span.node, labels);
    for (std::size_t k = 0; k < labels.size(); ++k) {
      spans.push_back(
          {units_[span.node].base ^ labels[k], starts[k], starts[k + 1], span.depth + 1});
    }
  }
}

}  // namespace drrik::text
