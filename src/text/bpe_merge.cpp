#include "text/bpe_merge.h"

#include <algorithm>

namespace drrik::text {
namespace {

// Up to here scanning all pairs for the lowest rank beats a heap.
constexpr std::size_t kScanMax = 48;

bool later(const MergeBuffers::Candidate& a, const MergeBuffers::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
}

void merge_by_scan(const MergeTable& merges, MergeBuffers& buffers) {
  std::vector<std::int32_t>& ids = buffers.ids;
  std::vector<std::uint64_t>& pairs = buffers.pairs;
  std::size_t n = ids.size();
  pairs.resize(n - 1);
  for (std::size_t i = 0; i + 1 < n; ++i) pairs[i] = merges.find(ids[i], ids[i + 1]);
  while (n > 1) {
    // The rank is in the high half; equal ranks are the same pair, of which the first wins.
    std::size_t best = 0;
    std::uint64_t lowest = pairs[0];
    for (std::size_t i = 1; i + 1 < n; ++i) {
      if (pairs[i] < lowest) {
        lowest = pairs[i];
        best = i;
      }
    }
    if (lowest == MergeTable::kNone) break;
    ids[best] = static_cast<std::int32_t>(lowest & 0xFFFFFFFFu);
    std::copy(ids.begin() + static_cast<std::ptrdiff_t>(best + 2),
              ids.begin() + static_cast<std::ptrdiff_t>(n),
              ids.begin() + static_cast<std::ptrdiff_t>(best + 1));
    std::copy(pairs.begin() + static_cast<std::ptrdiff_t>(best + 1),
              pairs.begin() + static_cast<std::ptrdiff_t>(n - 1),
              pairs.begin() + static_cast<std::ptrdiff_t>(best));
    --n;
    if (best > 0) pairs[best - 1] = merges.find(ids[best - 1], ids[best]);
    if (best + 1 < n) pairs[best] = merges.find(ids[best], ids[best + 1]);
  }
  ids.resize(n);
}

void merge_by_heap(const MergeTable& merges, MergeBuffers& buffers) {
  auto& symbols = buffers.symbols;
  auto& heap = buffers.heap;
  const std::size_t n = buffers.ids.size();
  symbols.resize(n);
  heap.clear();
  for (std::size_t i = 0; i < n; ++i) {
    const auto at = static_cast<std::int32_t>(i);
    symbols[i] = {buffers.ids[i], at - 1, i + 1 < n ? at + 1 : -1};
  }
  const auto candidate = [&](std::int32_t left, std::int32_t right, bool push) {
    const std::uint64_t found = merges.find(symbols[static_cast<std::size_t>(left)].id,
                                            symbols[static_cast<std::size_t>(right)].id);
    if (found == MergeTable::kNone) return;
    heap.push_back({static_cast<std::uint32_t>(found >> 32), left,
                    static_cast<std::int32_t>(found & 0xFFFFFFFFu)});
    if (push) std::push_heap(heap.begin(), heap.end(), later);
  };
  for (std::size_t i = 0; i + 1 < n; ++i) {
    candidate(static_cast<std::int32_t>(i), static_cast<std::int32_t>(i + 1), false);
  }
  std::make_heap(heap.begin(), heap.end(), later);
  constexpr std::int32_t kRemoved = -2;  // in `previous`
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const MergeBuffers::Candidate top = heap.back();
    heap.pop_back();
    MergeBuffers::Symbol& left = symbols[static_cast<std::size_t>(top.at)];
    if (left.previous == kRemoved || left.next < 0) continue;
    MergeBuffers::Symbol& right = symbols[static_cast<std::size_t>(left.next)];
    // Stale when the pair there has changed since; the reference compares the merged id only.
    const std::uint64_t now = merges.find(left.id, right.id);
    if (now == MergeTable::kNone || static_cast<std::int32_t>(now & 0xFFFFFFFFu) != top.merged) {
      continue;
    }
    left.id = top.merged;
    left.next = right.next;
    right.previous = kRemoved;
    if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = top.at;
    if (left.previous >= 0) candidate(left.previous, top.at, true);
    if (left.next >= 0) candidate(top.at, left.next, true);
  }
  buffers.ids.clear();
  for (const MergeBuffers::Symbol& symbol : symbols) {
    if (symbol.previous != kRemoved) buffers.ids.push_back(symbol.id);
  }
}

}  // namespace

MergeTable::MergeTable(std::size_t expected) {
  int bits = 4;
  while ((std::size_t{1} << bits) < expected * 2) ++bits;
  slots_.resize(std::size_t{1} << bits);
  mask_ = slots_.size() - 1;
  shift_ = 64 - bits;
}

void MergeTable::put(std::int32_t left, std::int32_t right, std::uint32_t rank,
                     std::int32_t merged) {
  const std::uint64_t key = key_of(left, right);
  std::size_t at = slot_of(key);
  while (slots_[at].value != kNone && slots_[at].key != key) at = (at + 1) & mask_;
  slots_[at] = {key, std::uint64_t{rank} << 32 | static_cast<std::uint32_t>(merged)};
}

void merge_symbols(const MergeTable& merges, bool ids_unique, MergeBuffers& buffers) {
  if (buffers.ids.size() < 2) return;
  if (ids_unique && buffers.ids.size() <= kScanMax) {
    merge_by_scan(merges, buffers);
  } else {
    merge_by_heap(merges, buffers);
  }
}

}  // namespace drrik::text
